"""The visual recipe on rooms of 60 houses, no house on both sides."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import cv2
import numpy as np

from benchmarks.few_shot import DRAWS, Numbers, Row, learn, load_all, quiet_job, row
from benchmarks.real_data import WORK, data_root
from shared.data_loader import Dataset
from shared.evaluation import EvaluationConfig, auroc, validate_by_session
from shared.features.encoders import load_encoder
from shared.learning.candidates import Candidate
from visual_environment_trainer.preprocessing.embeddings import Encoding, look
from visual_environment_trainer.preprocessing.images import read_image
from visual_environment_trainer.train import VisualConfig, visual_candidates, way

CONFIG = VisualConfig()
WITH_BLUR = VisualConfig(blurred_copies=True)
FEW_IMAGES_BARS = {5: 0.96, 20: 0.975}
RADIUS = 2.0  # of the blur, in pixels of a picture whose shorter side has SHRUNK
SHRUNK = 256
BLUR_BAR = 0.08


@cache
def _dataset() -> Dataset:
    return load_all(data_root("houses"), "home", "visual_environment")


def _few() -> Encoding:
    """Return how up to 80 images are seen."""
    return way(CONFIG, load_encoder(str(CONFIG.few_encoder)), 80)


def _candidates(seen_by: Encoding, dataset: Dataset, config: VisualConfig) -> tuple[Candidate, ...]:
    job = quiet_job("home", WORK)
    samples = look(job, dataset, seen_by).samples
    return tuple(visual_candidates(job, config, seen_by.encoder, samples, few=False))


@cache
def _plain() -> tuple[Candidate, ...]:
    return _candidates(_few(), _dataset(), CONFIG)


def _houses(each: int, draw: int) -> tuple[Numbers, Numbers]:
    """Return training samples from `each` houses, and all samples of the others; a house has one image a room."""
    sessions = _dataset().session_ids
    names = np.random.default_rng(draw).permutation(sorted(set(sessions)))
    chosen = np.isin(sessions, names[:each])
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)


def _accuracy(candidates: tuple[Candidate, ...], each: int) -> float:
    classes, sessions = _dataset().label_index, _dataset().session_ids
    rates = []
    for train, test in (_houses(each, draw) for draw in range(DRAWS)):
        answers = learn(candidates, classes, sessions, train, test)
        rates.append(float((answers.classes == classes[test]).mean()))
    return float(np.mean(rates))


def few_images() -> list[Row]:
    """Accuracy in other houses after 5 and 20 images a room, mean over draws."""
    return [
        row(f"rooms, {each} images each", _accuracy(_plain(), each), 4 * (60 - each), bar)
        for each, bar in FEW_IMAGES_BARS.items()
    ]


def other_ways() -> list[Row]:
    """Accuracy after 20 images a room with what many images are seen by, and with what is left without encoders."""
    many = way(CONFIG, load_encoder(str(CONFIG.encoder)), CONFIG.few_up_to + 1)
    ways = {
        "lite0, one view": many,
        "lite2, one view": way(CONFIG, load_encoder(str(CONFIG.few_encoder)), CONFIG.few_up_to),
        "hand-made fallback": way(CONFIG, None, 80),
    }
    return [
        row(f"rooms, 20 images each, {name}", _accuracy(_candidates(by, _dataset(), CONFIG), 20), 160, None)
        for name, by in ways.items()
    ]


def unknown_rooms() -> list[Row]:
    """AUROC of known rooms in other houses against a room that was left out, after 30 houses; and by house."""
    candidates, classes, sessions = _plain(), _dataset().label_index, _dataset().session_ids
    areas, rejected = [], []
    for draw in range(DRAWS):
        train, test = _houses(30, draw)
        left_out = draw % 4
        answers = learn(candidates, classes, sessions, train[classes[train] != left_out], test)
        known = classes[test] != left_out
        areas.append(auroc(answers.score[known], answers.score[~known]))
        rejected.append(1 - float(answers.accepted[known].mean()))
    found = validate_by_session(candidates, classes, sessions, range(len(classes)), EvaluationConfig(unknown=False), 0)
    return [
        row("rooms, unknown room, AUROC", float(np.mean(areas)), 240, 0.94),
        row("rooms, known room rejected", float(np.mean(rejected)), 240, None),
        row("rooms, grouped by house", float((found.predicted == classes).mean()), 240, 0.95),
        row("rooms, random split", found.random_accuracy or 0.0, 240, None),
    ]


def blurred_images() -> list[Row]:
    """Points lost at 20 images a room where the camera is out of focus, with blurred copies in training."""
    sharp = _dataset()
    by, job, count = replace(_few(), blur=WITH_BLUR.blur), quiet_job("home", WORK), len(sharp)
    samples = [*look(job, sharp, by).samples, *look(job, _out_of_focus(sharp), by).samples]
    both = visual_candidates(job, WITH_BLUR, by.encoder, samples, few=False)
    candidates = [candidate for candidate in both if len(candidate.source.rows(np.arange(count)).copies)]
    classes = np.concatenate([sharp.label_index] * 2)
    lost = []
    for train, test in (_houses(20, draw) for draw in range(DRAWS)):
        answers = learn(candidates, classes, sharp.session_ids * 2, train, np.concatenate([test, test + count]))
        correct = answers.classes == np.concatenate([classes[test]] * 2)
        lost.append(float(correct[: len(test)].mean() - correct[len(test) :].mean()))
    return [row("rooms, points lost to blur of radius 2 (at most)", float(np.mean(lost)), 160, BLUR_BAR)]


def _out_of_focus(dataset: Dataset) -> Dataset:
    """Return the same samples with every picture shrunk to 256 pixels and blurred."""
    folder = WORK / "out-of-focus"
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for sample in dataset.samples:
        assert sample.path is not None
        path = folder / f"{sample.path.stem}.png"
        if not path.is_file():
            picture = read_image(sample.path, SHRUNK)
            scale = SHRUNK / min(picture.shape[:2])
            small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            cv2.imwrite(str(path), cv2.GaussianBlur(small, (0, 0), RADIUS)[..., ::-1])
        samples.append(replace(sample, path=path, content_sha256=f"{sample.content_sha256}, out of focus"))
    return replace(dataset, samples=tuple(samples))


FIGURES = (few_images, unknown_rooms, blurred_images, other_ways)
