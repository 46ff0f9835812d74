"""What was published can be made again, and a model of several people stands in for whoever has none of their own."""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from demo.make_data import main as make_demo_data
from model_registry.names import MODALITIES
from model_registry.store import Registry
from shared.cli import model_trainer, run
from shared.cli_trainer import trainer_command
from shared.fingerprint import code_files, library_versions
from shared.pretrained import pretrained_folder
from shared.recipe import Trainer

PACKAGES = {
    "gesture": "gesture_trainer",
    "sound": "sound_trainer",
    "speech": "speech_context_trainer",
    "visual_environment": "visual_environment_trainer",
}
Answer = tuple[int, str, str]  # exit code, standard output, standard error


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's data root. Tests that change it work on a copy."""
    root = tmp_path_factory.mktemp("demo") / "data"
    make_demo_data([str(root)], standalone_mode=False)
    return root


def _trainer(modality: str) -> Trainer:
    found: Trainer = importlib.import_module(f"{PACKAGES[modality]}.train").TRAINER
    return found


@pytest.fixture
def train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Train and publish into `models`; return exit code and log entry."""

    def train(modality: str, data: Path, *words: str) -> tuple[int, dict[str, Any]]:
        command = trainer_command(_trainer(modality))
        places = ["--data", str(data), "--out", str(tmp_path / "out"), "--registry", str(tmp_path / "models")]
        code = run(lambda: command([*words, *places, "--demo-data"], standalone_mode=False))
        return code, json.loads(capsys.readouterr().out.splitlines()[-1])

    return train


@pytest.fixture
def call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Run a command of model-trainer on the registry `models`."""

    def call(*words: str) -> Answer:
        code = run(lambda: model_trainer([*words, "--registry", str(tmp_path / "models")], standalone_mode=False))
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def _reproduce(call: Callable[..., Answer], modality: str, data: Path, *words: str) -> Answer:
    return call("reproduce", "--user", "ana", "--modality", modality, "--version", "v1", "--data", str(data), *words)


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_published_version_is_made_again_to_the_byte(
    modality: str, data: Path, train: Callable[..., Any], call: Callable[..., Answer]
) -> None:
    words = ("--seed", "7", "--session", "sess_1", "--session", "sess_2", "--set", "evaluation.learning_curve=false")
    assert train(modality, data, "--user", "ana", *words)[0] == 0
    code, told, _ = _reproduce(call, modality, data)
    assert (code, told.startswith(f"ana/{modality} v1: byte-identical")) == (0, True), told


def test_scripts_get_one_object(data: Path, train: Callable[..., Any], call: Callable[..., Answer]) -> None:
    train("speech", data, "--user", "ana", "--session", "sess_1")
    code, told, _ = _reproduce(call, "speech", data, "--json")
    assert (code, json.loads(told)) == (0, {"version": "ana/speech v1", "identical": True, "differences": []})


def test_other_data_are_named_by_record(
    data: Path, train: Callable[..., Any], call: Callable[..., Answer], tmp_path: Path
) -> None:
    train("gesture", data, "--user", "ana")
    changed = tmp_path / "changed"
    shutil.copytree(data, changed)
    path = changed / "users/ana/sessions/sess_1/examples.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    mine = [row for row in rows if row["modality"] == "gesture" and row["label_status"] != "rejected"]
    gone, other, moved = mine[0], mine[1], mine[2]
    landmarks = path.parent / moved["features"]["uri"]
    with np.load(landmarks, allow_pickle=False) as arrays:
        kept = {
            name: arrays[name] * np.float32(1.1) if arrays[name].dtype.kind == "f" else arrays[name] for name in arrays
        }
    np.savez(landmarks, **kept)
    moved["features"]["hash"] = f"sha256:{hashlib.sha256(landmarks.read_bytes()).hexdigest()}"
    other["label"] = next(row["label"] for row in mine if row["label"] != other["label"])
    path.write_text("".join(json.dumps(row) + "\n" for row in rows if row is not gone))
    code, told, _ = _reproduce(call, "gesture", changed)
    assert code == 3
    assert f"data: 1 gone ({gone['record_id']}); 1 labelled otherwise ({other['record_id']}); 1 with other" in told
    assert f"content ({moved['record_id']})" in " ".join(told.split())
    assert "files: model" in told and "libraries" not in told and "code:" not in told


def test_other_libraries_and_other_code_are_named(
    data: Path, train: Callable[..., Any], call: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    train("gesture", data, "--user", "ana")
    versions, files = library_versions("gesture_trainer"), code_files("gesture_trainer", pretrained_folder())
    monkeypatch.setattr("shared.training_log.library_versions", lambda _: {**versions, "numpy": "99"})
    monkeypatch.setattr("shared.training_log.code_files", lambda *_: files | {"gesture_trainer/train.py": "f" * 64})
    monkeypatch.setattr("shared.recipe.label_map", lambda labels: b"{}")
    code, told, _ = _reproduce(call, "gesture", data)
    assert code == 3
    assert f"libraries: numpy was {versions['numpy']}, is 99\n" in told
    assert "code: gesture_trainer/train.py changed since\n" in told
    assert "files: label map differ" in told and "data:" not in told


def test_a_version_that_is_not_there_and_data_that_are_not_are_told(
    data: Path, train: Callable[..., Any], call: Callable[..., Answer], tmp_path: Path
) -> None:
    train("gesture", data, "--user", "ana")
    words = ("reproduce", "--user", "ana", "--modality", "gesture", "--data", str(data), "--version")
    assert (call(*words, "v9")[0], "v9" in call(*words, "v9")[2]) == (3, True)
    assert _reproduce(call, "gesture", tmp_path / "nowhere")[0] == 3


def test_pooling_needs_everybodys_consent(data: Path, train: Callable[..., Any], tmp_path: Path) -> None:
    code, entry = train("gesture", data, "--pool-users", "ana,ben")
    assert (code, entry["status"]) == (2, "failure") and "--consent-to-pool" in entry["error_message"]
    words = ("--pool-users", "ana,ben", "--consent-to-pool", "--set", "data.require_consent=false")
    code, entry = train("gesture", data, *words)
    assert (code, entry["status"]) == (2, "failure") and "consent" in entry["error_message"]
    assert not (tmp_path / "models").exists()


def test_the_pooled_model_is_tested_on_people_it_has_not_seen(data: Path, train: Callable[..., Any]) -> None:
    code, entry = train("gesture", data, "--pool-users", "ana,ben", "--consent-to-pool")
    assert (code, entry["user_id"], entry["users"]) == (0, "_default", ["ana", "ben"])
    assert entry["metrics"]["validated_by"] == "person"
    assert max(row["sessions"] for row in entry["metrics"]["labels"]) <= 2, "people, not sessions"
    assert entry["session_count"] == 6
    card = (Path(entry["bundle"]) / "model_card.html").read_text()
    assert "for people without a model of their own" in card and "of recordings of people that it had not seen" in card


def test_the_pooled_model_answers_for_whoever_has_none_and_says_so(
    data: Path, train: Callable[..., Any], call: Callable[..., Answer], tmp_path: Path
) -> None:
    train("speech", data, "--pool-users", "ana,ben", "--consent-to-pool")
    said = tmp_path / "said.txt"
    said.write_text("I would like something to drink")
    predict = ("predict", "--user", "chika", "--modality", "speech")
    code, told, complaints = call(*predict, str(said))
    answer = json.loads(told)
    assert (code, answer["fallback"], answer["user_id"]) == (0, True, "chika")
    assert "the pooled default answers" in complaints
    assert '"fallback": true' in call("registry", "resolve", "chika", "speech", "--json")[1]

    # One session: whatever chika has is no evidence for another day, so the pooled model goes on answering.
    code, entry = train("speech", data, "--user", "chika", "--session", "sess_1")
    assert (code, entry["verdict"], entry["model_version"]) == (0, "insufficient data", "v1")
    assert Registry(tmp_path / "models").resolve("chika", "speech").fallback
    assert json.loads(call(*predict, str(said))[1])["fallback"] is True

    code, entry = train("speech", data, "--user", "chika")
    assert entry["verdict"] != "insufficient data"
    code, told, complaints = call(*predict, str(said))
    assert json.loads(told)["fallback"] is False and "pooled" not in complaints


def test_the_pooled_model_is_made_again_too(data: Path, train: Callable[..., Any], call: Callable[..., Answer]) -> None:
    train("gesture", data, "--pool-users", "ana,ben", "--consent-to-pool")
    words = ("reproduce", "--user", "_default", "--modality", "gesture", "--data", str(data))
    assert "byte-identical" in call(*words)[1]
    code, _, complaints = call("reproduce", "--user", "ana", "--modality", "gesture", "--data", str(data))
    assert code == 2 and "--user _default" in complaints
