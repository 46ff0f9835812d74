"""`model-trainer field` reads what A3CP recorded, finds the version that predicted it, and says what to do."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from model_registry.service.field import read_field_file
from model_registry.store import Registry
from orchestrator.training_requests import parse_requests
from shared.commands.main import model_trainer, run
from tests.model_registry.bundles import make_bundle
from tests.shared.data.a3cp_folders import write_final_labels

LABELS = ["drink", "stop"]
LOG = {
    "training_metrics": {"accuracy_accepted_low": 0.8, "false_rejection_rate_high": 0.2},
    "metrics": {"labels": [{"label": label, "recall_low": 0.7} for label in LABELS]},
}
NOW = datetime.now(UTC)


def row(number: int, session: str, predicted: str, final: str, day: float, **fields: Any) -> dict[str, Any]:
    """One row of training_examples.jsonl, so many days from now."""
    return {
        "record_id": f"{session}-{number}",
        "session_id": session,
        "modality": "gesture",
        "predicted_label": predicted,
        "final_label": final,
        "partner_action": "accept" if predicted == final else "correct",
        "consent_given": True,
        "is_demo": False,
        "timestamp": f"{NOW + timedelta(days=day, seconds=number):%Y-%m-%dT%H:%M:%S.000Z}",
    } | fields


def rows(
    session: str, day: float, right: int, wrong: int = 0, rejected: int = 0, **fields: Any
) -> list[dict[str, Any]]:
    """Rows of a session in which `drink` was predicted."""
    results = ["drink"] * right + ["stop"] * wrong + ["unknown"] * rejected
    return [row(k, session, predicted, "drink", day, **fields) for k, predicted in enumerate(results)]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """A registry with v1, which was active before v2, which is now."""
    store = Registry(tmp_path / "models")
    for number in (1, 2):
        bundle = make_bundle(tmp_path / "out", user="anna", run=f"run{number}", log=LOG, labels=LABELS)
        store.publish(bundle)
    return store


def report(
    tmp_path: Path, decisions: Iterable[dict[str, Any]], capsys: pytest.CaptureFixture[str], *words: str, code: int = 0
) -> str:
    write_final_labels(tmp_path / "a3cp", list(decisions))
    given = ["field", "--data", str(tmp_path / "a3cp"), "--registry", str(tmp_path / "models"), *words]
    assert run(lambda: model_trainer(given, standalone_mode=False)) == code
    return capsys.readouterr().out


def test_each_prediction_counts_for_the_version_that_was_active(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    decisions = [
        *rows("before", -9, right=5),  # nothing was published yet
        *rows("named", 1, right=4, wrong=1, model_version="v1"),
        *rows("after", 1, right=7, wrong=1, rejected=2),
    ]
    first, second = map(json.loads, report(tmp_path, decisions, capsys, "--json").splitlines())
    assert (first["model_version"], first["status"], first["total"]["decisions"]) == ("v1", "archived", 5)
    assert (second["model_version"], second["status"]) == ("v2", "active")
    total = second["total"]
    assert (total["right"], total["corrected"], total["rejected"], total["not_trained"]) == (7, 1, 2, 0)
    assert total["accuracy"] == pytest.approx(7 / 8) and total["rejection"] == pytest.approx(2 / 10)
    assert total["accuracy_interval"] == pytest.approx([0.4735, 0.9968], abs=1e-4)  # Clopper and Pearson's
    assert second["promised"] == {"accuracy": 0.8, "rejection": 0.2, "recall": {"drink": 0.7, "stop": 0.7}}
    assert (second["drifts"], second["advice"]) == ([], [])


def test_the_registrys_service_reads_what_is_printed(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    decisions = [*rows("named", 1, right=0, rejected=3, model_version="v1"), *rows("bad", 3, right=4, wrong=26)]
    (tmp_path / "field.jsonl").write_text(report(tmp_path, decisions, capsys, "--json"))
    rejected, drifting = read_field_file(tmp_path / "field.jsonl").values()
    assert (rejected.model_version, rejected.total.rejected, rejected.kept) == ("v1", 3, None)
    assert (drifting.model_version, drifting.total.right, drifting.kept) == ("v2", 4, "broken")
    assert drifting.drifts_now


def test_a_drift_is_said_with_what_to_do(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    decisions = [
        *rows("old", 1, right=30, wrong=2, model_version="v1"),
        *rows("good", 2, right=28, wrong=2),
        *rows("bad", 3, right=4, wrong=26),
        *[row(k, "new", "stop", "hello", 3) for k in range(6)],
    ]
    printed = report(tmp_path, decisions, capsys)
    old, new = printed.strip().split("\n\n")
    assert "no drift" in old and "anna, gesture, v1 (archived)" in old
    assert "4 of 30 predictions were right in session bad; promised: at least 80%" in new
    assert "4 of 30 predictions of drink were recognised in session bad; promised: at least 70%" in new
    assert "v1 was right more often in use: go back with model-trainer registry promote anna gesture v1" in new
    assert "record drink in a new session, then train again" in new
    assert "hello was meant 6 times, and the model does not know it" in new
    assert "promised: accuracy of at least 80%, rejection of at most 20%" in new


def test_after_a_day_that_passed_nobody_is_told_to_train_again(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    decisions = [*rows("odd", 1, right=4, wrong=26), *rows("next", 2, right=28, wrong=2)]
    (line,) = report(tmp_path, decisions, capsys, "--json").splitlines()
    assert {(drift["figure"], drift["session"], drift["lasts"]) for drift in json.loads(line)["drifts"]} == {
        ("accuracy", "odd", False),
        ("recall", "odd", False),
    }
    (advice,) = json.loads(line)["advice"]
    assert advice == "find out what was different in odd; the sessions since then are as promised"
    assert "promised: at least 80%; since then 28 of 30" in report(tmp_path, decisions, capsys)


def test_active_models_whose_drift_lasts_are_requested_again(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = [
        *rows("old", 1, right=4, wrong=26, model_version="v1"),
        *rows("good", 2, right=28, wrong=2),
        *rows("bad", 3, right=4, wrong=26),
    ]
    ((slot, request),) = parse_requests(report(tmp_path, bad, capsys, "--requests"), "printed").items()
    assert (slot, request.latest_model_version) == (("anna", "gesture"), "v2")
    assert "4 of 30 predictions were right in session bad" in request.retrain_reason
    passed = [*bad, *rows("next", 4, right=60)]
    assert report(tmp_path, passed, capsys, "--requests") == ""
    assert report(tmp_path, bad, capsys, "--requests", "--json", code=2) == ""


def test_what_says_nothing_of_use_is_passed_over(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = row(0, "s", "drink", "drink", 1)
    decisions = [
        again | {"final_label": "stop"},
        again | {"timestamp": row(9, "s", "", "", 2)["timestamp"]},  # the partner's last word
        row(1, "s", "drink", "stop", 1, is_demo=True),
        row(2, "s", "drink", "stop", 1, consent_given=False),
        {key: value for key, value in row(3, "s", "drink", "stop", 1).items() if key != "predicted_label"},
        row(4, "s", "drink", "stop", 1, modality="audio"),  # no model of it
        row(5, "s", "drink", "drink", 1, label_status="unconfirmed"),  # what was predicted, confirmed by nobody
        row(6, "s", "drink", "stop", 1, label_status="rejected"),
    ]
    (line,) = report(tmp_path, decisions, capsys, "--json").splitlines()
    assert (json.loads(line)["total"]["decisions"], json.loads(line)["total"]["right"]) == (1, 1)
    assert report(tmp_path, decisions, capsys, "--modality", "sound") == ""
    assert report(tmp_path, decisions, capsys, "--user", "ben") == ""


def test_an_accepted_prediction_counts_where_its_row_does_not_repeat_the_label(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    accepted = {key: value for key, value in row(0, "s", "drink", "drink", 1).items() if key != "final_label"}
    silent = {
        key: value
        for key, value in row(1, "s", "drink", "drink", 1).items()
        if key not in ("final_label", "partner_action")
    }
    (line,) = report(tmp_path, [accepted, silent], capsys, "--json").splitlines()
    assert (json.loads(line)["total"]["decisions"], json.loads(line)["total"]["right"]) == (1, 1)


def test_rows_that_cannot_be_read_are_named_and_the_others_count(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    decisions = [*rows("s", 1, right=3), row(9, "s", "drink", "drink", 1, timestamp="yesterday")]
    decisions.append(row(10, "s", "drink", "drink", 1, modality="t/aste"))
    write_final_labels(tmp_path / "a3cp", decisions)
    given = ["field", "--data", str(tmp_path / "a3cp"), "--registry", str(tmp_path / "models"), "--json"]
    assert run(lambda: model_trainer(given, standalone_mode=False)) == 3
    printed = capsys.readouterr()
    assert json.loads(printed.out)["total"]["right"] == 3
    assert "training_examples.jsonl:4: timestamp: " in printed.err and "modality of s-10" in printed.err


def test_versions_that_were_removed_are_warned_of(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.publish(make_bundle(tmp_path / "out", user="anna", run="run3", log=LOG, labels=LABELS))
    registry.archive("anna", "gesture", 2)
    registry.gc(keep=0)
    write_final_labels(tmp_path / "a3cp", rows("s", 1, right=3))
    given = ["field", "--data", str(tmp_path / "a3cp"), "--registry", str(tmp_path / "models"), "--json"]
    assert run(lambda: model_trainer(given, standalone_mode=False)) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["model_version"] == "v3"
    assert "v1, v2 removed; predictions that they made and that name no version may count" in printed.err


@pytest.mark.parametrize("words", [("--data", "nowhere"), ("--data", "a3cp", "--false-alarms", "0")])
def test_a_command_line_that_cannot_be_used_is_said(
    words: tuple[str, ...], registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["field", "--registry", "models", *words]
    assert run(lambda: model_trainer(given, standalone_mode=False)) == 2
