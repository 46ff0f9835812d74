"""Loading a model from where it may be, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_registry.errors import RegistryError
from model_registry.location import open_registry
from model_trainer import ConfigError, DataError, Model, TrainerError, load, train
from shared.commands.main import model_trainer, run
from tests.model_trainer.labelled import WIDTH, labelled, sample

WHOSE: dict[str, Any] = {"user_id": "ana", "modality": "sound"}
NEW = [sample("more", 900, 6), sample("no", 901, 6), np.full((6, WIDTH), 50.0)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a registry of two versions, the second one's bundle in `out`, and a portable file of it."""
    folder = tmp_path_factory.mktemp("models")
    for frames in (5, 6):
        with train("sound", **labelled(frames).columns, user_id="ana", consent=True) as result:
            assert result.publish(folder / "registry", promote="always").status == "active"
            if frames == 6:
                result.save(folder / "out")
    words = ["registry", "export", "ana", "sound", str(folder / "ana.onnx"), "--registry", str(folder / "registry")]
    assert run(lambda: model_trainer(words, standalone_mode=False)) == 0
    return folder


def test_registry_bundle_and_portable_file_hold_the_same_model(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (bundle,) = models.glob("out/sound_*")
    sources: list[Model] = [
        load(models / "registry", **WHOSE),
        load(str(models / "registry"), **WHOSE, version="v2"),
        load(open_registry(str(models / "registry")), user_id="ana", modality="audio", version=2),
        load(bundle),
        load(models / "ana.onnx"),
    ]
    assert [model.version for model in sources] == ["v2", "v2", "v2", None, None]
    assert [model.user_id for model in sources] == ["ana"] * 4 + [None]
    assert len({model.rejection_threshold for model in sources[:4]}) == 1
    assert len({(model.labels, model.modality, model.set_threshold, model.fallback) for model in sources}) == 1
    expected = sources[0].predict(NEW)
    assert [prediction.label for prediction in expected] == ["more", "no", "unknown"]
    assert all(model.predict(tuple(NEW)) == expected for model in sources)
    np.savez(tmp_path / "new.npz", features=NEW[0])
    words = ["predict", "--user", "ana", "--modality", "sound", "--registry", str(models / "registry")]
    assert run(lambda: model_trainer([*words, str(tmp_path / "new.npz")], standalone_mode=False)) == 0
    line = json.loads(capsys.readouterr().out)
    assert sources[0].predict(tmp_path / "new.npz") == expected[0] == sources[0].predict(str(tmp_path / "new.npz"))
    assert (line["label"], line["classifier_output"]) == (expected[0].label, expected[0].scores)
    assert line["label_set"] == list(expected[0].label_set or ())


def test_an_older_version_is_loaded_by_its_number(models: Path) -> None:
    assert load(models / "registry", **WHOSE, version=1).version == "v1"


@pytest.mark.slow
def test_the_pooled_model_stands_in(models: Path, tmp_path: Path) -> None:
    people = ["ana", "ben", "cem"] * 12
    with train("sound", **labelled(6).columns, people=people, consent=True) as result:
        result.publish(tmp_path / "models")
    model = load(tmp_path / "models", user_id="dora", modality="sound")
    assert model.fallback and model.user_id == "dora"


@pytest.mark.parametrize(
    ("source", "arguments", "said"),
    [
        ("nowhere", WHOSE, "is not there; name a registry"),
        ("registry", {}, "is a registry; name user_id and modality"),
        ("registry", {"user_id": "ben", "modality": "sound"}, "no active version"),
        ("registry", {**WHOSE, "version": "v9"}, "v9"),
        ("registry", {**WHOSE, "modality": "t/aste"}, "modality"),
        ("ana.onnx", WHOSE, "is one model; leave out user_id, modality and version"),
        ("text.txt", {}, "is no portable model"),
        ("empty", WHOSE, "empty"),
    ],
)
def test_what_holds_no_model_is_said(models: Path, source: str, arguments: dict[str, Any], said: str) -> None:
    (models / "text.txt").write_text("text")
    (models / "empty").mkdir(exist_ok=True)
    with pytest.raises((TrainerError, RegistryError)) as raised:
        load(models / source, **arguments)
    assert said in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.slow
def test_a_changed_model_is_refused(models: Path, tmp_path: Path) -> None:
    with train("sound", **labelled(6).columns, user_id="ana", consent=True) as result:
        bundle = result.save(tmp_path)
    content = (bundle / "model.onnx").read_bytes()
    (bundle / "model.onnx").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(RegistryError, match="is not what was published"):
        load(bundle)


def test_files_without_a_signature_are_refused_where_one_is_required(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_TRAINER_REQUIRE_SIGNATURE", "1")
    (bundle,) = models.glob("out/sound_*")
    for source in (bundle, models / "ana.onnx"):
        with pytest.raises(ConfigError, match="carries no signature"):
            load(source)
    with pytest.raises(RegistryError):
        load(models / "registry", **WHOSE)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (NEW[0][:, :5], "sample: features: 5 numbers a frame, but the model takes 24"),
        ([NEW[0], NEW[1][:, :5]], "samples[1]: features: 5 numbers a frame"),
        ("nothing.npz", "sample (nothing.npz): features: file not found"),
        (None, "sample: features: must be numbers, a text or a path"),
        (np.full((2, WIDTH), np.nan), "sample: features: holds NaN"),
    ],
)
def test_a_sample_that_cannot_be_used_is_named(models: Path, given: Any, said: str) -> None:
    with load(models / "registry", **WHOSE) as model, pytest.raises(DataError) as raised:
        model.predict(given)
    assert str(raised.value).startswith(said) and "\n" not in str(raised.value)


def test_a_sample_of_zeros_holds_nothing_to_classify(models: Path) -> None:
    prediction = load(models / "registry", **WHOSE).predict(np.zeros((6, WIDTH)))
    assert (prediction.label, prediction.reason) == ("unknown", "all numbers are zero")
