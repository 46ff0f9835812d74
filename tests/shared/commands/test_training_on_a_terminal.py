"""On a terminal a trainer speaks to a person; to a script it gives the training log entry."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.paths import ROOT
from tests.speech_context_trainer.talk import ENGLISH, write_sessions
from tests.terminal import run_on_terminal

TRAIN = (sys.executable, "-m", "speech_context_trainer.train")
CONFIG = ("--config", str(ROOT / "speech_context_trainer" / "configs" / "without_encoder.yaml"))

pytestmark = pytest.mark.slow


def _words(folder: Path, *more: str) -> list[str]:
    data = folder / "data"
    if not data.exists():
        write_sessions(data, ENGLISH)
    return [*TRAIN, "--user", "ana", "--data", str(data), "--out", str(folder / "out"), *CONFIG, *more]


def test_a_finished_run_is_a_few_lines(tmp_path: Path) -> None:
    registry = str(tmp_path / "models")
    code, shown = run_on_terminal(_words(tmp_path, "--registry", registry), columns=400, cwd=ROOT)
    assert code == 0, shown
    result = shown[shown.index("ana's speech model: ") :].splitlines()
    log = json.loads(next((tmp_path / "out").glob("speech_ana_*/training_log.json")).read_text())
    metrics, accuracy = log["training_metrics"], result[1].strip()
    assert result[0].startswith(f"ana's speech model: {log['verdict']}")
    assert re.fullmatch(
        r"accuracy +\d+% on sessions that it was not trained on \(95% interval \d+% to \d+%\)", accuracy
    )
    assert f" {100 * metrics['accuracy']:.0f}% on" in accuracy
    assert f"{100 * metrics['false_rejection_rate']:.0f}% of known labels (false rejection)" in result[2]
    assert f"{100 * metrics['false_acceptance_rate']:.0f}% of unknown ones (false acceptance)" in result[2]
    assert log["metrics"]["advice"][0] in result[3]
    assert Path(result[4].split(maxsplit=2)[2]).is_file() and result[4].endswith("model_card.html")
    assert "v1, active" in result[5] and len(result) == 6
    assert '{"' not in shown, "neither the log nor an event as JSON"


def test_json_is_printed_on_request_and_into_a_pipe(tmp_path: Path) -> None:
    code, shown = run_on_terminal(_words(tmp_path, "--json"), cwd=ROOT)
    (line,) = (line for line in shown.splitlines() if line.startswith("{"))
    assert code == 0 and json.loads(line)["status"] == "success"
    piped = subprocess.run(_words(tmp_path), cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert json.loads(piped.stdout)["status"] == "success"
    assert {json.loads(line)["event"] for line in piped.stderr.splitlines()} >= {"stage", "end"}


def test_the_card_is_in_the_language_of_the_command(tmp_path: Path) -> None:
    done = subprocess.run(_words(tmp_path, "--lang", "de"), cwd=ROOT, capture_output=True, text=True, timeout=120)
    entry = json.loads(done.stdout)
    assert done.returncode == 0 and entry["training_config"]["lang"] == "de"
    card = (Path(entry["bundle"]) / "model_card.html").read_text("utf-8")
    assert '<html lang="de">' in card and "Genauigkeit" in card
    for words in (["--lang", "fr"], ["--set", "lang=fr"]):
        wrong = subprocess.run(_words(tmp_path, *words), cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert wrong.returncode == 2 and "de" in wrong.stderr and "Traceback" not in wrong.stderr


def test_a_failure_is_its_reason_and_where_the_log_is(tmp_path: Path) -> None:
    words = _words(tmp_path, "--run-id", "r1", "--set", "gate.minimum_accuracy=1.0")
    log = tmp_path / "out" / "failures" / "speech_ana_r1.json"
    code, shown = run_on_terminal(words, columns=400, cwd=ROOT)
    reason, place = shown[shown.index("error: ") :].splitlines()
    assert (code, place) == (4, f"log: {log}")
    assert "is below gate.minimum_accuracy 1.0" in reason
    assert "Traceback" not in shown and '{"' not in shown
    assert json.loads(log.read_text())["error_trace"].startswith("Traceback")
    log.unlink()
    assert "Traceback (most recent call last)" in run_on_terminal([*words, "--verbose"], cwd=ROOT)[1]


def test_a_wrong_option_is_no_json_on_a_terminal(tmp_path: Path) -> None:
    code, shown = run_on_terminal(_words(tmp_path, "--colour"), cwd=ROOT)
    assert code == 2 and "error: No such option" in shown and "{" not in shown


def test_the_version_is_printed() -> None:
    shown = subprocess.run([*TRAIN, "--version"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert shown.stdout.rstrip().endswith(version("model-trainer"))
