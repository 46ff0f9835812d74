"""The sound recipe from files to a model: few sounds, unequal numbers, sounds of any container, and real speech."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile
import yaml
from numpy.typing import NDArray

from shared.config import load_config
from shared.errors import ConfigError
from shared.features.cache import FeatureCache
from shared.features.pretrained import is_complete, pretrained_folder
from shared.job import Job
from shared.logs import RunLog
from shared.recipe import Outcome, load
from sound_trainer.preprocessing.decode import read_wave
from sound_trainer.preprocessing.pretrained import SPEECH_EMBEDDING
from sound_trainer.preprocessing.recordings import open_recordings
from sound_trainer.train import SoundConfig, sound_candidates, train
from tests.paths import ROOT

RATE = 16_000
CONFIGS = ROOT / "sound_trainer" / "configs"
needs_network = pytest.mark.skipif(
    not is_complete(SPEECH_EMBEDDING, pretrained_folder()), reason="not made; run: python -m build_tools"
)
CENTROID = {"type": "nearest_centroid", "metric": "cosine"}
WITHOUT_NETWORK = {
    "candidates": [
        {"features": "spectral", "classifier": CENTROID},
        {"features": "spectral", "classifier": {"type": "lda"}},
    ]
}
Counts = dict[str, tuple[int, ...]]  # label -> sounds in each session


def sound(label: str, session: int, take: int) -> NDArray[np.float64]:
    """A made-up sound: a hum that rises, a hum that falls, a hiss, or clicks; each session has its own background."""
    rng = np.random.default_rng([len(label), session, take])
    seconds = rng.uniform(0.3, 0.6)
    time = np.arange(int(seconds * RATE)) / RATE
    pitch = rng.uniform(130, 160)
    if label in ("rise", "falling"):
        glide = 1.8 if label == "rise" else 1 / 1.8
        phase = 2 * np.pi * pitch * np.cumsum(glide ** (time / seconds)) / RATE
        wave = sum(np.sin(k * phase) / k for k in range(1, 8)) * np.hanning(len(time))
    elif label == "hiss":
        wave = rng.normal(size=len(time)) * np.hanning(len(time))
    else:
        wave = rng.normal(size=len(time)) * (np.sin(2 * np.pi * 7 * time) > 0.9)
    wave = np.concatenate([np.zeros(1600), np.asarray(wave), np.zeros(rng.integers(1000, 5000))])
    return np.asarray(0.2 * rng.uniform(0.3, 1.0) * wave + 10 ** (-3 + 0.3 * session) * rng.normal(size=len(wave)))


def write(root: Path, counts: Counts, ending: str = "wav", rate: int = RATE) -> Path:
    """Write a data root of made-up sounds."""
    for session in range(max(map(len, counts.values()))):
        folder = root / "users" / "ana" / "sessions" / f"s{session}"
        folder.mkdir(parents=True)
        (folder / "session.json").write_text(json.dumps({"user_id": "ana", "session_id": f"s{session}"}))
        lines = []
        for label, takes in counts.items():
            for take in range(takes[session] if session < len(takes) else 0):
                name = f"{label}{take}.{ending}"
                wave = np.clip(sound(label, session, take), -0.99, 0.99)
                soundfile.write(folder / name, np.repeat(wave[:, None], 2, axis=1), rate)
                media = {"path": name, "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest()}
                example = {"record_id": f"{session}-{name}", "user_id": "ana", "session_id": f"s{session}"}
                example |= {"timestamp": f"2026-03-0{session + 1}T10:00:00.000Z", "modality": "sound", "label": label}
                lines.append(json.dumps(example | {"media": media, "consent_given": True}))
        (folder / "examples.jsonl").write_text("\n".join(lines) + "\n")
    return root


def trained(root: Path, out: Path, values: Mapping[str, object] = WITHOUT_NETWORK, **job: object) -> Outcome:
    config = SoundConfig.model_validate(values)
    return train(Job(("ana",), root, out, "run", fingerprint="test", log=RunLog(io.StringIO()), **job), config)  # type: ignore[arg-type]


@pytest.mark.slow
def test_hums_hisses_and_clicks_are_told_apart_across_sessions(tmp_path: Path) -> None:
    data = write(tmp_path / "data", dict.fromkeys(("rise", "falling", "hiss", "click!"), (6, 6, 6)))
    entry = trained(data, tmp_path / "out").entry
    assert entry.training_metrics is not None
    assert entry.training_metrics["accuracy"] > 0.9
    assert entry.training_metrics["open_set_auroc"] > 0.75
    assert entry.training_metrics["false_rejection_rate"] < 0.1


@pytest.mark.slow
def test_a_label_with_twenty_times_fewer_sounds_is_still_recognised(tmp_path: Path) -> None:
    data = write(tmp_path / "data", {"rise": (27, 27, 26), "falling": (2, 1, 1), "hiss": (27, 27, 26)})
    entry = trained(data, tmp_path / "out").entry
    recall = {row["label"]: row["recall"] for row in entry.metrics["labels"]}
    assert recall["falling"] >= 0.75
    assert min(recall["rise"], recall["hiss"]) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("counts", [(1,), (1, 1), (2,)])
def test_one_or_two_sounds_a_label_still_train_and_are_called_insufficient(
    tmp_path: Path, counts: tuple[int, ...]
) -> None:
    data = write(tmp_path / "data", dict.fromkeys(("rise", "hiss", "click!"), counts))
    outcome = trained(
        data, tmp_path / "out", {**WITHOUT_NETWORK, "minimum_per_label": 1, "gate": {"beat_majority": False}}
    )
    assert outcome.entry.verdict == "insufficient data"
    assert (outcome.bundle.folder / "model.onnx").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "rate"), [("flac", 48_000), ("ogg", 8000)])
def test_other_containers_train_as_well(tmp_path: Path, ending: str, rate: int) -> None:
    data = write(tmp_path / "data", dict.fromkeys(("hiss", "click!"), (3, 3)), ending, rate)
    entry = trained(data, tmp_path / "out").entry
    assert {row["rate"] for row in entry.model_dump()["media"]} == {rate}
    assert entry.model_dump()["replay"]["whole"] == 12


@pytest.mark.slow
@needs_network
def test_the_network_is_part_of_the_model(tmp_path: Path) -> None:
    data = write(tmp_path / "data", dict.fromkeys(("rise", "hiss", "click!"), (3, 3)))
    outcome = trained(
        data, tmp_path / "out", {"candidates": [{"features": "speech_embedding", "classifier": CENTROID}]}
    )
    assert outcome.entry.model_dump()["encoder_refs"] == []
    model = (outcome.bundle.folder / "model.onnx").read_bytes()
    assert 1_800_000 < len(model) < 4_000_000
    session = onnxruntime.InferenceSession(model)
    for label in ("rise", "hiss", "click!"):
        path = data / "users" / "ana" / "sessions" / "s0" / f"{label}0.wav"
        wave, _ = read_wave(path, SoundConfig().decoding)
        (found,) = session.run(["label"], {"wave": wave})
        assert outcome.entry.model_dump()["labels"][int(found)] == label


@pytest.mark.slow
def test_cached_features_give_the_same_model(tmp_path: Path) -> None:
    data = write(tmp_path / "data", dict.fromkeys(("rise", "hiss"), (3, 3)))
    cache = FeatureCache(tmp_path / "cache.sqlite")
    models = [
        (trained(data, tmp_path / str(run), cache=cache).bundle.folder / "model.onnx").read_bytes() for run in range(2)
    ]
    assert models[0] == models[1]


@pytest.mark.slow
def test_copies_join_the_training_rows_only_and_have_to_help(tmp_path: Path) -> None:
    data = write(tmp_path / "data", dict.fromkeys(("rise", "hiss"), (3, 3)))
    plain = trained(data, tmp_path / "plain")
    copied = trained(data, tmp_path / "copied", {**WITHOUT_NETWORK, "augmentation": {"copies": 2}})
    assert copied.entry.sample_count == plain.entry.sample_count == 12
    assert np.sum(copied.entry.metrics["confusion_matrix"]) == 12
    names = list(plain.entry.metrics["candidates"])
    assert list(copied.entry.metrics["candidates"]) == [*names, *(f"{name}, with copies" for name in names)]
    assert copied.entry.metrics["chosen"] == plain.entry.metrics["chosen"], "nothing is left for copies to improve"
    models = [(outcome.bundle.folder / "model.onnx").read_bytes() for outcome in (plain, copied)]
    assert models[0] == models[1]


@pytest.mark.slow
def test_a_head_learns_from_a_training_sound_and_its_copies_alone(tmp_path: Path) -> None:
    data = write(tmp_path / "data", dict.fromkeys(("rise", "hiss"), (3, 3)))
    config = SoundConfig.model_validate({**WITHOUT_NETWORK, "augmentation": {"copies": 2}})
    job = Job(("ana",), data, tmp_path, "run", fingerprint="test", log=RunLog(io.StringIO()))
    dataset = load(job, config, "sound")
    candidates = sound_candidates(job, config, open_recordings(job, dataset, config.decoding))
    classes, train = dataset.label_index, np.array([0, 1, 4, 5, 8])
    for candidate in candidates:
        rows = candidate.source.rows(train)
        features, own = rows.training(train, classes)
        copies = 2 if candidate.name.endswith(", with copies") else 0
        assert len(features) == len(own) == len(train) * (1 + copies)
        np.testing.assert_array_equal(np.bincount(own), (1 + copies) * np.bincount(classes[train]))
        allowed = rows.copies[np.isin(rows.owner, train)] if copies else rows.copies
        np.testing.assert_array_equal(features, np.concatenate([rows.base[train], allowed]))


@pytest.mark.slow
def test_a_silent_model_input_has_a_finite_answer(tmp_path: Path) -> None:
    data = write(tmp_path / "data", dict.fromkeys(("rise", "hiss"), (3, 3)))
    folder = trained(data, tmp_path / "out").bundle.folder
    session = onnxruntime.InferenceSession((folder / "model.onnx").read_bytes())
    for wave in (np.zeros(0, np.float32), np.zeros(RATE, np.float32)):
        _, chances, accepted, score = session.run(["label", "probabilities", "accepted", "score"], {"wave": wave})
        assert np.isfinite(chances).all()
        assert np.isfinite(score)
        assert not accepted, "silence is none of the sounds"


def test_the_default_file_says_what_the_schema_says() -> None:
    assert load_config(SoundConfig, CONFIGS / "default.yaml", []) == SoundConfig()
    assert set(yaml.safe_load((CONFIGS / "default.yaml").read_text())) == set(SoundConfig.model_fields)


def test_the_alternative_file_needs_no_network() -> None:
    config = load_config(SoundConfig, CONFIGS / "without_network.yaml", [])
    assert config.candidates != "auto"
    assert {candidate.features for candidate in config.candidates} == {("spectral",)}


def test_every_configuration_file_opens_with_its_command() -> None:
    files = sorted(CONFIGS.glob("*.yaml"))
    assert len(files) == 2
    for file in files:
        assert file.read_text().startswith(
            f"# sound-train --user ana --data data --out out --config {file.parent.parent.name}/configs/{file.name}\n"
        )


def test_a_candidate_that_is_not_known_is_refused_with_its_place() -> None:
    with pytest.raises(
        ConfigError, match=re.escape("candidates.0: must be a section with the keys features, classifier, not 'magic'")
    ):
        load_config(SoundConfig, None, ["candidates=[magic]"])


@needs_network
@pytest.mark.realdata
@pytest.mark.slow
def test_spoken_digits_of_one_speaker_are_recognised_across_sessions(real_data: Path, tmp_path: Path) -> None:
    recordings = sorted((real_data / "free-spoken-digits" / "recordings").glob("*_theo_*.wav"))
    assert len(recordings) == 500
    for path in recordings:
        digit, take = path.stem.split("_")[0], int(path.stem.split("_")[2])
        folder = tmp_path / "data" / "users" / "ana" / "sessions" / f"s{take // 10}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path.name).write_bytes(path.read_bytes())
        media = {"path": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        example = {"record_id": path.stem, "user_id": "ana", "session_id": folder.name, "label": digit, "media": media}
        example |= {"timestamp": "2026-03-01T10:00:00.000Z", "modality": "sound", "consent_given": True}
        with (folder / "examples.jsonl").open("a") as file:
            file.write(json.dumps(example) + "\n")
        (folder / "session.json").write_text(json.dumps({"user_id": "ana", "session_id": folder.name}))
    entry = trained(tmp_path / "data", tmp_path / "out", {}).entry
    assert entry.training_metrics is not None
    assert entry.training_metrics["accuracy"] >= 0.97
    assert entry.training_metrics["open_set_auroc"] >= 0.97
    assert entry.training_metrics["false_rejection_rate"] <= 0.08
