"""The monitor tells what the run folder holds, follows it, and writes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from orchestrated import Place

from orchestrator.jobs import Job, failed
from orchestrator.progress import Follower
from orchestrator.run_folder import RunFolder

JOBS = [Job(user=user, modality="speech", data="data", fingerprint="a.b.c") for user in ("ana", "ben", "cleo")]


def _batch(root: Path) -> RunFolder:
    folder = RunFolder(root / "runs")
    folder.begin({}, JOBS)
    return folder


def test_a_follower_sees_stages_failures_and_the_end(tmp_path: Path) -> None:
    folder = _batch(tmp_path)
    follower = Follower(folder)
    assert (follower.look().total, follower.look().done) == (3, 0)

    events = folder.start_job(JOBS[0], ["x"]) / "events.jsonl"
    folder.note("started", {"user": "ana", "modality": "speech"})
    events.write_text(
        'a library\'s warning\n{"event": "stage", "stage": "decode", "done": 3, "total": 9}\n{"event": "st'
    )
    (running,) = follower.look().running
    assert (running.user, running.stage, running.done, running.total) == ("ana", "decode", 3, 9)

    with events.open("a") as stream:
        stream.write('age", "stage": "fit", "done": 0, "total": 1}\n')
    assert follower.look().running[0].stage == "fit"

    folder.note("finished", failed(JOBS[0], "data", "no\nsamples").model_dump())
    progress = follower.look()
    assert (progress.done, progress.failed, progress.running) == (1, 1, ())
    assert progress.last_errors == ("ana speech: data: no samples",)
    assert not progress.finished
    folder.note("end", {"exit_code": 1})
    assert follower.look().finished


def test_a_follower_notices_a_new_batch_in_the_same_folder(tmp_path: Path) -> None:
    folder = _batch(tmp_path)
    follower = Follower(folder)
    folder.note("finished", failed(JOBS[0], "data", "x").model_dump())
    assert follower.look().failed == 1
    folder.begin({}, JOBS[:1])
    progress = follower.look()
    assert (progress.total, progress.done, progress.failed) == (1, 0, 0)


def test_the_command_tells_a_finished_batch_as_table_and_as_json(place: Place) -> None:
    place.add("ana", ["speech", "gesture"])
    place.tell({"ana speech": "data"})
    place.launch()
    before = {path: path.stat().st_mtime_ns for path in place.runs.rglob("*")}
    command = [sys.executable, "-m", "orchestrator.monitor", str(place.runs)]
    shown = subprocess.run(command, env=place.environment(), capture_output=True, text=True, timeout=60)
    assert shown.returncode == 1
    assert "2 of 2 jobs ended, 1 failed" in shown.stdout and "made to fail" in shown.stdout
    told = subprocess.run([*command, "--json"], env=place.environment(), capture_output=True, text=True, timeout=60)
    state = json.loads(told.stdout)
    assert (state["done"], state["failed"], state["finished"]) == (2, 1, True)
    assert {row["modality"]: row["failed"] for row in state["modalities"]} == {"gesture": 0, "speech": 1}
    assert before == {path: path.stat().st_mtime_ns for path in place.runs.rglob("*")}


def test_a_folder_without_a_batch_is_a_usage_error(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "orchestrator.monitor", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "no batch" in done.stderr
