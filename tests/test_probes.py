"""Probes: what no label can be is made by every trainer, and refused by its models."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gesture_trainer.preprocessing.probes import gesture_probes
from shared.features.probes import FITTED, REPORTED
from shared.learning.familiarity import centroid_familiarity, cosine_familiarity
from shared.learning.heads import Linear
from shared.trainers import find_trainer
from sound_trainer.preprocessing.probes import sound_probes
from sound_trainer.preprocessing.validity import invalid_reason as invalid_sound
from speech_context_trainer.preprocessing.probes import speech_probes
from speech_context_trainer.preprocessing.validity import invalid_reason as invalid_text
from tests.trainer_runs import PACKAGES, copy_modality, runs_of
from visual_environment_trainer.preprocessing.probes import image_probes
from visual_environment_trainer.preprocessing.validity import invalid_reason as invalid_image

RANDOM = np.random.default_rng(0)
WAVES = [{"wave": RANDOM.normal(size=4000 + 100 * k).astype(np.float32)} for k in range(6)]
SEQUENCES = [np.cumsum(RANDOM.normal(size=(20 + k, 6)), axis=0).astype(np.float32) for k in range(6)]
PICTURES = [RANDOM.integers(0, 256, (64, 64, 3)).astype(np.uint8) for _ in range(3)]
TEXTS = ["soup is ready", "shall we go out", "where is your coat"]
CLASSES = np.array([0, 0, 0, 1, 1, 1])

Row = tuple[str, Any]
MAKERS: dict[str, Callable[[int], list[Row]]] = {
    "sound": lambda seed: [(p.kind, p.inputs["wave"]) for p in sound_probes(WAVES, seed)],
    "gesture": lambda seed: [(p.kind, p.inputs["sequence"]) for p in gesture_probes(SEQUENCES, CLASSES, seed)],
    "speech": lambda seed: list(speech_probes(TEXTS, seed)),
    "visual_environment": lambda seed: list(image_probes(PICTURES, 64, seed)),
}
KINDS = {
    "sound": {"white noise", "pink noise", "brown noise", "hum", "tone", "clicks", "babble"},
    "gesture": {"still", "jitter", "random walk", "random points"},
    "speech": {"random keys", "invented words", "a word repeated", "numbers", "Latin", "shuffled letters"},
    "visual_environment": {"noise", "checker", "stripes", "grey", "nearly black", "blurred", "mosaic", "clouds"},
}


@pytest.mark.parametrize("modality", PACKAGES)
def test_probes_are_deterministic_and_those_reported_are_no_others_than_fitted(modality: str) -> None:
    fitted, again = ([row for seed in FITTED for row in MAKERS[modality](seed)] for _ in range(2))
    reported = MAKERS[modality](REPORTED)
    assert [str(row) for row in fitted] == [str(row) for row in again]
    assert {kind for kind, _ in reported} == KINDS[modality]
    assert not {np.asarray(x).tobytes() for _, x in fitted} & {np.asarray(x).tobytes() for _, x in reported}


def test_probes_reach_the_model() -> None:
    for seed in (*FITTED, REPORTED):
        assert not [kind for kind, wave in MAKERS["sound"](seed) if invalid_sound(wave) or not np.isfinite(wave).all()]
        assert not [kind for kind, text in MAKERS["speech"](seed) if invalid_text(text)]
        assert not [kind for kind, views in MAKERS["visual_environment"](seed) if invalid_image(views)]


@pytest.mark.parametrize("side", [8, 16, 224])
def test_images_of_any_side_have_probes(side: int) -> None:
    pictures = [RANDOM.integers(0, 256, (side, side, 3)).astype(np.uint8)]
    assert {views.shape for _, views in image_probes(pictures, side, REPORTED)} == {(1, side, side, 3)}


def test_keeping_still_is_no_probe_where_it_may_be_a_label() -> None:
    still = [np.repeat(sequence[:1], 20, axis=0) for sequence in SEQUENCES[:3]]
    kinds = {probe.kind for probe in gesture_probes([*still, *SEQUENCES[3:]], CLASSES, REPORTED)}
    assert kinds == KINDS["gesture"] - {"still"}


@pytest.mark.parametrize("fit", [cosine_familiarity, centroid_familiarity], ids=lambda fit: fit.__name__)
def test_what_is_like_background_is_less_familiar(fit: Any) -> None:
    known, background = RANDOM.normal(size=(2, 30, 8)).astype(np.float32)
    known[:, 0] += 5
    background[:, 1] += 5
    head, classes = Linear(np.zeros((8, 2), np.float32), np.zeros(2, np.float32)), np.arange(30) % 2
    between = np.array([[5, 5, 0, 0, 0, 0, 0, 0]], np.float32)
    loss = fit(head, known, classes)(np.concatenate([known, between])) - fit(head, known, classes, background)(
        np.concatenate([known, between])
    )
    assert loss[-1] > np.median(loss[:-1])


@pytest.mark.parametrize("modality", PACKAGES)
@pytest.mark.slow
def test_a_trained_model_refuses_probes(
    modality: str, demo_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, _ = copy_modality(demo_data, find_trainer(modality).modality, tmp_path / "data")
    entry = runs_of(find_trainer(modality), tmp_path / "out", capsys)(root).entry
    rows = entry["metrics"]["probes"]
    assert {row["kind"] for row in rows} == KINDS[modality]
    accepted, count = (sum(row[name] for row in rows) for name in ("accepted", "count"))
    assert entry["training_metrics"]["probe_acceptance"] == pytest.approx(accepted / count)
    assert accepted / count <= 0.1
    card = (Path(entry["bundle"]) / "model_card.html").read_text()
    said = re.sub(r"<[^>]+>", "", card)
    assert f"{rows[0]['kind']} {rows[0]['accepted']} of {rows[0]['count']}" in said
