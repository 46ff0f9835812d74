"""The visual recipe on rooms of 60 houses; training and test images come from different houses."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import cv2
import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.few_shot import DRAWS, Numbers, Row, fit_and_predict, load_all, quiet_job, wilson_row
from benchmarks.real_data import WORK, data_root
from shared.data_loader import Dataset
from shared.evaluation import EvaluationConfig, validate_by_session
from shared.features.encoders import load_encoder
from shared.features.probes import FITTED
from shared.learning.candidates import Candidate
from visual_environment_trainer.preprocessing.embeddings import Encoding, encode_images
from visual_environment_trainer.preprocessing.images import read_image
from visual_environment_trainer.preprocessing.probes import visual_probes
from visual_environment_trainer.train import VisualConfig, encoding_for, visual_candidates

CONFIG = VisualConfig()
WITH_BLUR = VisualConfig(blurred_copies=True)
FEW_IMAGES_TARGETS = {5: 0.96, 20: 0.975}
RADIUS = 2.0  # of the blur, in pixels of an image whose shorter side has SHORT_SIDE pixels
SHORT_SIDE = 256
BLUR_TARGET = 0.08


@cache
def houses() -> Dataset:
    return load_all(data_root("houses"), "home", "visual_environment")


def few_images_encoding() -> Encoding:
    """Return how up to 80 images are encoded."""
    return encoding_for(CONFIG, load_encoder(str(CONFIG.few_encoder)), 80)


def _candidates(encoding: Encoding, dataset: Dataset, config: VisualConfig) -> tuple[Candidate, ...]:
    job = quiet_job("home", WORK)
    samples = encode_images(job, dataset, encoding).samples
    background = [probe.inputs for probe in visual_probes(dataset, encoding, FITTED[0])]
    return tuple(visual_candidates(job, config, encoding.encoder, samples, False, background))


@cache
def default_candidates() -> tuple[Candidate, ...]:
    return _candidates(few_images_encoding(), houses(), CONFIG)


def draw_houses(count: int, draw: int) -> tuple[Numbers, Numbers]:
    """Return the samples of `count` houses, and those of all others; a house has one image of each room."""
    sessions = houses().session_ids
    names = np.random.default_rng(draw).permutation(sorted(set(sessions)))
    chosen = np.isin(sessions, names[:count])
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)


def _accuracy(candidates: tuple[Candidate, ...], count: int) -> float:
    classes, sessions = houses().label_index, houses().session_ids
    rates = []
    for train, test in (draw_houses(count, draw) for draw in range(DRAWS)):
        predictions = fit_and_predict(candidates, classes, sessions, train, test)
        rates.append(float((predictions.classes == classes[test]).mean()))
    return float(np.mean(rates))


def few_images() -> list[Row]:
    """Accuracy in other houses after training on 5 and 20 images per room, mean over draws."""
    return [
        wilson_row(f"rooms, {count} images per label", _accuracy(default_candidates(), count), 4 * (60 - count), target)
        for count, target in FEW_IMAGES_TARGETS.items()
    ]


def other_encodings() -> list[Row]:
    """Accuracy after training on 20 images per room with the encoding for many images, and without an encoder."""
    many = encoding_for(CONFIG, load_encoder(str(CONFIG.encoder)), CONFIG.few_up_to + 1)
    encodings = {
        "lite0, one view": many,
        "lite2, one view": encoding_for(CONFIG, load_encoder(str(CONFIG.few_encoder)), CONFIG.few_up_to),
        "hand-made fallback": encoding_for(CONFIG, None, 80),
    }
    return [
        wilson_row(
            f"rooms, 20 images per label, {name}", _accuracy(_candidates(encoding, houses(), CONFIG), 20), 160, None
        )
        for name, encoding in encodings.items()
    ]


def unknown_rooms() -> list[Row]:
    """Open-set detection AUROC for a room held out of training on 30 houses; accuracy grouped by house."""
    candidates, classes, sessions = default_candidates(), houses().label_index, houses().session_ids
    aurocs, rejected = [], []
    for draw in range(DRAWS):
        train, test = draw_houses(30, draw)
        left_out = draw % 4
        predictions = fit_and_predict(candidates, classes, sessions, train[classes[train] != left_out], test)
        known = classes[test] != left_out
        aurocs.append(roc_auc_score(known, predictions.score))
        rejected.append(1 - float(predictions.accepted[known].mean()))
    config = EvaluationConfig(unknown=False)
    validation = validate_by_session(candidates, classes, sessions, range(len(classes)), config, 0)
    return [
        wilson_row("rooms, open-set detection AUROC", float(np.mean(aurocs)), 240, 0.94),
        wilson_row("rooms, false rejection rate", float(np.mean(rejected)), 240, None),
        wilson_row("rooms, grouped by house", float((validation.predicted == classes).mean()), 240, 0.95),
        wilson_row("rooms, random split", validation.random_accuracy or 0.0, 240, None),
    ]


def blurred_images() -> list[Row]:
    """Accuracy lost to a camera out of focus, trained on 20 images per room with blurred copies."""
    sharp = houses()
    encoding, job, count = replace(few_images_encoding(), blur=WITH_BLUR.blur), quiet_job("home", WORK), len(sharp)
    samples = [
        *encode_images(job, sharp, encoding).samples,
        *encode_images(job, _out_of_focus(sharp), encoding).samples,
    ]
    both = visual_candidates(job, WITH_BLUR, encoding.encoder, samples, few=False)
    candidates = [candidate for candidate in both if len(candidate.source.rows(np.arange(count)).copies)]
    classes = np.concatenate([sharp.label_index] * 2)
    lost = []
    for train, test in (draw_houses(20, draw) for draw in range(DRAWS)):
        tested = np.concatenate([test, test + count])
        predictions = fit_and_predict(candidates, classes, sharp.session_ids * 2, train, tested)
        correct = predictions.classes == np.concatenate([classes[test]] * 2)
        lost.append(float(correct[: len(test)].mean() - correct[len(test) :].mean()))
    return [wilson_row("rooms, accuracy lost to blur of radius 2 (at most)", float(np.mean(lost)), 160, BLUR_TARGET)]


def _out_of_focus(dataset: Dataset) -> Dataset:
    """Return the same samples with every image scaled to 256 pixels on the shorter side and blurred."""
    folder = WORK / "out-of-focus"
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for sample in dataset.samples:
        assert sample.path is not None
        path = folder / f"{sample.path.stem}.png"
        if not path.is_file():
            picture = read_image(sample.path, SHORT_SIDE)
            scale = SHORT_SIDE / min(picture.shape[:2])
            small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            cv2.imwrite(str(path), cv2.GaussianBlur(small, (0, 0), RADIUS)[..., ::-1])
        samples.append(replace(sample, path=path, content_sha256=f"{sample.content_sha256}, out of focus"))
    return replace(dataset, samples=tuple(samples))


FIGURES = (few_images, unknown_rooms, blurred_images, other_encodings)
