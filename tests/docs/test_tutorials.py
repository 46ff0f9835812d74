"""The tutorials are true: their commands run from top to bottom, and do what the text says."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest

from model_registry.store import Registry
from tests.paths import ROOT
from tests.test_readme import bash_blocks, run_blocks

pytestmark = pytest.mark.slow
TUTORIALS = ROOT / "docs" / "tutorials"
STOP_JOBS = "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n"  # a service that a failed block would leave running


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo_data: Path) -> Path:
    """Return a reader's folder, in which the demo's data were generated once already, and a cache of its own."""
    monkeypatch.setenv("MODEL_TRAINER_CACHE", str(tmp_path / "cache"))
    shutil.copytree(demo_data, tmp_path / "work" / "data")
    return tmp_path / "work"


def run_tutorial(name: str, folder: Path) -> str:
    """Run the commands of a tutorial except for its set-up, and return their output."""
    run, kept = bash_blocks((TUTORIALS / f"{name}.md").read_text(encoding="utf-8"))
    assert len(run) > 5 and len(kept) == 1 and "make setup" in kept[0]
    code, output = run_blocks([STOP_JOBS + block.replace("8077", str(free_port())) for block in run], folder)
    assert code == 0, output
    return output


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_every_tutorial_is_run() -> None:
    tests = Path(__file__).read_text(encoding="utf-8")
    pages = [page.stem for page in TUTORIALS.glob("*.md")]
    assert pages and [page for page in pages if f'run_tutorial("{page}"' not in tests] == []


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_operator_trains_serves_backs_up_and_erases(folder: Path) -> None:
    output = run_tutorial("operator", folder)
    assert "2 jobs" in output and "2 up to date" in output
    assert "minimum_accuracy" in output.split("model-trainer batch report runs")[1]  # the reason in the report
    assert json.loads((folder / "ana.json").read_text())["user_id"] == "ana"
    assert "\n403\n" in output and "read:ben" in (folder / "refused.json").read_text()
    assert "token tablet removed" in output
    assert "2 checked, 0 differ" in output and output.rstrip().endswith("1 checked, 0 differ from what was published")
    assert [path for path in folder.rglob("*") if "ben" in path.name] == []
    assert (folder / "data/users/ana").is_dir() and (folder / "backup/ana_gesture.tar").is_file()


def test_the_integrator_runs_a_model_and_reports_how_it_does(folder: Path) -> None:
    output = run_tutorial("integrator", folder)
    assert "40 predictions agree" in output
    predictions = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert len({prediction["label"] for prediction in predictions}) > 2
    assert {prediction["version"] for prediction in predictions} == {"v1"}
    after_promotion = output.split("registry promote ana gesture v2")[1]
    assert '"version": "v2"' in after_promotion
    registry = Registry(folder / "models")
    assert registry.resolve("ana", "gesture").entry.model_version == "v1"  # rolled back
    assert json.loads((folder / "second.json").read_text())["entry"]["model_version"] == "v2"
    report = output.split("model-trainer field --data a3cp --registry models")[1]
    assert "ana, gesture, v1 (active)" in report and "promised: accuracy" in report


def test_the_teacher_comes_from_recordings_to_a_model_that_is_used(folder: Path) -> None:
    (folder / "data").rename(folder / "phone")  # what stands for the telephone there
    output = run_tutorial("teacher", folder)
    versions = [Registry(folder / "models").resolve("ana", "sound", version).entry for version in ("v1", "v2", "v3")]
    assert [entry.verdict for entry in versions] == ["insufficient data", "weak", "weak"]
    assert versions[0].metrics["accuracy"] > versions[1].metrics["accuracy"]
    widths = [entry.metrics["accuracy_high"] - entry.metrics["accuracy_low"] for entry in versions]
    assert widths[2] < widths[1] / 2  # much narrower
    assert Registry(folder / "models").resolve("ana", "sound").entry.model_version == "v3"
    assert "one session only" in output and "no faults" in output and (folder / "check.html").is_file()
    assert "40 new, 0 replaced, 80 unchanged" in output
    predictions = [json.loads(line) for line in output.splitlines() if line.startswith('{"file": ')]
    right = [p["label"] == Path(p["file"]).parent.name for p in predictions]
    assert len(right) == 16 and sum(right) >= 8 and {"yes", "no", "unknown"} == {p["label"] for p in predictions}
