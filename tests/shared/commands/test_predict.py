"""`model-trainer predict`: a version of the registry or a portable file, and what is neither."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from demo.make_data import PEOPLE, SESSIONS, write_session
from model_registry.store import Registry
from shared.commands.main import model_trainer, run
from shared.commands.train import trainer_command
from shared.errors import ConfigError
from shared.prediction import LiveModel, portable_model
from shared.recipe import load_recipe
from shared.trainers import find_trainer
from tests.published_models import PublishedModels

USER = PEOPLE[0].user_id


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with a gesture model."""
    root = tmp_path_factory.mktemp("predicting")
    for session in SESSIONS:
        write_session(root / "data", PEOPLE[0], session, 0)
    words = ["--user", USER, "--data", str(root / "data"), "--out", str(root / "out"), "--demo-data"]
    words += ["--registry", str(root / "models"), "--set", "evaluation.folds=2"]
    gesture = find_trainer("gesture")
    assert run(lambda: trainer_command(gesture, load_recipe(gesture))(words, standalone_mode=False)) == 0
    return root / "models"


def _predict(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = run(lambda: model_trainer(["predict", *words], standalone_mode=False))
    printed = capsys.readouterr()
    return code, printed.out, printed.err


@pytest.mark.slow
def test_a_version_and_its_portable_file_answer_alike(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    portable = tmp_path / "portable.onnx"
    Registry(models).export(USER, "gesture", portable, form="onnx")
    files = [str(path) for path in sorted((models.parent / "data").glob("users/*/sessions/*/features/*.npz"))[:3]]
    assert len(files) == 3
    capsys.readouterr()
    code, out, _ = _predict(capsys, "--user", USER, "--modality", "gesture", "--registry", str(models), *files)
    again, other, _ = _predict(capsys, "--model", str(portable), *files)
    assert code == again == 0
    lines, others = ([json.loads(line) for line in text.splitlines()] for text in (out, other))
    assert [line["file"] for line in lines] == files
    assert {(line["user_id"], line["modality"], line["model_version"]) for line in lines} == {(USER, "gesture", "v1")}
    assert {line["model"] for line in others} == {str(portable)}
    for one, two in zip(lines, others, strict=True):
        assert one["classifier_output"] == two["classifier_output"]
        assert one["label"] == two["label"] == max(one["classifier_output"], key=one["classifier_output"].__getitem__)


@pytest.mark.slow
@pytest.mark.xdist_group("published_models")
def test_a_line_names_the_modality_as_a3cps_messages_do(published_models: PublishedModels) -> None:
    named = {
        modality: published_models.predictions(modality, files[:1])[0]["modality"]
        for modality, files in published_models.files.items()
    }
    assert named == {"gesture": "gesture", "sound": "audio", "speech": "speech", "visual_environment": "image"}


def test_of_a_folder_its_files_are_classified_and_a_bad_one_costs_itself_alone(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = sorted((models.parent / "data").glob("users/*/sessions/*/features/*.npz"))[:2]
    for number, path in enumerate(good):
        shutil.copyfile(path, tmp_path / f"take{number}.npz")
    (tmp_path / "broken.npz").write_bytes(b"no features")
    words = ["--user", USER, "--modality", "gesture", "--registry", str(models), str(tmp_path)]
    code, out, err = _predict(capsys, *words)
    assert code == 3
    assert [Path(json.loads(line)["file"]).name for line in out.splitlines()] == ["take0.npz", "take1.npz"]
    assert f"{tmp_path}/broken.npz: features: is not a readable npz file" in err


@pytest.mark.slow
def test_which_model_is_said_in_one_way(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(models / "registry.json")
    for words in ([file], ["--user", USER, file], ["--model", file, "--modality", "gesture", file]):
        code, out, err = _predict(capsys, *words)
        assert (code, out) == (2, "")
        assert "--model" in err


def test_what_is_no_portable_model_is_refused(models: Path, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(ConfigError, match=r"text.onnx: is no portable model; .* registry export"):
        portable_model(tmp_path / "text.onnx")


def test_a_model_that_needs_its_encoder_beside_it_is_not_portable(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Registry(models).resolve(USER, "gesture").files["model"]
    assert portable_model(path).properties["labels"]
    spec = LiveModel(path, {}).properties["spec"] | {"encoders": [{"name": "lite0", "sha256": "0" * 64}]}
    monkeypatch.setattr(LiveModel, "properties", {"labels": [], "spec": spec, "encoder_files": {}})
    with pytest.raises(ConfigError, match="is no portable model"):
        portable_model(path)


def test_input_that_holds_nothing_is_unknown_with_a_reason(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Registry(models).resolve(USER, "gesture").files["model"]
    width = LiveModel(path, {}).properties["spec"]["decode"]["width"]
    np.savez(tmp_path / "nobody.npz", features=np.zeros((40, width), np.float32))
    file = str(tmp_path / "nobody.npz")
    code, out, err = _predict(capsys, "--user", USER, "--modality", "gesture", "--registry", str(models), file)
    line = json.loads(out)
    assert (code, err) == (0, "")
    assert (line["label"], line["reason"]) == ("unknown", "no landmark in any frame")
    scores = line["classifier_output"]
    assert scores.pop("unknown") == 1.0
    assert scores
    assert set(scores.values()) == {0.0}
