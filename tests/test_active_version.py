"""From data to the active version: trained again, pooled, and never worse than the active one before."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from model_registry.client import RemoteRegistry
from model_registry.metrics import metric_name
from model_registry.storage.tokens import add_token, tokens_file
from model_registry.store import Registry
from orchestrator.jobs import Job, Outcome
from orchestrator.registry_uploader import publisher
from shared.commands.main import model_trainer, run
from shared.commands.train import trainer_command
from shared.features.pretrained import pretrained_folder
from shared.fingerprint import code_files, library_versions
from shared.recipe import load_recipe
from shared.trainers import find_trainer, modality_names
from tests.model_registry.service.serving import served

Answer = tuple[int, str, str]  # exit code, standard output, standard error


@pytest.fixture
def data(demo_data: Path) -> Path:
    return demo_data


@pytest.fixture
def train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Train and publish into `models`; return exit code and log entry."""

    def train(modality: str, data: Path, *words: str) -> tuple[int, dict[str, Any]]:
        trainer = find_trainer(modality)
        command = trainer_command(trainer, load_recipe(trainer))
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


@pytest.mark.parametrize("modality", modality_names())
@pytest.mark.slow
def test_a_published_version_is_made_again_to_the_byte(
    modality: str, data: Path, train: Callable[..., Any], call: Callable[..., Answer]
) -> None:
    words = ("--seed", "7", "--session", "sess_1", "--session", "sess_2", "--set", "evaluation.learning_curve=false")
    assert train(modality, data, "--user", "ana", *words)[0] == 0
    code, told, _ = _reproduce(call, modality, data)
    assert (code, told.startswith(f"ana/{modality} v1: byte-identical")) == (0, True), told


@pytest.mark.slow
def test_scripts_get_one_object(data: Path, train: Callable[..., Any], call: Callable[..., Answer]) -> None:
    train("speech", data, "--user", "ana", "--session", "sess_1")
    code, told, _ = _reproduce(call, "speech", data, "--json")
    assert (code, json.loads(told)) == (0, {"version": "ana/speech v1", "identical": True, "differences": []})


@pytest.mark.slow
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


@pytest.mark.slow
def test_other_libraries_and_other_code_are_named(
    data: Path,
    train: Callable[..., Any],
    call: Callable[..., Answer],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    train("gesture", data, "--user", "ana")
    versions, files = library_versions("gesture_trainer"), code_files("gesture_trainer", pretrained_folder())
    monkeypatch.setattr("shared.report.training_log.library_versions", lambda _: {**versions, "numpy": "99"})
    monkeypatch.setattr(
        "shared.report.training_log.code_files", lambda *_: files | {"gesture_trainer/train.py": "f" * 64}
    )
    monkeypatch.setattr("shared.packaging.bundle.label_map", lambda labels: b"{}")
    code, told, _ = _reproduce(call, "gesture", data)
    assert code == 3
    assert f"libraries: numpy was {versions['numpy']}, is 99\n" in told
    assert "code: gesture_trainer/train.py changed since\n" in told
    assert "files: label map differ" in told and "data:" not in told


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_pooled_model_is_tested_on_people_it_has_not_seen(data: Path, train: Callable[..., Any]) -> None:
    code, entry = train("gesture", data, "--pool-users", "ana,ben", "--consent-to-pool")
    assert (code, entry["user_id"], entry["users"]) == (0, "_default", ["ana", "ben"])
    assert entry["metrics"]["validated_by"] == "person"
    assert max(row["sessions"] for row in entry["metrics"]["labels"]) <= 2, "people, not sessions"
    assert entry["session_count"] == 6
    card = (Path(entry["bundle"]) / "model_card.html").read_text()
    assert (
        "for people without a model of their own" in card
        and "of recordings of people that it was not trained on" in card
    )


@pytest.mark.slow
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
    assert "the pooled default is used" in complaints
    _everywhere(call, tmp_path / "models", "first", fallback=True)

    # One session: whatever chika has is no evidence for another day, so the pooled model goes on answering.
    code, entry = train("speech", data, "--user", "chika", "--session", "sess_1")
    assert (code, entry["verdict"], entry["model_version"]) == (0, "insufficient data", "v1")
    _everywhere(call, tmp_path / "models", "second", fallback=True)
    assert json.loads(call(*predict, str(said))[1])["fallback"] is True

    code, entry = train("speech", data, "--user", "chika")
    assert entry["verdict"] != "insufficient data"
    code, told, complaints = call(*predict, str(said))
    assert json.loads(told)["fallback"] is False and "pooled" not in complaints
    _everywhere(call, tmp_path / "models", "third", fallback=False)


def _everywhere(call: Callable[..., Answer], models: Path, reader: str, fallback: bool) -> None:
    """Folder, command line for programs and people, service and its client say the same."""
    store = Registry(models)
    assert store.resolve("chika", "speech").fallback is fallback
    assert json.loads(call("registry", "resolve", "chika", "speech", "--json")[1])["fallback"] is fallback
    assert (
        "a fallback: the user has no active version" in call("registry", "resolve", "chika", "speech")[1]
    ) is fallback
    token = add_token(tokens_file(models), reader, ("read",))
    with served(store) as url:
        headers = {"Authorization": f"Bearer {token}"}
        answer = httpx.get(f"{url}/v1/models/chika/speech", headers=headers, timeout=30).json()
        assert answer["fallback"] is fallback
        with RemoteRegistry(url, token).open_version("chika", "speech") as version:
            assert version.fallback is fallback


@pytest.mark.slow
def test_the_pooled_model_is_made_again_too(data: Path, train: Callable[..., Any], call: Callable[..., Answer]) -> None:
    train("gesture", data, "--pool-users", "ana,ben", "--consent-to-pool")
    words = ("reproduce", "--user", "_default", "--modality", "gesture", "--data", str(data))
    assert "byte-identical" in call(*words)[1]
    code, _, complaints = call("reproduce", "--user", "ana", "--modality", "gesture", "--data", str(data))
    assert code == 2 and "--user _default" in complaints


WORSE = ("--set", "candidates=[{features: ngrams, classifier: {type: kernel_ridge, alpha: 0.3, scaler: none}}]")


@pytest.fixture
def published(data: Path, train: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    def published(*words: str) -> dict[str, Any]:
        code, entry = train("speech", data, "--user", "ana", *words)
        assert code == 0, entry["error_message"]
        return entry

    return published


@pytest.mark.slow
def test_a_worse_model_is_a_candidate_and_log_history_and_answer_say_why(
    published: Callable[..., dict[str, Any]], call: Callable[..., Answer], tmp_path: Path
) -> None:
    first, second = published(), published(*WORSE)
    assert first["promotion"] == {"promote": True, "reason": "this user has no active version yet"}
    reason = second["promotion"]["reason"]
    assert not second["promotion"]["promote"] and "the active version" in reason and " and lost " in reason
    assert second["warnings"][-1] == f"published as a candidate, not as the active version: {reason}"
    store = Registry(tmp_path / "models")
    assert [entry.status for entry in store.entries()] == ["active", "candidate"]
    assert store.resolve("ana", "speech").version == 1
    kept = json.loads(store.resolve("ana", "speech", 2).files["training_log"].read_text())
    assert kept["promotion"] == {"promote": False, "reason": reason}
    assert reason[:60] in call("registry", "show", "ana", "speech", "v2")[1]
    table = call("registry", "diff", "ana", "speech", "v1", "v2")[1]
    assert "accuracy" in table and "verdict" in table

    third, fourth = published(*WORSE, "--promote", "never"), published(*WORSE, "--promote", "always")
    assert [third["promotion"]["promote"], fourth["promotion"]["promote"]] == [False, True]
    assert store.resolve("ana", "speech").version == 4
    assert published()["promotion"]["promote"], "what is better becomes active again"


@pytest.mark.slow
def test_a_batch_publishes_a_worse_model_as_a_candidate_too(
    published: Callable[..., dict[str, Any]], data: Path, tmp_path: Path
) -> None:
    published()
    speech = find_trainer("speech")
    command = trainer_command(speech, load_recipe(speech))
    places = ["--user", "ana", "--data", str(data), "--out", str(tmp_path / "out"), "--run-id", "batch", "--demo-data"]
    assert run(lambda: command([*WORSE, *places], standalone_mode=False)) == 0
    store = Registry(tmp_path / "models")
    bundle = tmp_path / "out" / "speech_ana_batch"
    outcome = publisher(store)(
        Job(user="ana", modality="speech", data=str(data), fingerprint="f"),
        Outcome(user="ana", modality="speech", run_id="batch", bundle=str(bundle)),
    )
    assert outcome.status == "candidate" and " and lost " in outcome.reason
    assert store.resolve("ana", "speech").version == 1
    kept = json.loads(store.resolve("ana", "speech", 2).files["training_log"].read_text())
    assert kept["promotion"]["reason"] == outcome.reason


FIGURES = ("accuracy", "balanced_accuracy", "f1_macro", "majority_baseline", "top2_accuracy", "coverage")
FIGURES += ("false_rejection_rate", "accuracy_accepted")


@pytest.mark.slow
def test_log_and_card_hold_every_figure_and_name_a_label_of_one_session(
    data: Path, train: Callable[..., Any], tmp_path: Path
) -> None:
    some = tmp_path / "some"
    shutil.copytree(data / "users" / "ana", some / "users" / "ana")
    label = ""
    for path in sorted((some / "users/ana/sessions").glob("*/examples.jsonl")):
        rows = [row for line in path.read_text().splitlines() if (row := json.loads(line))["modality"] == "gesture"]
        label = label or min(row["label"] for row in rows)
        kept = [row for row in rows if row["label"] != label or path.parent.name == "sess_1"]
        path.write_text("".join(json.dumps(row) + "\n" for row in kept))
    code, entry = train("gesture", some, "--user", "ana")
    assert code == 0
    metrics, found = entry["training_metrics"], entry["metrics"]
    for name in FIGURES:
        assert 0 <= metrics[f"{name}_low"] <= metrics[name] <= metrics[f"{name}_high"] <= 1, name
    assert metrics["optimism_gap"] == pytest.approx(metrics["random_split_accuracy"] - metrics["accuracy"])
    assert {"ece", "ece_uncalibrated", "open_set_auroc"} <= metrics.keys()
    assert len(found["learning_curve"]) == 3 and len(found["accuracy_by_coverage"]) == 6 and found["reliability"]
    assert np.array(found["confusion_matrix"]).sum() == entry["sample_count"] and set(found["open_set_auroc"]) <= set(
        entry["labels"]
    )
    for row in found["labels"]:
        for name in ("precision", "recall", "f1"):
            assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
        assert row["within_session"] == (row["label"] == label) == (row["sessions"] == 1)
    assert f"recorded in one session only: `{label}`" in found["verdict_reasons"]

    plain = " ".join(re.sub("<[^>]+>", " ", (Path(entry["bundle"]) / "model_card.html").read_text()).split())
    assert f"{label} one session only: not tested on another day" in plain
    for name in (*FIGURES, "random_split_accuracy", "optimism_gap", "ece", "open_set_auroc"):
        assert f"{metric_name(name)} {metrics[name]:.3f}" in plain, name
    for heading in ("Learning curve", "Accuracy by coverage", "Confusion matrix", "Reliability"):
        assert heading in plain
