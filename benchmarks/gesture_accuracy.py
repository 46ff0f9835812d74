"""The gesture recipe on hand signs and fingertip paths; contiguous blocks are held out."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from functools import cache

import numpy as np
from numpy.typing import NDArray

import model_trainer
from benchmarks.few_shot import (
    DRAWS,
    Numbers,
    Predictions,
    Row,
    draw_per_class,
    fit_and_predict,
    load_all,
    quiet_job,
    wilson_row,
)
from benchmarks.real_data import WORK, data_root
from gesture_trainer.preprocessing.sequences import Sequences, landmark_sequences
from gesture_trainer.train import GestureConfig, gesture_candidates
from shared.evaluation import EvaluationConfig, validate_by_session
from shared.learning.candidates import Candidate, fit_candidate
from shared.schema_utils import UNKNOWN

CONFIG = GestureConfig()


@cache
def signs_of(user: str, name: str) -> tuple[tuple[Candidate, ...], Numbers, tuple[str, ...]]:
    root = data_root(name)
    dataset = load_all(root, user, "gesture")
    sequences, dataset = landmark_sequences(dataset, CONFIG.extraction)
    candidates = gesture_candidates(quiet_job(user, root), CONFIG, sequences)
    return tuple(candidates), dataset.label_index, dataset.session_ids


def blocks() -> list[Row]:
    """Accuracy when each of ten contiguous blocks is held out in turn, and on a random split."""
    rows: list[Row] = []
    for title, user, name, target in (
        ("hand signs", "signer", "signs", 0.97),
        ("fingertip paths", "mover", "fingertip", 0.985),
    ):
        candidates, classes, sessions = signs_of(user, name)
        config = EvaluationConfig(folds=10, unknown=True)
        validation = validate_by_session(candidates, classes, sessions, range(len(classes)), config, 0)
        accuracy = float((validation.predicted == classes).mean())
        rows.append(wilson_row(f"{title}, 10 blocks held out in turn", accuracy, len(classes), target))
        rows.append(wilson_row(f"{title}, random split", validation.random_accuracy or 0.0, len(classes), None))
        auroc = float(np.mean(list(validation.left_out.auroc.values())))
        rows.append(wilson_row(f"{title}, open-set detection AUROC", auroc, len(classes), None))
        rejected = 1 - float(validation.accepted.mean())
        rows.append(wilson_row(f"{title}, false rejection rate", rejected, len(classes), None))
    return rows


def ten_signs() -> list[Row]:
    """Accuracy on five blocks after training on ten samples per sign from the other five, mean over draws."""
    candidates, classes, sessions = signs_of("signer", "signs")
    order = {name: k for k, name in enumerate(sorted(set(sessions)))}
    block = np.array([order[name] for name in sessions])
    pool, test = np.flatnonzero(block % 2 == 0), np.flatnonzero(block % 2 == 1)

    def predict(draw: int) -> Predictions:
        return fit_and_predict(candidates, classes, sessions, draw_per_class(classes, pool, 10, draw), test)

    rates = [float((predict(draw).classes == classes[test]).mean()) for draw in range(DRAWS)]
    return [wilson_row("hand signs, 10 samples per label", float(np.mean(rates)), len(test), 0.94)]


def basic_motions() -> list[Row]:
    """Accuracy on the official test split of BasicMotions: 40 recordings of 6 channels, trained on the other 40.

    The data set names no sessions: the ten recordings of each label are distributed over five, in their order.
    """
    try:
        (train, train_labels), (test, test_labels) = (motions_of(part) for part in ("TRAIN", "TEST"))
    except FileNotFoundError:
        return []  # the package with the recordings cannot be downloaded here
    labels, classes = np.unique(train_labels, return_inverse=True)
    data = Sequences(tuple(train), "wrist_channels_v1", train[0].shape[1], "channels")
    candidates = gesture_candidates(quiet_job("wrist", WORK), CONFIG, data)
    config = EvaluationConfig(unknown=False)
    sessions = five_sessions(classes)
    validation = validate_by_session(candidates, classes, sessions, range(len(train)), config, 0)
    everything = np.arange(len(train))
    fitted = fit_candidate(validation.winner, classes, everything, len(labels))
    features = np.stack(list(validation.winner.source.graph(everything).run([{"sequence": s} for s in test])))
    accuracy = float((labels[fitted(features)[0].argmax(axis=1)] == test_labels).mean())
    model = model_trainer.train("gesture", train, list(train_labels), sessions=sessions, user_id="wrist", consent=True)
    predicted = np.array([prediction.label for prediction in model.predict(list(test))])
    rejected = predicted == UNKNOWN
    title = "BasicMotions, official split, 5 sessions"
    return [
        wilson_row(f"{title} ({validation.winner.name})", accuracy, len(test), 0.95),
        wilson_row(f"{title}, false rejection rate", float(rejected.mean()), len(test), None),
        wilson_row(
            f"{title}, wrong and accepted", float((~rejected & (predicted != test_labels)).mean()), len(test), None
        ),
    ]


def five_sessions(classes: NDArray[np.intp]) -> list[str]:
    """Return a session for each recording: the first two of each label, the next two, and so on."""
    numbers = [int((classes[:k] == classes[k]).sum()) // 2 for k in range(len(classes))]
    return [f"session{number}" for number in numbers]


def motions_of(part: str) -> tuple[list[NDArray[np.float32]], NDArray[np.str_]]:
    """Return recordings of BasicMotions, (T, 6) float32, and their labels; aeon's wheel is downloaded once."""
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
