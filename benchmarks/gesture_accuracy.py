"""The gesture recipe on hand signs and fingertip paths, blocks of neighbours held out together."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from functools import cache

import numpy as np
from numpy.typing import NDArray

from benchmarks.few_shot import DRAWS, Answers, Numbers, Row, drawn, learn, load_all, quiet_job, row
from benchmarks.real_data import WORK, data_root
from gesture_trainer.preprocessing.sequences import Sequences, landmark_sequences
from gesture_trainer.train import GestureConfig, gesture_candidates
from shared.evaluation import EvaluationConfig, validate_by_session
from shared.learning.candidates import Candidate, fit_candidate

CONFIG = GestureConfig()


@cache
def _data(user: str, name: str) -> tuple[tuple[Candidate, ...], Numbers, tuple[str, ...]]:
    root = data_root(name)
    dataset = load_all(root, user, "gesture")
    sequences, dataset = landmark_sequences(dataset, CONFIG.extraction)
    candidates = gesture_candidates(quiet_job(user, root), CONFIG, sequences, few=False)
    return tuple(candidates), dataset.label_index, dataset.session_ids


def blocks() -> list[Row]:
    """Accuracy when each of ten contiguous blocks is left out in turn, beside a random split."""
    rows: list[Row] = []
    for title, user, name, bar in (("hand signs", "signer", "signs", 0.97), ("fingertip", "mover", "fingertip", 0.985)):
        candidates, classes, sessions = _data(user, name)
        config = EvaluationConfig(folds=10, unknown=True)
        found = validate_by_session(candidates, classes, sessions, range(len(classes)), config, 0)
        correct = float((found.predicted == classes).mean())
        rows.append(row(f"{title}, 10 blocks left out in turn", correct, len(classes), bar))
        rows.append(row(f"{title}, random split", found.random_accuracy or 0.0, len(classes), None))
        area = float(np.mean(list(found.unknown_auroc.values())))
        rows.append(row(f"{title}, unknown label, AUROC", area, len(classes), None))
        rows.append(row(f"{title}, known rejected", 1 - float(found.accepted.mean()), len(classes), None))
    return rows


def ten_signs() -> list[Row]:
    """Accuracy on five blocks after ten samples a sign from the other five, mean over draws."""
    candidates, classes, sessions = _data("signer", "signs")
    order = {name: k for k, name in enumerate(sorted(set(sessions)))}
    block = np.array([order[name] for name in sessions])
    pool, test = np.flatnonzero(block % 2 == 0), np.flatnonzero(block % 2 == 1)

    def once(draw: int) -> Answers:
        return learn(candidates, classes, sessions, drawn(classes, pool, 10, draw), test)

    rates = [float((once(draw).classes == classes[test]).mean()) for draw in range(DRAWS)]
    return [row("hand signs, 10 samples each", float(np.mean(rates)), len(test), 0.94)]


def basic_motions() -> list[Row]:
    """Accuracy on the official test part of BasicMotions, 40 recordings of a wrist's 6 channels, after the other 40."""
    try:
        (train, own), (test, wanted) = (_series(part) for part in ("TRAIN", "TEST"))
    except FileNotFoundError:
        return []  # the wheel that carries the recordings cannot be had here
    labels, classes = np.unique(own, return_inverse=True)
    data = Sequences(tuple(train), "wrist_channels_v1", train[0].shape[1], "channels")
    candidates = gesture_candidates(quiet_job("wrist", WORK), CONFIG, data, few=False)
    config = EvaluationConfig(unknown=False)
    found = validate_by_session(candidates, classes, ["one"] * len(train), range(len(train)), config, 0)
    everything = np.arange(len(train))
    fitted = fit_candidate(found.winner, classes, everything, len(labels))
    features = np.stack(list(found.winner.source.graph(everything).run([{"sequence": s} for s in test])))
    answered = labels[fitted(features)[0].argmax(axis=1)]
    return [
        row(f"BasicMotions, official split ({found.winner.name})", float((answered == wanted).mean()), len(test), 1.0)
    ]


def _series(part: str) -> tuple[list[NDArray[np.float32]], NDArray[np.str_]]:
    """Return recordings (T, 6) float32 and their labels, out of the wheel of aeon, which is fetched once."""
    folder = WORK / "aeon"
    if not list(folder.glob("aeon-*.whl")):
        command = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "--dest", str(folder), "aeon"]
        subprocess.run(command, capture_output=True, timeout=300, check=False)
    for wheel in sorted(folder.glob("aeon-*.whl")):
        with zipfile.ZipFile(wheel) as packed:
            text = packed.read(f"aeon/datasets/data/BasicMotions/BasicMotions_{part}.ts").decode()
        lines = [line.split(":") for line in text.partition("@data")[2].split() if line]
        series = [
            np.array([[float(v) for v in c.split(",")] for c in channels], np.float32).T for *channels, _ in lines
        ]
        return series, np.array([line[-1] for line in lines])
    raise FileNotFoundError(folder)


FIGURES = (blocks, ten_signs, basic_motions)
