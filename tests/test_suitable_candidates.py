"""Every candidate that is compared by default is trained to the end by itself, with and without the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gesture_trainer.train as gesture
import sound_trainer.train as sound
import speech_context_trainer.train as speech
import visual_environment_trainer.train as visual
from gesture_trainer.preprocessing.layouts import Layout, layout_of
from model_registry.names import Modality
from shared.features.pretrained import pretrained_folder
from shared.learning.candidates import CandidateConfig
from shared.trainers import find_trainer, modality_names
from tests.trainer_runs import TrainerRun, copy_some, runs_of

QUICK = tuple(f"--set=evaluation.{key}=false" for key in ("random_split", "learning_curve"))
LABELS, SESSIONS, EACH = 4, 3, 4
Train = Callable[..., list[TrainerRun]]


@pytest.fixture
def train(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Train:
    """Train three times: without a cache, with an empty one, and with one that knows all features."""

    def train(modality: Modality, data: Path, *words: str) -> list[TrainerRun]:
        monkeypatch.setenv("MODEL_TRAINER_CACHE", str(tmp_path / "cache"))
        run = runs_of(find_trainer(modality), tmp_path / "out", capsys)
        kinds = (("--no-cache",), ("--cache", *QUICK), ("--cache", *QUICK))
        return [run(data, *words, *kind) for kind in kinds]

    return train


def _trained(runs: Sequence[TrainerRun]) -> dict[str, Any]:
    """Check that all runs ended well and with the same bytes; return what the first one logged."""
    assert [run.code for run in runs] == [0] * len(runs), [run.entry["error_trace"] for run in runs if run.code]
    assert len({run.model for run in runs}) == 1
    entry = runs[0].entry
    assert entry["replay"]["whole"] + entry["replay"]["head_graph"] == entry["sample_count"]
    assert entry["replay"]["largest_difference"] <= 1e-4
    return entry


def _only(candidate: CandidateConfig[Any]) -> tuple[str, str]:
    return "--set", f"candidates={json.dumps([candidate.model_dump(mode='json')])}"


def _names(candidates: Sequence[CandidateConfig[Any]]) -> list[str]:
    return [f"{'+'.join(c.features or ())}: {c.classifier.text()}" for c in candidates]


# --- gesture


@dataclass(frozen=True)
class Recorded:
    """What sequences are called, and how many numbers a frame has."""

    encoding: str
    width: int

    @property
    def layout(self) -> Layout:
        return layout_of(self.encoding, self.width)

    @property
    def candidates(self) -> tuple[gesture.GestureCandidate, ...]:
        return gesture.SUITABLE[self.layout]


RECORDED = (
    Recorded("hand_landmarks_xy_v1", 42),
    Recorded("hand_landmarks_xyz_v1", 63),
    Recorded("hands_landmarks_xyz_v1", 126),
    Recorded("mediapipe_tasks_hands_xyz_v1", 252),
    Recorded("mediapipe_tasks_video_xy_v1", 214),
    Recorded("fingertip_history_xy_v1", 2),
    Recorded("accelerometer_v1", 1),
    Recorded("accelerometer_v1", 3),
)


def _sequence(recorded: Recorded, session: int, label: int, take: int) -> np.ndarray:
    """(T, D): points around a place of each, or channels around zero, that swing the faster the higher the label."""
    rng = np.random.default_rng([recorded.width, session, label, take])
    frames = int(rng.integers(20, 40))
    places = np.random.default_rng(recorded.width).uniform(0.3, 0.7, recorded.width)
    places = places + 0.1 * np.random.default_rng([recorded.width, label]).normal(size=recorded.width)
    time = np.linspace(0, 1, frames)[:, None]
    swing = np.sin(2 * np.pi * (1 + 2 * label) * time + rng.uniform(0, 6, (1, recorded.width)))
    if recorded.layout == "channels":
        sequence = rng.uniform(0.8, 1.2) * swing + rng.normal(0, 0.1, swing.shape)
    elif recorded.layout == "path_xy":
        turn = 2 * np.pi * time * (1, -1, 0, 0)[label]
        line = time * ((0, 0), (0, 0), (1, 0), (1, 1))[label]
        sequence = 0.5 + 0.2 * np.hstack([np.cos(turn), np.sin(turn)]) + 0.3 * line + rng.normal(0, 0.01, swing.shape)
    else:
        sequence = places + 0.02 * swing + rng.normal(0, 0.02, swing.shape)
    return sequence.astype(np.float32)


def _write(root: Path, recorded: Recorded, each: int = EACH, frames: int | None = None) -> Path:
    for session in range(SESSIONS):
        folder = root / "users" / "ana" / "sessions" / f"s{session}"
        folder.mkdir(parents=True)
        (folder / "session.json").write_text(json.dumps({"user_id": "ana", "session_id": f"s{session}"}))
        lines = []
        for label in range(LABELS):
            for take in range(each):
                sequence, path = _sequence(recorded, session, label, take)[:frames], folder / f"{label}-{take}.npz"
                np.savez(path, features=sequence)
                example = {"record_id": f"{session}-{label}-{take}", "user_id": "ana", "session_id": f"s{session}"}
                example |= {"timestamp": f"2026-03-0{session + 1}T10:00:00Z", "modality": "gesture"}
                features = {"uri": path.name, "hash": f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"}
                features |= {"encoding": recorded.encoding, "shape": list(sequence.shape), "dtype": "float32"}
                lines.append(
                    json.dumps(example | {"label": f"l{label}", "consent_given": True, "features": features}) + "\n"
                )
        (folder / "examples.jsonl").write_text("".join(lines))
    return root


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[Recorded, Path]:
    folder = tmp_path_factory.mktemp("recorded")
    return {recorded: _write(folder / f"{recorded.encoding}-{recorded.width}", recorded) for recorded in RECORDED}


def test_every_layout_is_recorded() -> None:
    assert {recorded.layout for recorded in RECORDED} == set(gesture.SUITABLE) == set(gesture.SUITABLE_STILL)


@pytest.mark.parametrize(
    ("recorded", "candidate"),
    [
        pytest.param(recorded, candidate, id=f"{recorded.encoding}-{recorded.width}-{name}")
        for recorded in RECORDED
        for candidate, name in zip(recorded.candidates, _names(recorded.candidates), strict=True)
    ],
)
@pytest.mark.slow
def test_a_gesture_candidate_is_trained(
    recorded: Recorded, candidate: gesture.GestureCandidate, recordings: Mapping[Recorded, Path], train: Train
) -> None:
    entry = _trained(train("gesture", recordings[recorded], *_only(candidate)))
    assert list(entry["metrics"]["candidates"]) == _names([candidate])
    assert entry["training_metrics"]["accuracy"] > 0.4, "chance is 0.25"


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: f"{recorded.encoding}-{recorded.width}")
@pytest.mark.slow
def test_gestures_are_trained_by_default(recorded: Recorded, recordings: Mapping[Recorded, Path], train: Train) -> None:
    entry = _trained(train("gesture", recordings[recorded]))
    assert set(entry["metrics"]["candidates"]) == set(_names(recorded.candidates))
    assert entry["training_metrics"]["accuracy"] > 0.5


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.slow
def test_channels_are_trained_by_default_where_convolutions_win(width: int, tmp_path: Path, train: Train) -> None:
    recorded = Recorded("accelerometer_v1", width)
    entry = _trained(train("gesture", _write(tmp_path / "data", recorded, each=6)))
    assert entry["metrics"]["chosen"] == "convolutions: lda"
    assert entry["sample_count"] == 72
    assert entry["training_metrics"]["accuracy"] > 0.9


@pytest.mark.slow
def test_single_frames_are_taken_as_they_are(tmp_path: Path, train: Train) -> None:
    recorded = Recorded("hand_landmarks_xy_v1", 42)
    place = _write(tmp_path / "data", recorded, frames=1)
    for path in place.rglob("examples.jsonl"):
        path.write_text(path.read_text().replace("hand_landmarks_xy_v1", "measurements_v1"))
    entry = _trained(train("gesture", place))
    assert set(entry["metrics"]["candidates"]) == set(_names(gesture.SUITABLE_STILL["channels"]))
    assert entry["training_metrics"]["accuracy"] > 0.9


# --- sound, speech, visual


@pytest.fixture(scope="module")
def demo(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Modality, Path]:
    folder = tmp_path_factory.mktemp("some")
    return {m: copy_some(demo_data, m, folder / m, EACH) for m in modality_names() if m != "gesture"}


def _needs(*names: str) -> None:
    for name in names:
        if not (pretrained_folder() / name / "encoder.json").is_file():
            pytest.skip(f"{name} is not made; run: python -m build_tools")


@pytest.mark.parametrize("candidate", sound.SUITABLE, ids=_names(sound.SUITABLE))
@pytest.mark.slow
def test_a_sound_candidate_is_trained(
    candidate: sound.SoundCandidate, demo: Mapping[Modality, Path], train: Train
) -> None:
    _needs("speech_embedding")
    entry = _trained(train("sound", demo["sound"], *_only(candidate)))
    assert list(entry["metrics"]["candidates"]) == _names([candidate])


@pytest.mark.parametrize("label_names", ["true", "false"])
@pytest.mark.parametrize("candidate", speech.SUITABLE, ids=_names(speech.SUITABLE))
@pytest.mark.slow
def test_a_speech_candidate_is_trained(
    candidate: speech.SpeechCandidate, label_names: str, tmp_path: Path, demo: Mapping[Modality, Path], train: Train
) -> None:
    _needs("use", "minilm")
    for path in sorted(demo["speech"].glob("users/*/sessions/*/examples.jsonl")):
        lines = map(json.loads, path.read_text().splitlines())
        session = tmp_path / path.relative_to(demo["speech"]).parent
        session.mkdir(parents=True)
        (session / "session.json").write_bytes(path.with_name("session.json").read_bytes())
        (session / "examples.jsonl").write_text("".join(json.dumps(x | {"location": "at home"}) + "\n" for x in lines))
    entry = _trained(train("speech", tmp_path, *_only(candidate), "--set", f"label_names={label_names}"))
    assert list(entry["metrics"]["candidates"]) == _names([candidate])


@pytest.mark.parametrize("candidate", [*visual.SUITABLE, *visual.SUITABLE_FEW], ids=lambda c: _names([c])[0])
@pytest.mark.slow
def test_a_visual_candidate_is_trained(
    candidate: visual.VisualCandidate, demo: Mapping[Modality, Path], train: Train
) -> None:
    _needs("lite2_int8")
    entry = _trained(train("visual_environment", demo["visual_environment"], *_only(candidate)))
    assert list(entry["metrics"]["candidates"]) == _names([candidate])


@pytest.mark.parametrize(
    "candidate", [*visual.WITHOUT_ENCODER, *visual.WITHOUT_ENCODER_FEW], ids=lambda c: _names([c])[0]
)
@pytest.mark.slow
def test_a_visual_candidate_is_trained_without_an_encoder(
    candidate: visual.VisualCandidate,
    demo: Mapping[Modality, Path],
    train: Train,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MODEL_TRAINER_PRETRAINED", str(tmp_path / "nothing"))
    entry = _trained(train("visual_environment", demo["visual_environment"], *_only(candidate)))
    assert list(entry["metrics"]["candidates"]) == _names([candidate])


@pytest.mark.parametrize(
    ("modality", "candidates"),
    [
        ("sound", sound.SUITABLE),
        ("speech", speech.SUITABLE[:2]),
        ("visual_environment", visual.SUITABLE),
    ],
)
@pytest.mark.slow
def test_demo_data_are_trained_by_default(
    modality: Modality, candidates: Sequence[CandidateConfig[Any]], demo: Mapping[Modality, Path], train: Train
) -> None:
    _needs("speech_embedding", "use", "minilm", "lite2_int8")
    entry = _trained(train(modality, demo[modality]))
    names = [name.partition(":")[0] for name in entry["metrics"]["candidates"]]
    assert names[: len(candidates)] == ["+".join(c.features or ()) for c in candidates]
