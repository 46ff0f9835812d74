"""Speed of a registry: 100,000 versions of 25,000 users, 1,000 versions of one. `python -m benchmarks.registry_speed`.

The store is filled by writing directly what publishing would write, without fsync. The timed operations use fsync and
models of 1 MB. Appends one line to `benchmarks/results/registry_speed.jsonl`.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from model_registry.names import published_name
from model_registry.storage.entry import (
    ActivePointer,
    BundleEntry,
    BundleManifest,
    Event,
    RegistryEntry,
    StoredFile,
    VersionManifest,
)
from model_registry.store import Registry
from model_registry.timestamps import format_time, utc_now

TARGETS = {"resolve": 1.0, "publish": 20.0}  # ms, median
MANY_TARGETS = {"publish": 30.0, "promote": 30.0, "list": 20.0}  # ms, median, with 1,000 versions of one user
MANY = (10, 300, 1000)
RESULTS = Path(__file__).parent / "results" / "registry_speed.jsonl"
SMALL = {
    "model": b"small model",
    "label_map": b"{}",
    "label_encoder": b"e",
    "training_log": b"{}",
    "model_card": b"<p>",
}
ENTRY = BundleEntry(
    timestamp="2026-03-01T10:00:00.000Z",
    trainer_name="gesture_trainer",
    vector_version="hands_xy_v1",
    feature_spec_id="hands_xy_v1",
    config={"seed": 0, "preprocessing": {"points": 21, "steps": 64}, "candidates": ["lda", "ridge", "prototypes"]},
    labels=tuple(f"label {n}" for n in range(10)),
    metrics={"accuracy": 0.91, "f1_macro": 0.9, "accuracy_low": 0.85, "accuracy_high": 0.95},
    verdict="good",
    example_count=200,
    session_count=5,
    examples_hash=f"sha256:{'1' * 64}",
    data_fingerprint="d" * 64,
    job_fingerprint="j" * 64,
)


def fill(root: Path, users: int, versions: int) -> None:
    """Write `versions` small versions for each of `users` users, as publishing them one after another would."""
    clock = datetime(2026, 1, 1, tzinfo=UTC)
    with (root / "model_registry.jsonl").open("wb") as journal:
        for number in range(users):
            folder = root / "users" / f"user{number:06d}" / "gesture"
            before: RegistryEntry | None = None
            events = []
            for version in range(1, versions + 1):
                clock += timedelta(milliseconds=1)
                entry, manifest = write_version(folder, version)
                event = Event(
                    time=format_time(clock, "microseconds"),
                    event="publish",
                    version=version,
                    active=version,
                    run_id=entry.run_id,
                    manifest_sha256=hashlib.sha256(manifest).hexdigest(),
                )
                for changed, status in ((before, "archived"), (entry, "active")):
                    if changed is not None:
                        update = {"status": status, "recorded_at": event.time}
                        journal.write(changed.model_copy(update=update).to_line())
                before = entry
                events.append(event)
            (folder / "history.jsonl").write_bytes(b"".join(event.to_line() for event in events))
            last = events[-1]
            pointer = ActivePointer(version=last.version, manifest_sha256=str(last.manifest_sha256), since=last.time)
            (folder / "active.json").write_bytes(pointer.to_json())
            if sys.stderr.isatty() and number % 100 == 0:
                print(f"\rfilling: {number} of {users} users", end="", file=sys.stderr)


def write_version(folder: Path, version: int) -> tuple[RegistryEntry, bytes]:
    """Write the folder of a small version; return its registry entry and the bytes of its manifest."""
    user, place = folder.parent.name, folder / f"v{version}"
    place.mkdir(parents=True)
    files = {role: stored(place / published_name(role, user, "gesture", version), data) for role, data in SMALL.items()}
    at = {role: f"users/{user}/gesture/v{version}/{file.name}" for role, file in files.items()}
    entry = RegistryEntry(
        **ENTRY.model_dump(),
        user_id=user,
        modality="gesture",
        run_id=f"run{version}",
        model_version=f"v{version}",
        status="active",
        model_artifact_path=at["model"],
        label_map_path=at["label_map"],
        label_encoder_path=at["label_encoder"],
        artifact_hash=f"sha256:{files['model'].sha256}",
    )
    files["registry_entry"] = stored(place / "registry_entry.json", entry.to_json())
    manifest = VersionManifest(
        user_id=user,
        modality="gesture",
        version=version,
        run_id=entry.run_id,
        bundle_sha256="0" * 64,
        files=files,
    ).to_json()
    (place / "manifest.json").write_bytes(manifest)
    return entry, manifest


def stored(path: Path, data: bytes) -> StoredFile:
    """Write a file and describe it."""
    path.write_bytes(data)
    return StoredFile(name=path.name, sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def make_bundle(folder: Path, user: str, run: str) -> Path:
    """Write a bundle with a model of 1 MB."""
    folder.mkdir(parents=True)
    contents = {**SMALL, "model": os.urandom(1_000_000)}
    manifest = BundleManifest(
        format=1,
        user_id=user,
        modality="gesture",
        run_id=run,
        created="2026-03-01T10:00:00.000Z",
        files={role: stored(folder / role, data) for role, data in contents.items()},
        entry=ENTRY,
    )
    (folder / "bundle.json").write_bytes(manifest.to_json())
    return folder


def milliseconds(act: Callable[[int], Any], count: int = 100) -> float:
    """Return the median time of a call of `act`, which gets the number of the call."""
    times = []
    for number in range(count):
        start = time.perf_counter()
        act(number)
        times.append((time.perf_counter() - start) * 1000)
    return round(statistics.median(times), 3)


def measure(root: Path, out: Path, users: int) -> dict[str, float]:
    """Return the median milliseconds of each operation, on 100 users spread over the registry."""
    store = Registry(root)
    spread = [f"user{number * users // 100:06d}" for number in range(100)]
    bundles = [make_bundle(out / user, user, "new") for user in spread]
    medians = {
        "publish": milliseconds(lambda n: store.publish(bundles[n])),
        "publish_again": milliseconds(lambda n: store.publish(bundles[n])),
    }
    time.sleep(2.5)  # a file that changed within the last two seconds is hashed again at every read
    medians["resolve_first"] = milliseconds(lambda n: store.resolve(spread[n], "gesture"))
    medians["resolve"] = milliseconds(lambda n: store.resolve(spread[n], "gesture"))
    medians["list_one_user"] = milliseconds(lambda n: list(store.entries(user=spread[n])))
    command = [sys.executable, "-m", "model_registry", "resolve", spread[0], "gesture", "--registry", str(root)]
    medians["process_that_resolves"] = milliseconds(
        lambda n: subprocess.run(command, check=True, capture_output=True), 5
    )
    start = time.perf_counter()
    assert not store.reindex(), "the journal disagrees with the histories"
    medians["reindex"] = round((time.perf_counter() - start) * 1000, 1)
    return medians


def measure_versions(work: Path, versions: int) -> dict[str, float]:
    """Return the median milliseconds of what is done with one user who has many versions."""
    store, user = Registry(work / "registry"), "user000000"
    fill(store.created(), 1, versions)
    bundles = [make_bundle(work / f"bundle{number}", user, f"new{number}") for number in range(20)]
    time.sleep(2.5)
    return {
        "publish": milliseconds(lambda n: store.publish(bundles[n]), len(bundles)),
        "promote": milliseconds(lambda n: store.promote(user, "gesture", n % versions + 1), 20),
        "list": milliseconds(lambda n: list(store.entries(user=user)), 20),
    }


@click.command()
@click.option("--users", default=25_000, show_default=True)
@click.option("--versions", default=4, show_default=True, help="Versions per user.")
@click.option("--folder", type=click.Path(path_type=Path), help="Working folder, on the disk to be measured.")
def main(users: int, versions: int, folder: Path | None) -> None:
    """Measure a large registry and one of 100 users, and append the result."""
    results = {}
    with tempfile.TemporaryDirectory(prefix="registry-speed-", dir=folder) as place:
        work = Path(place)
        for name, count in (("small", 100), ("full", users)):
            start = time.perf_counter()
            fill(Registry(work / name).created(), count, versions)
            click.echo(f"{count * versions} versions written in {time.perf_counter() - start:.0f} s", err=True)
            results[name] = measure(work / name, work / f"{name}-bundles", count)
        many = {versions: measure_versions(work / f"many{versions}", versions) for versions in MANY}
    line = {
        "time": utc_now(),
        "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        "users": users,
        "versions": users * versions,
        "milliseconds": results["full"],
        "milliseconds_with_100_users": results["small"],
        "milliseconds_with_versions_of_one_user": many,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a") as file:
        file.write(json.dumps(line) + "\n")
    for name, value in results["full"].items():
        target = f"  (target {TARGETS[name]:g})" if name in TARGETS else ""
        click.echo(f"{name:22} {value:10.3f} ms   with 100 users {results['small'][name]:10.3f} ms{target}")
    for name, most in MANY_TARGETS.items():
        figures = "   ".join(f"{many[versions][name]:8.1f} ms with {versions:,}" for versions in MANY)
        click.echo(f"{name:10} versions of one user: {figures}  (target {most:g})")


if __name__ == "__main__":
    main()
