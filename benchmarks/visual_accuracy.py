"""The visual recipe on rooms of 60 houses, no house on both sides."""

from __future__ import annotations

from functools import cache

import numpy as np

from benchmarks.few_shot import DRAWS, Numbers, Row, learn, load_all, quiet_job, row
from benchmarks.real_data import data_root
from shared.encoders import load_encoder
from shared.evaluation import Contender, EvaluationConfig, auroc, validate_by_session
from visual_environment_trainer.preprocessing.embeddings import embed
from visual_environment_trainer.preprocessing.images import VIEWS
from visual_environment_trainer.train import VisualConfig, compete

CONFIG = VisualConfig()
FEW_IMAGES_BARS = {5: 0.96, 20: 0.975}


@cache
def _data() -> tuple[tuple[Contender, ...], Numbers, tuple[str, ...]]:
    root = data_root("houses")
    dataset, job = load_all(root, "home", "visual_environment"), quiet_job("home", root)
    encoder = load_encoder(CONFIG.encoder, threads=2)
    samples = embed(job, dataset, encoder, len(VIEWS))
    return tuple(compete(job, CONFIG, encoder, samples, len(VIEWS))), dataset.label_index, dataset.session_ids


def _houses(each: int, draw: int) -> tuple[Numbers, Numbers]:
    """Return training samples from `each` houses, and all samples of the others; a house has one image a room."""
    _, _, sessions = _data()
    names = np.random.default_rng(draw).permutation(sorted(set(sessions)))
    chosen = np.isin(sessions, names[:each])
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)


def few_images() -> list[Row]:
    """Accuracy in other houses after 5 and 20 images a room, mean over draws."""
    contenders, classes, sessions = _data()
    rows = []
    for each, bar in FEW_IMAGES_BARS.items():
        rates = []
        for draw in range(DRAWS):
            train, test = _houses(each, draw)
            answers = learn(contenders, classes, sessions, train, test)
            rates.append(float((answers.classes == classes[test]).mean()))
        rows.append(row(f"rooms, {each} images each", float(np.mean(rates)), 4 * (60 - each), bar))
    return rows


def unknown_rooms() -> list[Row]:
    """AUROC of known rooms in other houses against a room that was left out, after 30 houses; and by house."""
    contenders, classes, sessions = _data()
    areas, rejected = [], []
    for draw in range(DRAWS):
        train, test = _houses(30, draw)
        left_out = draw % 4
        answers = learn(contenders, classes, sessions, train[classes[train] != left_out], test)
        known = classes[test] != left_out
        areas.append(auroc(answers.score[known], answers.score[~known]))
        rejected.append(1 - float(answers.accepted[known].mean()))
    found = validate_by_session(contenders, classes, sessions, range(len(classes)), EvaluationConfig(unknown=False), 0)
    return [
        row("rooms, unknown room, AUROC", float(np.mean(areas)), 240, 0.94),
        row("rooms, known room rejected", float(np.mean(rejected)), 240, None),
        row("rooms, grouped by house", float((found.predicted == classes).mean()), 240, 0.95),
        row("rooms, random split", found.random_accuracy or 0.0, 240, None),
    ]


FIGURES = (few_images, unknown_rooms)
