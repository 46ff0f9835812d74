"""The command line of a batch: every user and modality with data is trained, published and reported."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from orchestrator.attempt import attempt
from orchestrator.jobs import Job, Outcome, outcome_from_log
from orchestrator.run_folder import RunFolder
from shared.errors import ConfigError, DiskFullError
from shared.packaging.output import output_error
from tests.orchestrator.orchestrated import ROOT, Place


@pytest.mark.slow
def test_every_user_and_modality_with_data_is_published_and_tabled(place: Place) -> None:
    place.add("ana", ["speech", "gesture"])
    place.add("ben", ["image"])
    done = place.launch("--jobs", "2")
    assert done.returncode == 0, done.stderr
    assert place.versions() == {"ana gesture": ["v1"], "ana speech": ["v1"], "ben visual_environment": ["v1"]}
    for word in (
        "ana",
        "ben",
        "visual_environment",
        "v1",
        "24",
        "0.900 (0.800–0.950)",
        "good",
        "model_card_ben_v1.html",
    ):
        assert word in done.stdout
    assert "ben gesture" not in done.stdout + done.stderr


@pytest.mark.slow
def test_users_and_modalities_can_be_chosen(place: Place) -> None:
    place.add("ana", ["speech", "gesture"])
    place.add("ben", ["speech", "gesture"])
    assert place.launch("--users", "ben", "--modalities", "gesture").returncode == 0
    assert place.versions() == {"ben gesture": ["v1"]}


@pytest.mark.slow
def test_a_failing_job_stops_no_other_and_is_reported_in_one_line(place: Place) -> None:
    for user in ("ana", "ben", "cleo", "dora", "emil"):
        place.add(user)
    place.set_behaviours(
        {"ana speech": "data", "ben speech": "kill", "cleo speech": "silent", "dora speech": "internal"}
    )
    done = place.launch("--jobs", "2")
    assert done.returncode == 1
    assert place.versions() == {"emil speech": ["v1"]}
    lines = done.stdout.splitlines()
    assert "no model: ana speech: data in fit: made to fail: data" in lines
    failures = [line for line in lines if line.startswith("failed:")]
    assert failures == [
        "failed: ben speech: crashed: killed by SIGKILL; last output: " + failures[0].split("output: ")[1],
        "failed: cleo speech: crashed: exit code 1 without a training log entry; last output: Segmentation fault",
        "failed: dora speech: internal in fit: ValueError: made to fail: internal",
    ]


@pytest.mark.slow
def test_all_faults_of_a_command_line_are_reported_at_once(place: Place) -> None:
    place.add("ana")
    done = place.launch(
        *("--users", "ana,../../etc,-rf", "--modalities", "speech,smell", "--config", "gesture=none.yaml"),
        *("--config", "x", "--set", "taste:a=1"),
    )
    assert done.returncode == 2
    for word in ("'../../etc'", "'-rf'", "'smell'", "none.yaml", "MODALITY=", "'taste'"):
        assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert not place.runs.exists()


@pytest.mark.slow
def test_a_user_without_data_is_refused_before_anything_runs(place: Place) -> None:
    place.add("ana")
    done = place.launch("--users", "ana,nobody")
    assert done.returncode == 2
    assert "nobody" in done.stderr
    assert place.registry.root.exists() is False


@pytest.mark.slow
def test_options_reach_the_trainer_of_their_modality_only(place: Place) -> None:
    place.add("ana", ["speech", "gesture"])
    config = place.root / "speech.yaml"
    config.write_text("a: 1\n")
    options = (
        "--config",
        f"speech={config}",
        "--set",
        "speech:b=2",
        "--set",
        "speech:c=3",
        "--seed",
        "7",
        "--demo-data",
    )
    assert place.launch(*options).returncode == 0
    commands = {
        modality: " ".join(json.loads((place.runs / "jobs/ana" / modality / "job.json").read_text())["command"])
        for modality in ("speech", "gesture")
    }
    assert f"--config {config} --set b=2 --set c=3 --seed 7 --demo-data" in commands["speech"]
    assert "--seed 7 --demo-data" in commands["gesture"]
    assert "--set" not in commands["gesture"] and "--config" not in commands["gesture"]


@pytest.mark.slow
def test_the_run_folder_keeps_what_the_trainer_printed(place: Place) -> None:
    place.add("ana")
    assert place.launch().returncode == 0
    job = place.runs / "jobs/ana/speech"
    assert json.loads((job / "log.json").read_text())["status"] == "success"
    assert json.loads((job / "result.json").read_text())["version"] == "v1"
    events = [json.loads(line) for line in (job / "events.jsonl").read_text().splitlines()]
    assert [event["stage"] for event in events] == ["load", "fit", "bundle"]
    assert list(place.runs.glob("bundles/speech_ana_*/bundle.json"))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_children_and_leaves_nothing_half_written(place: Place, number: int, code: int) -> None:
    place.add("ana")
    place.add("ben")
    place.set_behaviours({"*": "hang"})
    batch = place.start("--jobs", "1", "--drain", "0")
    children = psutil.Process(place.wait_for_trainer(batch)).children(recursive=True)
    batch.send_signal(number)
    output, _ = batch.communicate(timeout=30)
    assert batch.returncode == code
    assert "failed: ana speech: cancelled: the batch was stopped" in output
    assert "1 not started" in output
    assert children and psutil.wait_procs(children, timeout=5)[1] == []
    assert not place.registry.root.exists()
    assert not list(place.runs.glob("bundles/*/bundle.json"))
    for path in place.runs.rglob("*.json"):
        json.loads(path.read_text())


@pytest.mark.slow
def test_the_shell_script_runs_the_same_command(place: Place) -> None:
    place.add("ana")
    command = [str(ROOT / "orchestrator/launch_all.sh"), *place.command()[3:]]
    done = subprocess.run(command, env=place.environment(), capture_output=True, text=True, timeout=100, cwd=os.sep)
    assert done.returncode == 0, done.stderr
    assert place.versions() == {"ana speech": ["v1"]}
    shown = subprocess.run([command[0], "--help"], capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0 and "Examples:" in shown.stdout


@pytest.mark.slow
def test_a_run_folder_that_cannot_be_used_is_a_usage_error(place: Place) -> None:
    place.add("ana")
    (place.root / "file").write_text("")
    command = ["--runs", str(place.root / "file" / "runs")]
    done = place.launch(*command)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "--runs: " in done.stderr and "file/runs: Not a directory" in done.stderr


@pytest.mark.slow
def test_an_internal_error_has_an_exit_code_of_its_own(place: Place) -> None:
    place.add("ana")
    assert place.launch().returncode == 0
    (place.runs / "summary.json").unlink()
    (place.runs / "summary.json").mkdir()
    done = place.launch("--force")
    assert done.returncode == 5
    assert "error: internal:" in done.stderr and "IsADirectoryError" in done.stderr


@pytest.mark.slow
def test_a_refused_batch_is_not_called_interrupted_by_the_next(place: Place) -> None:
    place.add("ana")
    assert place.launch("--users", "nobody").returncode == 2
    assert "continuing the interrupted batch" not in place.launch().stderr


def test_a_full_disk_is_its_own_error_and_is_retried(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    assert isinstance(output_error(tmp_path, full), DiskFullError) and DiskFullError.exit_code == 5
    assert isinstance(output_error(tmp_path, OSError(errno.EACCES, "Permission denied")), ConfigError)
    job = Job(user="ana", modality="speech", data=str(tmp_path), fingerprint="f")
    log = {"error_type": "DiskFullError", "error_message": "no room"}
    assert outcome_from_log(job, log, 5, 1.0).transient


def test_a_disk_that_fills_while_a_job_is_recorded_is_retried(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.add("ana")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RunFolder, "start_job", full)
    job = Job(user="ana", modality="speech", data=str(place.data), fingerprint="a.b.c")
    commands = {"speech": ("false",)}
    outcome = attempt(job, RunFolder(place.runs), commands, lambda *_: (_fail(), None), lambda *_: _fail())
    assert outcome.transient and outcome.cause == "internal"


def _fail() -> Outcome:
    raise AssertionError("must not be reached")
