"""Our trainers and registry compared with what others would use, in one run: `make bench-peers`.

Both train on the same samples in processes of their own, in turn: ours as a user would train, the others' as
`benchmarks.peer_tasks` says. Accuracy is that on sessions which were not trained on. Processor seconds are those of the
whole process, user and system. Prints a table in Markdown and appends it to benchmarks/results/peers.jsonl.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks import speech_accuracy
from benchmarks.few_shot import load_all
from benchmarks.gesture_accuracy import CONFIG, five_sessions, motions_of
from benchmarks.real_data import ROOT, SOURCE, WORK, data_root
from benchmarks.registry_speed import make_bundle, milliseconds
from benchmarks.speed import machine
from gesture_trainer.preprocessing.sequences import landmark_sequences
from model_registry.store import Registry

RESULTS = ROOT / "benchmarks" / "results" / "peers.jsonl"
SPEAKER = "george"
VERSIONS = 40  # that are published, as in benchmarks/mlflow_registry.py


@dataclass(frozen=True)
class Task:
    """Samples that both train on, and how ours does."""

    title: str
    peer: str
    name: str  # in benchmarks/peer_tasks.py
    package: str
    user: str
    data: Callable[[], Path]
    samples: Callable[[Path], Mapping[str, NDArray[Any]]]
    settings: tuple[str, ...] = ()
    tested: Callable[[bytes], float] | None = None  # accuracy of a model on test samples, where the peer's is that


def _digits(root: Path) -> dict[str, NDArray[Any]]:
    dataset = load_all(root, SPEAKER, "sound")
    return {
        "samples": np.array([str(sample.path) for sample in dataset.samples]),
        "labels": dataset.label_index,
        "sessions": np.array(dataset.session_ids),
    }


def _signs(root: Path) -> dict[str, NDArray[Any]]:
    sequences, dataset = landmark_sequences(load_all(root, "signer", "gesture"), CONFIG.extraction)
    vectors = np.stack([frames.ravel() for frames in sequences.sequences])
    return {"samples": vectors, "labels": dataset.label_index, "sessions": np.array(dataset.session_ids)}


def _motions(root: Path) -> dict[str, NDArray[Any]]:
    """Return BasicMotions, recordings (N, 6, 100)."""
    sequences, dataset = landmark_sequences(load_all(root, "wrist", "gesture"), CONFIG.extraction)
    test, test_labels = motions_of("TEST")
    return {
        "samples": np.stack(sequences.sequences).swapaxes(1, 2),
        "labels": np.array([sample.label for sample in dataset.samples]),
        "sessions": np.array(dataset.session_ids),
        "test_samples": np.stack(test).swapaxes(1, 2),
        "test_labels": test_labels,
    }


def _motions_root() -> Path:
    """Return BasicMotions' training half as a data root: five sessions, as in `benchmarks.gesture_accuracy`."""
    files, root = WORK / "motions-files", WORK / "motions"
    if not root.is_dir():
        recordings, labels = motions_of("TRAIN")
        sessions = five_sessions(np.unique(labels, return_inverse=True)[1])
        files.mkdir(parents=True, exist_ok=True)
        for take, (frames, label, session) in enumerate(zip(recordings, labels, sessions, strict=True)):
            np.save(files / f"{label}_{session}_{take}.npy", frames)
        pattern = r"--pattern=(?P<label>[A-Za-z]+)_(?P<session>[a-z0-9]+)_(?P<take>\d+)\.npy"
        words = ["--modality=gesture", "--user=wrist", "--encoding=wrist_channels_v1", pattern]
        command = [sys.executable, "-m", "shared", "import", str(files), f"--data={root}", "--consent", *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    return root


def _contexts(root: Path) -> dict[str, NDArray[Any]]:
    dataset, test = load_all(root, "talker", "speech"), speech_accuracy.split("test")
    return {
        "samples": np.array([sample.example.transcript for sample in dataset.samples]),
        "labels": dataset.label_index,
        "sessions": np.array(dataset.session_ids),
        "test_samples": np.array(test.texts),
        "test_labels": test.contexts,
    }


def _contexts_root(k: int) -> Path:
    root = WORK / f"contexts-{k}"
    if not root.is_dir():
        speech_accuracy.write_draw(root, k, 0)
    return root


def _of_contexts(k: int) -> Task:
    return Task(
        f"ten contexts, {k} texts each, on test texts",
        "SetFit on all-MiniLM-L6-v2",
        "contexts",
        "speech_context_trainer",
        "talker",
        lambda: _contexts_root(k),
        _contexts,
        tested=speech_accuracy.accuracy_on_test,
    )


def _of_motions(peer: str) -> Task:
    title = "BasicMotions, 40 in 5 sessions"
    return Task(title, peer, peer.lower(), "gesture_trainer", "wrist", _motions_root, _motions)


TASKS = {
    "contexts-5": _of_contexts(5),
    "contexts-10": _of_contexts(10),
    "digits": Task(
        "spoken digits of one speaker, 500",
        "librosa, SVC and random forest in a grid",
        "digits",
        "sound_trainer",
        SPEAKER,
        lambda: data_root("digits"),
        _digits,
    ),
    "signs": Task(
        "4 hand signs, 4,787 in 10 blocks",
        "random forest",
        "signs",
        "gesture_trainer",
        "signer",
        lambda: data_root("signs"),
        _signs,
        ("--set=evaluation.folds=10",),
    ),
    **{f"motions-{peer.lower()}": _of_motions(peer) for peer in ("MiniRocket", "QUANT", "HYDRA")},
}


@click.command()
@click.option(
    "--python",
    type=click.Path(exists=True, path_type=Path),
    required=True,
    help="Python of the environment that has benchmarks/requirements-peers.txt.",
)
@click.option("--runs", default=3, show_default=True, help="Turns of each; medians are printed.")
@click.option("--only", multiple=True, type=click.Choice([*TASKS, "registry"]), help="Can be repeated.")
def main(python: Path, runs: int, only: tuple[str, ...]) -> None:
    """Compare with others on the same data.

    \b
    Example:
      python -m benchmarks.peers --python .cache/peers/bin/python --runs 1 --only digits
    """
    if not SOURCE.is_dir():
        raise click.ClickException(f"no real data at {SOURCE}; set MODEL_TRAINER_DATA to the folder that holds it")
    click.echo(
        "| data | peer | accuracy: ours | peer's | processor s: ours | peer's | ratio |\n|---|---|---|---|---|---|---|"
    )
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in only or (*TASKS, "registry"):
            if name == "registry":
                rows[name] = _registries(python, Path(folder))
            else:
                rows[name] = _compare(name, TASKS[name], python, Path(folder), runs)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    with RESULTS.open("a") as file:
        file.write(json.dumps({"time": time.strftime("%Y-%m-%d"), "machine": machine(), "rows": rows}) + "\n")
    click.echo(f"appended to {RESULTS.relative_to(ROOT)}", err=True)


def _compare(name: str, task: Task, python: Path, place: Path, runs: int) -> dict[str, Any]:
    root, samples = task.data(), place / f"{name}.npz"
    arrays: dict[str, Any] = dict(task.samples(root))
    np.savez(samples, **arrays)
    train = [sys.executable, "-m", f"{task.package}.train", "--user", task.user, "--data", str(root), *task.settings]
    ours, theirs = [], []
    for number in range(runs):
        entry, seconds = _run([*train, "--out", str(place / f"{name}{number}")])
        ours.append((entry["training_metrics"]["accuracy"], seconds))
        if task.tested is not None:
            ours[-1] = (task.tested(Path(entry["bundle"], "model.onnx").read_bytes()), seconds)
        result, seconds = _run([str(python), str(ROOT / "benchmarks" / "peer_tasks.py"), task.name, str(samples)])
        theirs.append((result, seconds - result["compile_seconds"]))
    row = {
        "accuracy": ours[0][0],
        "peer_accuracy": theirs[0][0]["accuracy"],
        "peer_test_accuracy": theirs[0][0].get("test_accuracy"),
        "processor_seconds": median(seconds for _, seconds in ours),
        "peer_processor_seconds": median(seconds for _, seconds in theirs),
        "ratio": median(a / b for (_, a), (_, b) in zip(ours, theirs, strict=True)),
    }
    if row["peer_test_accuracy"] is not None:
        click.echo(f"{task.peer} on the test samples: {row['peer_test_accuracy']:.3f}", err=True)
    click.echo(
        f"| {task.title} | {task.peer} | {row['accuracy']:.3f} | {row['peer_accuracy']:.3f}"
        f" | {row['processor_seconds']:.1f} | {row['peer_processor_seconds']:.1f} | {row['ratio']:.2f} |"
    )
    return row


def _run(command: list[str]) -> tuple[dict[str, Any], float]:
    """Return the JSON object that a command printed, and its processor seconds. Nothing is cached between runs."""
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"MODEL_TRAINER_CACHE": cache, "PYTHONPATH": str(ROOT)}
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, cwd=ROOT)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise click.ClickException(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _registries(python: Path, place: Path) -> dict[str, float]:
    """Publish models of 1 MB and get the active one's file, and do the same with MLflow. Prints a second table."""
    registry, user = Registry(place / "registry"), "ana"
    bundles = [make_bundle(place / f"bundle{number}", user, f"run{number}") for number in range(VERSIONS)]
    ours = {"publish": milliseconds(lambda n: registry.publish(bundles[n]), VERSIONS)}
    time.sleep(2.5)  # files that changed within the last two seconds are hashed again each time
    ours["fetch"] = milliseconds(lambda _: registry.resolve(user, "gesture").files["model"], VERSIONS)
    theirs, _ = _run([str(python), str(ROOT / "benchmarks" / "mlflow_registry.py"), "--json"])
    click.echo("\n| registry, models of 1 MB | ours, ms | MLflow, ms | ratio |\n|---|---|---|---|")
    for name, title in (("publish", "publish"), ("fetch", "get the active version's file")):
        click.echo(f"| {title} | {ours[name]:.1f} | {theirs[name]:.1f} | {ours[name] / theirs[name]:.2g} |")
    return {**ours, **{f"mlflow_{name}": theirs[name] for name in ours}}


if __name__ == "__main__":
    main()
