"""`model-trainer field --propose` runs the active model on what nobody has decided about, and names what to confirm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from demo.gestures import landmarks
from demo.make_data import PEOPLE, SESSIONS, write_session
from model_registry.store import Registry
from shared.commands.main import model_trainer, run
from shared.commands.train import trainer_command
from shared.recipe import load_recipe
from shared.trainers import find_trainer
from tests.model_registry.bundles import make_bundle
from tests.published_models import PublishedModels
from tests.shared.data.a3cp_folders import event, features_ready, session_start, write_final_labels, write_log

PERSON = PEOPLE[0]
USER = PERSON.user_id


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with a gesture model."""
    root = tmp_path_factory.mktemp("proposing")
    for session in SESSIONS[:2]:
        write_session(root / "data", PERSON, session, 0)
    words = ["--user", USER, "--data", str(root / "data"), "--out", str(root / "out"), "--demo-data"]
    words += ["--registry", str(root / "models"), "--set", "evaluation.folds=2"]
    gesture = find_trainer("gesture")
    assert run(lambda: trainer_command(gesture, load_recipe(gesture))(words, standalone_mode=False)) == 0
    return root / "models"


def sequence(label: str, take: int) -> Any:
    """One of the person's gestures on the last day, (T, 214) float32."""
    return landmarks(label, PERSON, SESSIONS[2], np.random.default_rng(take))


def write_use(root: Path, events: list[dict[str, Any]], **fields: Any) -> None:
    start = session_start("use", user=USER, is_training_data=False, **fields)
    write_log(root, "use", [start, *events], user=USER)


def take(root: Path, capture: str, label: str, number: int, **fields: Any) -> dict[str, Any]:
    return features_ready(root, capture, "use", number, sequence(label, number), user=USER, **fields)


def proposals(
    models: Path, root: Path, capsys: pytest.CaptureFixture[str], *words: str, code: int = 0
) -> tuple[str, str]:
    capsys.readouterr()
    given = ["field", "--data", str(root), "--registry", str(models), "--propose", *words]
    assert run(lambda: model_trainer(given, standalone_mode=False)) == code
    printed = capsys.readouterr()
    return printed.out, printed.err


def test_samples_that_nobody_decided_about_are_proposed_and_no_copy_twice(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = [label for label in PERSON.gestures for _ in range(3)]
    events = [take(tmp_path, f"c{k}", label, k) for k, label in enumerate(labels)]
    events += [take(tmp_path, name, labels[0], 0) for name in ("refused", "demo", "rejected")]
    for name, field in (("refused", {"consent_given": False}), ("demo", {"is_demo": True})):
        events.append(event(f"{name}-note", "use", 90, user=USER, capture_id=name, **field))
    events.append(event("note", "use", 90, user=USER, capture_id="rejected", label_status="rejected"))
    write_use(tmp_path, events)
    decided = {"session_id": "use", "modality": "gesture", "timestamp": "2026-03-01T11:00:00.000Z"}
    write_final_labels(
        tmp_path,
        [
            decided | {"record_id": "c0-ready", "predicted_label": "come", "partner_action": "accept"},
            decided | {"record_id": "c1-ready", "predicted_label": "eat", "final_label": "come"},
            decided | {"record_id": "c2-ready", "predicted_label": "come"},  # nobody said anything
        ],
        user=USER,
    )
    everything = [json.loads(line) for line in proposals(models, tmp_path, capsys, "99", "--json")[0].splitlines()]
    assert {one["record_id"] for one in everything} == {f"c{k}-ready" for k in range(2, len(labels))}
    printed = proposals(models, tmp_path, capsys, "4", "--json")[0]
    four = [json.loads(line) for line in printed.splitlines()]
    assert len(four) == 4 and all(one in everything for one in four)
    first = four[0]
    assert first["margin"] == min(one["margin"] for one in everything)
    assert first["margin"] == pytest.approx(first["probability"] - first["second_probability"])
    assert first["predicted_label"] != first["second_label"]
    assert first["predicted_label"] in PERSON.gestures and first["second_label"] in PERSON.gestures
    named = ("user_id", "modality", "model_version", "session_id", "criterion")
    assert [first[name] for name in named] == [USER, "gesture", "v1", "use", "cluster-margin"]
    table = proposals(models, tmp_path, capsys, "4", "--modality", "gesture", "--user", USER)[0]
    assert f"{USER}, gesture, v1: 4 of {len(labels) - 2} samples to confirm first" in table
    assert all(one["record_id"] in table and one["why"] in table for one in four)


def test_a_copy_is_not_proposed_beside_its_original(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = [take(tmp_path, f"c{k}", PERSON.gestures[k % 5], k) for k in range(10)]
    write_use(tmp_path, events)
    (line,) = proposals(models, tmp_path, capsys, "1", "--json")[0].splitlines()
    doubtful = int(json.loads(line)["record_id"][1:].removesuffix("-ready"))
    copies = [
        features_ready(
            tmp_path, f"copy{k}", "use", 60 + k, sequence(PERSON.gestures[doubtful % 5], doubtful), user=USER
        )
        for k in range(3)
    ]
    write_use(tmp_path, [*events, *copies])
    names = {
        json.loads(line)["record_id"] for line in proposals(models, tmp_path, capsys, "4", "--json")[0].splitlines()
    }
    assert len(names & {f"c{doubtful}-ready", *(f"copy{k}-ready" for k in range(3))}) == 1


@pytest.mark.slow
def test_what_cannot_be_read_is_named_and_the_others_are_proposed(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = [take(tmp_path, f"c{k}", "come", k) for k in range(4)]
    events[1]["raw_features_ref"]["encoding"] = "another_xy_v1"
    events.append(features_ready(tmp_path, "still", "use", 9, np.zeros((20, 214)), user=USER))  # nothing to classify
    write_use(tmp_path, events)
    (tmp_path / f"data/users/{USER}/sessions/use/features/c0.npz").write_bytes(b"changed")
    printed, errors = proposals(models, tmp_path, capsys, "9", "--json", code=3)
    assert {json.loads(line)["record_id"] for line in printed.splitlines()} == {"c2-ready", "c3-ready"}
    assert "use.jsonl:2: features: " in errors and "another_xy_v1, but the model takes" in errors


def test_without_an_active_model_nothing_is_proposed_and_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Registry(tmp_path / "other").publish(make_bundle(tmp_path / "out", user="anna", run="run1"))
    write_use(tmp_path, [take(tmp_path, "c0", "come", 0)])
    printed, errors = proposals(tmp_path / "other", tmp_path, capsys, "3")
    assert printed == "" and f"warning: {USER}/gesture: no model says which samples are doubtful" in errors


def test_transcripts_are_read_by_the_log_and_by_nobody_where_there_is_no_log(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = event("m1", "use", user=USER, modality="speech", source="asr", context_partner_speech="Are you hungry?")
    write_use(tmp_path, [said])
    _, errors = proposals(models, tmp_path, capsys, "3")
    assert f"warning: {USER}/speech" in errors
    assert proposals(models, tmp_path, capsys, "3", "--user", "nobody") == ("", "")


@pytest.mark.slow
@pytest.mark.xdist_group("published_models")
def test_transcripts_are_proposed_with_what_was_said_around_them(
    published_models: PublishedModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [path.read_text(encoding="utf-8") for path in published_models.files["speech"][:6]]
    words = {"modality": "speech", "source": "asr", "context_location": "kitchen", "ASR_confidence_score": 0.7}
    write_use(
        tmp_path,
        [event(f"m{k}", "use", k, user=USER, **words, context_partner_speech=text) for k, text in enumerate(texts)],
    )
    printed, _ = proposals(published_models.registry, tmp_path, capsys, "9", "--json")
    proposed = {line["record_id"]: line for line in map(json.loads, printed.splitlines())}
    assert proposed.keys() == {f"m{k}" for k in range(len(set(texts)))}
    for k, prediction in enumerate(published_models.predictions("speech", published_models.files["speech"][:6])):
        assert prediction["label"] in ("unknown", proposed[f"m{k}"]["predicted_label"])


def test_one_thing_at_a_time(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proposals(models, tmp_path, capsys, "3", "--requests", code=2)
    proposals(models, tmp_path, capsys, "0", code=2)
