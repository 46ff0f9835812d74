"""Speech models: what is said in other languages, without encoders, with few transcripts, said twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_registry.names import parse_modality
from shared.commands.main import run
from shared.commands.train import trainer_command
from shared.errors import ConfigError, DataError
from shared.features.encoders import load_encoder
from shared.features.graph import FeatureGraph, TensorSpec
from shared.features.pretrained import pretrained_folder
from shared.prediction import LiveModel
from speech_context_trainer.preprocessing.context import Confidence, confidence_input
from speech_context_trainer.preprocessing.text import code_points
from speech_context_trainer.train import RECIPE, TRAINER, SpeechConfig, usable_candidates
from tests.speech_context_trainer.talk import ENGLISH, OTHER_LANGUAGES, write_sessions

HAVE = [name for name in ("use", "minilm") if (pretrained_folder() / name / "encoder.json").is_file()]
needs_encoders = pytest.mark.skipif(len(HAVE) < 2, reason="use or minilm is not made; run: python -m build_tools")


KERNEL = {"type": "kernel_ridge", "kernel": "rbf", "alpha": 0.1, "scaler": "none"}


def _only(*features: str) -> tuple[str, str]:
    """Return the options that leave one candidate to train."""
    return "--set", f"candidates={json.dumps([{'features': features, 'classifier': KERNEL}])}"


def _train(capsys: pytest.CaptureFixture[str], data: Path, out: Path, *words: str) -> dict[str, Any]:
    arguments = ["--user", "ana", "--data", str(data), "--out", str(out), *words]
    code = run(lambda: trainer_command(TRAINER, RECIPE)(arguments, standalone_mode=False))
    entry: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert code == 0, entry["error_message"]
    return entry


def _model(entry: dict[str, Any], out: Path) -> LiveModel:
    folders = {ref["name"]: out / "encoders" / ref["sha256"] for ref in entry["encoder_refs"]}
    return LiveModel(Path(entry["bundle"]) / "model.onnx", folders)


def _label(model: LiveModel, text: str, folder: Path, name: str = "said.txt") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    inputs = RECIPE.decode(
        folder / name, model.properties["spec"]["decode"], {n: load_encoder(f) for n, f in model.encoders.items()}
    )
    wanted = {tensor.name: inputs[tensor.name] for tensor in model.session.get_inputs()}
    return str(model.properties["labels"][int(model.session.run(["label"], wanted)[0])])


@pytest.mark.slow
@needs_encoders
@pytest.mark.parametrize("features", [("use",), ("use", "minilm")], ids=" ".join)
def test_labels_trained_in_english_are_recognised_in_german_and_spanish(
    features: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_sessions(tmp_path / "data", ENGLISH)
    entry = _train(capsys, data, tmp_path / "out", *_only(*features))
    model = _model(entry, tmp_path / "out")
    answers = [(_label(model, text, tmp_path), label) for label, texts in OTHER_LANGUAGES.items() for text in texts]
    assert len(answers) == 12
    assert sum(answer == label for answer, label in answers) >= 10


@pytest.mark.slow
@needs_encoders
def test_only_the_winners_encoders_are_named_and_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_sessions(tmp_path / "data", ENGLISH)
    entry = _train(capsys, data, tmp_path / "out", *_only("use"))
    assert [ref["name"] for ref in entry["encoder_refs"]] == ["use"]
    assert [path.name for path in (tmp_path / "out" / "encoders").iterdir()] == [entry["encoder_refs"][0]["sha256"]]
    assert (Path(entry["bundle"]) / "model.onnx").stat().st_size < 4_000_000


@pytest.mark.slow
def test_without_encoders_ngrams_are_trained_and_the_log_and_card_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_TRAINER_PRETRAINED", str(tmp_path / "nothing"))
    entry = _train(
        capsys, write_sessions(tmp_path / "data", ENGLISH), tmp_path / "out", "--set", "gate.beat_majority=false"
    )
    assert entry["metrics"]["chosen"] == "ngrams: kernel_ridge(scaler=none, alpha=0.3)"
    assert entry["encoder_refs"] == []
    assert not (tmp_path / "out" / "encoders").exists()
    assert len(entry["notes"]) == 2
    card = (Path(entry["bundle"]) / "model_card.html").read_text()
    for name, note in zip(("use", "minilm"), entry["notes"], strict=True):
        assert f"without the sentence encoder {name}" in note
        assert f"without the sentence encoder {name}" in card


def _usable(available: set[str], few: bool, *configured: tuple[str, ...]) -> list[tuple[str, ...]]:
    candidates: Any = [{"features": features, "classifier": KERNEL} for features in configured] or "auto"
    config = SpeechConfig.model_validate({"candidates": candidates})
    return [candidate.features or () for candidate in usable_candidates(config, available, few)]


def test_candidates_are_reduced_to_the_features_that_are_there() -> None:
    listed = (("ngrams",), ("use", "minilm"), ("use", "minilm", "ngrams"), ("use",))
    assert _usable({"use"}, False, *listed) == [("ngrams",), ("use",), ("use", "ngrams")]
    assert _usable(set(), True, *listed) == [("ngrams",)]
    around = (("use", "minilm"), ("use", "minilm", "use_context", "minilm_context", "confidence"))
    assert _usable({"use", "minilm"}, False, *around) == [("use", "minilm")], "no surroundings were noted"
    assert _usable({"use", "use_context"}, False, *around) == [("use",), ("use", "use_context")]
    assert _usable({"use", "confidence"}, False, *around) == [("use",), ("use", "confidence")]
    for alone in (("use",), ("use_context",), ("confidence",)):
        with pytest.raises(ConfigError, match="make setup"):
            _usable({"confidence"}, False, alone)


def test_with_few_samples_ngrams_alone_are_compared_only_where_they_are_named() -> None:
    encoded = {"use", "minilm"}
    embedded = ("use", "minilm")
    blended = (*embedded, "coarse_ngrams")
    assert _usable(encoded, False) == [blended, ("ngrams",), embedded]
    assert _usable(encoded, True) == [blended, embedded], "too few samples to tell that n-grams are worse"
    assert _usable({"use"}, True) == [("use", "coarse_ngrams"), ("use",)]
    assert _usable(set(), True) == [("ngrams",)], "nothing else is left"
    assert _usable(encoded, True, ("ngrams",), ("use",)) == [("ngrams",), ("use",)]


def test_a_classifier_without_features_is_trained_on_each_set_that_suits() -> None:
    config = SpeechConfig.model_validate({"candidates": [{"classifier": {"type": "ridge"}}]})
    found = usable_candidates(config, {"use", "minilm", "confidence"}, few=False)
    blended = ("use", "minilm", "coarse_ngrams")
    sets = [blended, ("ngrams",), ("use", "minilm"), ("use", "minilm", "confidence")]
    assert [(candidate.features, candidate.classifier.type) for candidate in found] == [(s, "ridge") for s in sets]


@pytest.mark.slow
def test_what_is_said_in_two_sessions_stands_on_one_side_and_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twice = {label: [*texts, f"{texts[1].upper()}!", texts[2]] for label, texts in ENGLISH.items()}
    entry = _train(capsys, write_sessions(tmp_path / "data", twice), tmp_path / "out", *_only("ngrams"))
    assert any(warning.startswith("8 transcripts repeat") for warning in entry["warnings"])


@pytest.mark.slow
@needs_encoders
@pytest.mark.parametrize("helpful", [True, False])
def test_surroundings_are_used_where_they_help(
    helpful: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    colours = [
        "red",
        "blue",
        "green",
        "black",
        "white",
        "yellow",
        "brown",
        "pink",
        "grey",
        "violet",
        "orange",
        "silver",
    ]
    said = {
        "drink": [f"i want the {colour} one" for colour in colours],
        "song": [f"i want that {colour} one" for colour in colours],
    }
    for k in range(0, len(colours), 2):  # so that neither wording tells the label
        said["drink"][k], said["song"][k] = said["song"][k], said["drink"][k]
    places = {"drink": "kitchen", "song": "music room"}
    if not helpful:
        said = {label: list(ENGLISH[label]) * 2 for label in ("hungry", "pain")}
        places = dict.fromkeys(said, "at home")
    more = {text: {"location": places[label]} for label, texts in said.items() for text in texts}
    data = write_sessions(tmp_path / "data", said, more=more)
    entry = _train(capsys, data, tmp_path / "out", "--set", "gate.beat_majority=false")
    names = [name.partition(":")[0] for name in entry["metrics"]["candidates"]]
    around = "use+minilm+use_context+minilm_context"
    assert names == ["use+minilm+coarse_ngrams", "ngrams", "use+minilm", around]
    assert entry["metrics"]["chosen"].startswith("use+minilm+use_context+minilm_context:") == helpful
    if helpful:
        model = _model(entry, tmp_path / "out")
        for label, place in places.items():
            query = json.dumps({"transcript": "i want the golden one", "location": place})
            assert _label(model, query, tmp_path, "said.json") == label


@pytest.mark.slow
@needs_encoders
@pytest.mark.parametrize("helpful", [True, False])
def test_the_recognisers_confidence_is_used_where_it_helps(
    helpful: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A recogniser may hear one thing badly that a person says, and another well."""
    things = ["cup", "book", "ball", "shoe", "coat", "lamp", "door", "plate", "chair", "spoon", "clock", "basket"]
    said = {"give": [f"the {thing}" for thing in things], "look": [f"that {thing}" for thing in things]}
    for k in range(0, len(things), 2):  # so that the wording does not tell
        said["give"][k], said["look"][k] = said["look"][k], said["give"][k]
    sure = {"give": 0.9, "look": 0.2}
    if not helpful:
        said = {label: list(ENGLISH[label]) * 2 for label in ("hungry", "pain")}
        sure = dict.fromkeys(said, 0.5)
    more = {text: {"confidence": sure[label]} for label, texts in said.items() for text in texts}
    data = write_sessions(tmp_path / "data", said, more=more)
    entry = _train(capsys, data, tmp_path / "out", "--set", "gate.beat_majority=false")
    assert entry["metrics"]["chosen"].startswith("use+minilm+confidence:") == helpful
    model = _model(entry, tmp_path / "out")
    assert ("confidence" in {tensor.name for tensor in model.session.get_inputs()}) == helpful
    if helpful:
        for label, value in sure.items():
            query = json.dumps({"transcript": "the glass", "confidence": value})
            assert _label(model, query, tmp_path, "said.json") == label
        assert _label(model, "the glass", tmp_path) in sure, "without a confidence there is an answer, too"


def test_confidence_is_a_direction_and_nothing_where_it_is_unknown() -> None:
    function = Confidence(0.5)
    graph = FeatureGraph("confidence", (TensorSpec("confidence", "float32", (1,)),), function)
    for value in (None, 0.0, 0.3, 1.0):
        inputs = {"confidence": confidence_input(value)}
        (row,) = graph.run([inputs])
        np.testing.assert_allclose(row, function(inputs), atol=1e-6)
        assert np.linalg.norm(row) == pytest.approx(0.0 if value is None else 0.5, abs=1e-6)


def test_speech_context_is_another_name_for_speech() -> None:
    assert parse_modality("speech_context") == "speech" == TRAINER.modality


@pytest.mark.parametrize(
    ("name", "content"),
    [("said.txt", b"\xff\xfe\x00"), ("said.json", b"{"), ("said.json", b"[]"), ("said.json", b'{"transcript": 3}')],
)
def test_a_file_that_is_no_text_is_refused_with_its_name(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: transcript: ") as refused:
        RECIPE.decode(tmp_path / name, {}, {})
    assert len(refused.value.faults) == 1


def test_an_empty_text_has_code_points() -> None:
    np.testing.assert_array_equal(code_points(""), [32])
