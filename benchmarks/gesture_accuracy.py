"""The gesture recipe on hand signs and fingertip paths, blocks of neighbours held out together."""

from __future__ import annotations

from functools import cache

import numpy as np

from benchmarks.few_shot import DRAWS, Answers, Numbers, Row, drawn, learn, load_all, quiet_job, row
from benchmarks.real_data import data_root
from gesture_trainer.preprocessing.sequences import landmark_sequences
from gesture_trainer.train import GestureConfig, compete
from shared.evaluation import Contender, EvaluationConfig, validate_by_session

CONFIG = GestureConfig()


@cache
def _data(user: str, name: str) -> tuple[tuple[Contender, ...], Numbers, tuple[str, ...]]:
    root = data_root(name)
    dataset = load_all(root, user, "gesture")
    contenders = compete(quiet_job(user, root), CONFIG, landmark_sequences(dataset), few=False)
    return tuple(contenders), dataset.label_index, dataset.session_ids


def blocks() -> list[Row]:
    """Accuracy when each of ten contiguous blocks is left out in turn, beside a random split."""
    rows: list[Row] = []
    for title, user, name, bar in (("hand signs", "signer", "signs", 0.97), ("fingertip", "mover", "fingertip", 0.985)):
        contenders, classes, sessions = _data(user, name)
        config = EvaluationConfig(folds=10, unknown=True)
        found = validate_by_session(contenders, classes, sessions, range(len(classes)), config, 0)
        correct = float((found.predicted == classes).mean())
        rows.append(row(f"{title}, 10 blocks left out in turn", correct, len(classes), bar))
        rows.append(row(f"{title}, random split", found.random_accuracy or 0.0, len(classes), None))
        area = float(np.mean(list(found.unknown_auroc.values())))
        rows.append(row(f"{title}, unknown label, AUROC", area, len(classes), None))
        rows.append(row(f"{title}, known rejected", 1 - float(found.accepted.mean()), len(classes), None))
    return rows


def ten_signs() -> list[Row]:
    """Accuracy on five blocks after ten samples a sign from the other five, mean over draws."""
    contenders, classes, sessions = _data("signer", "signs")
    order = {name: k for k, name in enumerate(sorted(set(sessions)))}
    block = np.array([order[name] for name in sessions])
    pool, test = np.flatnonzero(block % 2 == 0), np.flatnonzero(block % 2 == 1)

    def once(draw: int) -> Answers:
        return learn(contenders, classes, sessions, drawn(classes, pool, 10, draw), test)

    rates = [float((once(draw).classes == classes[test]).mean()) for draw in range(DRAWS)]
    return [row("hand signs, 10 samples each", float(np.mean(rates)), len(test), 0.94)]


FIGURES = (blocks, ten_signs)
