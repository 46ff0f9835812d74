"""Ready-made features, vectors and sequences, go all the way from import to export in every modality."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from shared.commands.main import model_trainer, run
from shared.trainers import Trainer, find_trainer
from tests.shared.data.session_folders import features_row, row, session_folder, write_rows
from tests.trainer_runs import PACKAGES, Run, runs_of

LABELS = ("yes", "no", "more")
WIDTH = 24


@pytest.fixture(params=PACKAGES)
def trainer(request: pytest.FixtureRequest) -> Trainer:
    return find_trainer(request.param)


@pytest.fixture
def train(trainer: Trainer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    return runs_of(trainer, tmp_path / "out", capsys)


def sample(label: str, number: int, frames: int | None) -> np.ndarray:
    """(WIDTH,) or (frames, WIDTH) float32: numbers around what is the label's own."""
    centre = np.random.default_rng(LABELS.index(label)).normal(size=WIDTH)
    noise = np.random.default_rng([number, LABELS.index(label), 9]).normal(size=(frames or 1, WIDTH))
    sequence = (centre + 0.3 * noise).astype(np.float32)
    return sequence if frames else sequence[0]


def features_folder(folder: Path, frames: int | None) -> Path:
    """Write `<label>/<session>/<k>.npy` with five samples of each label in each of three sessions."""
    for label in LABELS:
        for session in range(3):
            for k in range(5):
                path = folder / label / f"day{session}" / f"{k}.npy"
                path.parent.mkdir(parents=True, exist_ok=True)
                np.save(path, sample(label, 10 * session + k, frames))
    return folder


def command(*words: str) -> int:
    return run(lambda: model_trainer(list(words), standalone_mode=False))


@pytest.mark.slow
@pytest.mark.parametrize("frames", [None, 6], ids=["vectors", "sequences"])
def test_they_go_all_the_way(
    frames: int | None, trainer: Trainer, train: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = features_folder(tmp_path / "source", frames)
    data, models = str(tmp_path / "data"), str(tmp_path / "models")
    imported = ("--data", data, "--modality", trainer.modality, "--user", "ana", "--consent")
    assert command("import", str(source), *imported, "--encoding", "my_extractor_v1") == 0
    assert command("check", data) == 0
    assert "45 samples, 45 used" in capsys.readouterr().out
    ran = train(tmp_path / "data", "--registry", models)
    assert ran.code == 0, ran.complaints
    assert ran.entry["encoding"] == "my_extractor_v1" and ran.entry["training_metrics"]["accuracy"] > 0.9
    assert ran.entry["verdict"] in ("good", "weak") and ran.entry["feature_spec_id"].startswith(trainer.modality)
    whose = ("--user", "ana", "--modality", trainer.modality, "--registry", models)
    np.savez(tmp_path / "new.npz", features=sample("more", 99, frames))
    np.save(tmp_path / "narrow.npy", sample("more", 99, frames)[..., :5])
    np.save(tmp_path / "far.npy", 50 + 0 * sample("more", 99, frames))
    (tmp_path / "new.json").write_text(json.dumps(sample("no", 99, frames or 1).tolist()))
    files = [str(tmp_path / name) for name in ("new.npz", "narrow.npy", "new.json", "far.npy")]
    assert command("predict", *whose, *files) == 3
    printed = capsys.readouterr()
    assert [json.loads(line)["label"] for line in printed.out.splitlines()] == ["more", "no", "unknown"]
    assert "narrow.npy: features: 5 numbers a frame, but the model takes 24" in printed.err
    assert command("reproduce", *whose, "--version", "v1", "--data", data) == 0
    assert "byte-identical" in capsys.readouterr().out
    portable = str(tmp_path / "portable.onnx")
    assert command("registry", "export", "ana", trainer.modality, portable, "--registry", models) == 0
    capsys.readouterr()
    assert command("predict", "--model", portable, str(tmp_path / "new.npz")) == 0
    assert json.loads(capsys.readouterr().out)["label"] == "more"


def test_without_an_encoding_numbers_are_no_recordings(
    trainer: Trainer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = features_folder(tmp_path / "source", 6)
    imported = ("--data", str(tmp_path / "data"), "--modality", trainer.modality, "--user", "ana", "--consent")
    code = command("import", str(source), *imported)
    assert code == (0 if trainer.extracts else 3)
    assert trainer.extracts or "holds features, but this modality takes" in capsys.readouterr().err


def test_a_table_of_numbers_needs_an_encoding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [[*np.round(sample(label, k, None), 4), label] for k in range(6) for label in LABELS]
    header = [*(f"f{k}" for k in range(WIDTH)), "label"]
    lines = [",".join(map(str, line)) for line in [header, *rows]]
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    imported = ("import", str(tmp_path / "table.csv"), "--data", str(tmp_path / "data"), "--modality", "sound")
    options = ("--user", "ana", "--blocks", "3", "--consent")
    assert command(*imported, *options) == 3
    assert "ready-made features need --encoding NAME" in capsys.readouterr().err
    assert command(*imported, *options, "--encoding", "openl3_v1") == 0
    assert "openl3_v1: 24 numbers a frame" in capsys.readouterr().out


def test_recordings_and_ready_made_features_are_not_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = session_folder(tmp_path / "data", "ana")
    rows = [row(folder, f"t{k}", LABELS[k % 2]) for k in range(4)]
    rows += [
        features_row(folder, f"f{k}", LABELS[k % 2], sample("yes", k, 3)) | {"modality": "speech"} for k in range(4)
    ]
    write_rows(folder, rows)
    assert command("check", str(tmp_path / "data")) == 3
    reason = "4 samples are ready-made features and 4 are not, but one model takes either"
    assert reason in capsys.readouterr().out
    ran = runs_of(find_trainer("speech"), tmp_path / "out", capsys)(tmp_path / "data")
    assert ran.code == 3 and reason in ran.complaints


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ("sound", "speech", "visual_environment"), indirect=True)
def test_features_that_are_computed_from_recordings_are_refused_and_a_classifier_is_not(
    train: Run, trainer: Trainer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features_folder(tmp_path / "source", None)
    imported = ("--data", str(tmp_path / "data"), "--modality", trainer.modality, "--user", "ana", "--consent")
    assert command("import", str(tmp_path / "source"), *imported, "--encoding", "my_v1") == 0
    capsys.readouterr()
    own = {"sound": "spectral", "speech": "use", "visual_environment": "embedding"}[trainer.modality]
    refused = train(tmp_path / "data", "--set", f"candidates=[{{features: {own}, classifier: {{type: lda}}}}]")
    assert refused.code == 2 and f"the features {own} are computed from recordings" in refused.complaints
    chosen = train(tmp_path / "data", "--set", "candidates=[{features: frame_mean, classifier: {type: ridge}}]")
    assert chosen.code == 0 and chosen.entry["metrics"]["chosen"].startswith("frame_mean: ridge")


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ("sound", "speech", "visual_environment"), indirect=True)
def test_recordings_have_no_features_of_ready_made_ones(train: Run, trainer: Trainer, demo_data: Path) -> None:
    refused = train(demo_data, "--set", "candidates=[{features: resampled, classifier: {type: lda}}]")
    assert refused.code == 2 and "the features resampled are for ready-made features" in refused.complaints
