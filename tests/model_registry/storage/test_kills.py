"""SIGKILL at every call that changes the disk: nothing half-published is seen, and doctor leaves nothing behind.

All that is published and decided here is signed.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from model_registry.storage.signatures import Signatures, new_signing_key, trust_key
from model_registry.store import Registry
from tests.model_registry.bundles import all_bytes, make_bundle, make_encoder
from tests.model_registry.killing import changes, filled, killed
from tests.soak import Tally

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    """A folder in memory where there is one: what the kernel has survives a kill, so no disk need be waited for."""
    place = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=place if os.access(place, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="module", autouse=True)
def signatures(memory: Path) -> Iterator[Signatures]:
    """A key, trusted under the name `clinic`, that every registry here signs with."""
    trust_key(memory / "trusted.json", "clinic", new_signing_key(memory / "signing.pem"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODEL_TRAINER_SIGNING_KEY", str(memory / "signing.pem"))
        patch.setenv("MODEL_TRAINER_TRUSTED_KEYS", str(memory / "trusted.json"))
        yield Signatures(memory / "signing.pem", memory / "trusted.json", required=True)


@pytest.fixture(scope="module")
def prepared(memory: Path) -> Path:
    """A registry with three versions of anna and one of ben, and a bundle with an encoder that is not stored yet."""
    folder = memory / "prepared"
    store = Registry(folder / "registry")
    for run in ("r1", "r2", "r3"):
        store.publish(make_bundle(folder, user="anna", run=run))
    store.publish(make_bundle(folder, user="ben", run="r1"))
    make_bundle(folder, user="anna", run="new", encoder_refs=[make_encoder(folder)])
    make_bundle(folder, user="carla", run="first")
    return folder


@pytest.fixture
def tmp_path(memory: Path) -> Iterator[Path]:
    """A fresh folder beside what was prepared."""
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def check_whatever_happened(store: Registry) -> None:
    """Before and after doctor every visible version is whole; afterwards nothing is left to mend or remove."""
    for name, fault in store.verify_all():
        assert fault is None, (name, fault)
    assert all(finding.mended for finding in store.doctor())
    assert store.doctor() == []
    assert not store.reindex()
    for user in ("anna", "ben", "carla"):
        entries = list(store.entries(user=user))
        folder = store.root / "users" / user
        assert len(list(folder.glob("gesture/v*"))) == len(entries)
        assert sum(entry.status == "active" for entry in entries) == (1 if entries else 0)
        if entries:
            store.resolve(user, "gesture")
    left = [path for path in store.root.rglob("*") if path.name.startswith(".") or path.name == "erasure.json"]
    assert left == []
    assert all(fault is None for _, fault in store.verify_all())


def check_signed(store: Registry) -> None:
    """A reader who takes only what is signed has the active version of everybody."""
    strict = Registry(store.root, replace(store.signatures, required=True))
    strict.signatures.observed_times.unlink(missing_ok=True)  # it remembers the registry of the kill before
    for user in ("anna", "ben", "carla"):
        if (store.root / "users" / user).exists():
            assert strict.resolve(user, "gesture").version == store.resolve(user, "gesture").version


KillEverywhere = Callable[[Path, Callable[[Registry], object], Callable[[Registry], None]], int]


@pytest.fixture
def kill_everywhere(tmp_path: Path, tally: Tally) -> KillEverywhere:
    """Return what kills an act at each of its calls and in the middle of each write, each time on a fresh copy.

    It counts the kills.
    """

    def run(prepared: Path, act: Callable[[Registry], object], check: Callable[[Registry], None]) -> int:
        def fresh() -> Registry:
            shutil.rmtree(tmp_path / "registry", ignore_errors=True)
            shutil.copytree(prepared / "registry", tmp_path / "registry")
            return Registry(tmp_path / "registry")

        store = fresh()
        names = changes(lambda: act(store))
        assert names, "the operation changed nothing"
        kills = [(at, False) for at in range(len(names))]
        kills += [(at, True) for at, name in enumerate(names) if name == "write"]
        for at, half in kills:
            store = fresh()
            killed(lambda store=store: act(store), at, half)  # type: ignore[misc]
            check(store)
        tally("kills", len(kills))
        return len(kills)

    return run


def test_a_publication_killed_anywhere_is_seen_whole_or_not_at_all(
    prepared: Path, kill_everywhere: KillEverywhere
) -> None:
    def check(store: Registry) -> None:
        assert store.resolve("anna", "gesture").version in (3, 4)
        check_whatever_happened(store)
        versions = [entry.model_version for entry in store.entries(user="anna")]
        assert versions in (["v1", "v2", "v3"], ["v1", "v2", "v3", "v4"])
        done = store.publish(prepared / "gesture_anna_new")
        assert done.version == 4 and done.created == (len(versions) == 3)
        assert store.resolve("anna", "gesture").version == 4
        check_whatever_happened(store)
        check_signed(store)

    total = kill_everywhere(prepared, lambda s: s.publish(prepared / "gesture_anna_new"), check)
    assert total >= 60


def test_the_next_publication_mends_without_a_doctor(prepared: Path, kill_everywhere: KillEverywhere) -> None:
    def check(store: Registry) -> None:
        done = store.publish(prepared / "gesture_anna_new")
        assert done.version == 4 and store.resolve("anna", "gesture").version == 4
        assert [entry.model_version for entry in store.entries(user="anna")] == ["v1", "v2", "v3", "v4"]
        lines = (store.root / "model_registry.jsonl").read_text().splitlines()
        actives = [json.loads(line)["model_version"] for line in lines if '"anna"' in line and '"active"' in line]
        assert actives[:3] == ["v1", "v2", "v3"] and set(actives[3:]) == {"v4"}

    kill_everywhere(prepared, lambda s: s.publish(prepared / "gesture_anna_new"), check)


def test_the_first_publication_of_a_user_killed_anywhere(prepared: Path, kill_everywhere: KillEverywhere) -> None:
    def check(store: Registry) -> None:
        check_whatever_happened(store)
        assert store.publish(prepared / "gesture_carla_first").version == 1
        check_whatever_happened(store)

    kill_everywhere(prepared, lambda s: s.publish(prepared / "gesture_carla_first"), check)


def test_the_very_first_publication_killed_anywhere(prepared: Path, tmp_path: Path, tally: Tally) -> None:
    def act() -> object:
        return Registry(tmp_path / "new").publish(prepared / "gesture_ben_r1")

    names = changes(act)
    for at in range(len(names)):
        shutil.rmtree(tmp_path / "new", ignore_errors=True)
        killed(act, at, False)
        store = Registry(tmp_path / "new")
        assert store.publish(prepared / "gesture_ben_r1").version == 1
        check_whatever_happened(store)
    tally("kills", len(names))


@pytest.mark.parametrize("operation", ["publish", "rollback", "erase", "reindex"])
def test_a_disk_that_fills_anywhere_is_one_error_and_the_next_attempt_works(
    prepared: Path, tmp_path: Path, operation: str, tally: Tally
) -> None:
    acts: dict[str, Callable[[Registry], object]] = {
        "publish": lambda s: s.publish(prepared / "gesture_anna_new"),
        "rollback": lambda s: s.rollback("anna", "gesture", "worse"),
        "erase": lambda s: s.erase("anna", "asked for"),
        "reindex": lambda s: s.reindex(),
    }
    act = acts[operation]

    def fresh() -> Registry:
        shutil.rmtree(tmp_path / "registry", ignore_errors=True)
        shutil.copytree(prepared / "registry", tmp_path / "registry")
        if operation == "reindex":
            (tmp_path / "registry/model_registry.jsonl").unlink()
        return Registry(tmp_path / "registry")

    first = fresh()
    names = changes(lambda: act(first))
    outcomes = set()
    for at in range(len(names)):
        store = fresh()
        outcomes.add(filled(lambda store=store: act(store), at))  # type: ignore[misc]
        for user in ("anna", "ben"):
            if (store.root / "users" / user).exists():
                store.resolve(user, "gesture")
        act(store)
        check_whatever_happened(store)
    tally("full disks", len(names))
    assert outcomes <= {"StorageError", ""} and "StorageError" in outcomes


@pytest.mark.parametrize("operation", ["rollback", "archive", "withdraw", "promote", "gc"])
def test_an_operation_killed_anywhere_has_happened_or_not(
    prepared: Path, kill_everywhere: KillEverywhere, operation: str
) -> None:
    acts: dict[str, Callable[[Registry], object]] = {
        "rollback": lambda s: s.rollback("anna", "gesture", "worse"),
        "archive": lambda s: s.archive("anna", "gesture", 2, "wrong"),
        "withdraw": lambda s: s.archive("ben", "gesture", 1, "wrong", withdraw=True),
        "promote": lambda s: s.promote("anna", "gesture", 1),
        "gc": lambda s: s.gc(0),
    }

    def check(store: Registry) -> None:
        assert all(fault is None for _, fault in store.verify_all())
        assert all(finding.mended for finding in store.doctor())
        assert store.doctor() == [] and not store.reindex()
        assert all(fault is None for _, fault in store.verify_all())
        assert sum(entry.status == "active" for entry in store.entries(user="anna")) == 1
        assert not [path for path in store.root.rglob("*") if path.name.startswith(".")]

    kill_everywhere(prepared, acts[operation], check)


def test_an_erasure_killed_anywhere_leaves_the_person_whole_or_gone(
    prepared: Path, kill_everywhere: KillEverywhere
) -> None:
    def check(store: Registry) -> None:
        assert all(finding.mended for finding in store.doctor())
        left = all_bytes(store.root)
        if (store.root / "users/anna").exists():
            assert store.resolve("anna", "gesture").version == 3
            assert len(list(store.entries(user="anna"))) == 3
        else:
            assert not [path for path, data in left.items() if "anna" in path or b"anna" in data]
            assert left["tombstones.jsonl"].count(b"\n") == 1
        assert store.resolve("ben", "gesture").version == 1
        check_whatever_happened(store)

    kill_everywhere(prepared, lambda s: s.erase("anna", "asked for"), check)


def test_an_erasure_killed_anywhere_is_completed_by_the_next(
    prepared: Path, tmp_path: Path, kill_everywhere: KillEverywhere
) -> None:
    """With a pooled model of anna and ben to be removed, and an earlier one without her to return to."""
    shutil.copytree(prepared, tmp_path / "pooled")
    store = Registry(tmp_path / "pooled/registry")
    for run, users in (("p1", ["ben"]), ("p2", ["anna", "ben"])):
        store.publish(make_bundle(tmp_path / "pooled", user="_default", run=run, log={"users": users}))

    def check(store: Registry) -> None:
        assert store.resolve("carla", "gesture").fallback
        store.erase("anna", "asked for")
        left = all_bytes(store.root)
        assert not [path for path, data in left.items() if "anna" in path or b"anna" in data]
        assert left["tombstones.jsonl"].count(b"\n") == 1
        assert store.resolve("ben", "gesture").version == 1 and store.resolve("carla", "gesture").version == 1
        check_whatever_happened(store)

    kill_everywhere(tmp_path / "pooled", lambda s: s.erase("anna", "asked for"), check)
