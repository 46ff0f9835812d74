"""Batches of any size: planned with reasons, nothing twice, resumed after any end, limited, stopped by signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from orchestrator.batch import Control, Stop, run_batch
from orchestrator.jobs import Job, Outcome, failed, trainer_commands
from orchestrator.plan import BatchSpec, make_plan, with_present_data
from orchestrator.run_folder import RunFolder
from shared.data_loader import users_with_data
from tests.orchestrator.orchestrated import Place


@pytest.mark.slow
def test_a_dry_run_names_each_job_with_its_reason_and_does_nothing(place: Place) -> None:
    place.add("ana", ["speech", "gesture"])
    assert place.launch("--jobs", "2").returncode == 0
    place.add("ana", ["speech"], session="s2")
    place.add("ben")
    shown = place.launch("--dry-run", "--set", "gesture:a=1")
    assert shown.returncode == 0
    rows = {tuple(line.replace("│", " ").split()[:5]) for line in shown.stdout.splitlines() if "│" in line}
    assert rows == {
        ("ben", "speech", "first", "model", "2"),
        ("ana", "speech", "new", "data", "4"),
        ("ana", "gesture", "changed", "config", "2"),
    }
    assert "3 jobs" in shown.stdout and "0 up to date" in shown.stdout
    assert place.versions() == {"ana gesture": ["v1"], "ana speech": ["v1"]}
    assert "forced" in place.launch("--dry-run", "--force").stdout


@pytest.mark.slow
def test_what_is_published_is_not_trained_again_until_something_changed(place: Place) -> None:
    place.add("ana", ["speech", "gesture"])
    assert place.launch("--jobs", "2").returncode == 0
    again = place.launch()
    assert again.returncode == 0
    assert "up to date" in again.stdout and "model_card_ana_v1.html" in again.stdout
    assert place.summary()["jobs"] == 0 and place.summary()["up_to_date"] == 2
    place.add("ana", ["gesture"], session="s2")
    assert place.launch().returncode == 0
    assert place.versions() == {"ana gesture": ["v1", "v2"], "ana speech": ["v1"]}
    assert place.launch("--force", "--modalities", "speech").returncode == 0
    assert place.versions() == {"ana gesture": ["v1", "v2"], "ana speech": ["v1", "v2"]}


@pytest.mark.slow
def test_code_is_part_of_the_fingerprint_and_its_change_is_the_reason(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.add("ana")
    assert place.launch().returncode == 0
    counts, published = users_with_data(place.data), list(place.registry.entries())
    spec = BatchSpec(data=place.data)
    assert make_plan(spec, counts, published).jobs == ()
    monkeypatch.setattr("orchestrator.plan.code_fingerprint", lambda *_: "f" * 64)
    assert [job.reasons for job in make_plan(spec, counts, published).jobs] == [("changed code",)]


@pytest.mark.slow
def test_a_file_that_the_options_name_is_part_of_them(place: Place) -> None:
    place.add("ana", ["gesture"])
    task = place.root / "face.task"
    task.write_bytes(b"one")
    options = ("--set", f"gesture:extraction.face_task={task}")
    assert place.launch(*options).returncode == 0
    assert "1 up to date" in place.launch("--dry-run", *options).stdout
    task.write_bytes(b"two")
    shown = place.launch("--dry-run", *options).stdout
    assert "0 up to date" in shown and "changed config" in shown


def test_users_with_new_data_come_first_and_short_jobs_before_long_ones(place: Place) -> None:
    for user, count in (("ana", 2), ("ben", 9), ("cleo", 5)):
        place.add(user, count=count)
    plan = make_plan(BatchSpec(data=place.data), users_with_data(place.data), [])
    assert [job.user for job in plan.jobs] == ["ana", "cleo", "ben"]


@pytest.mark.slow
def test_a_batch_killed_in_the_middle_is_continued_by_the_same_command(place: Place) -> None:
    for user in ("ana", "ben", "cleo", "dora"):
        place.add(user)
    place.set_behaviours({"cleo speech": "slow 60", "dora speech": "slow 60"})
    batch = place.start("--jobs", "2")
    place.wait_for_trainer(batch, 4)
    children = psutil.Process(batch.pid).children(recursive=True)
    batch.send_signal(signal.SIGKILL)
    batch.communicate(timeout=30)
    assert psutil.wait_procs(children, timeout=5)[1] == []  # the kernel ends trainers whose orchestrator is gone
    place.set_behaviours({})
    again = place.launch("--jobs", "2")
    assert again.returncode == 0
    assert "continuing the interrupted batch of process" in again.stderr
    assert place.summary()["jobs"] == 2 and place.summary()["up_to_date"] == 2
    assert place.versions() == {f"{user} speech": ["v1"] for user in ("ana", "ben", "cleo", "dora")}


@pytest.mark.slow
def test_a_bundle_that_was_finished_but_not_published_is_published_without_training(place: Place) -> None:
    place.add("ana")
    (job,) = make_plan(BatchSpec(data=place.data), users_with_data(place.data), []).jobs
    trainers = trainer_commands(place.root / "commands.json")
    command = job.command(trainers, place.runs / "bundles")
    subprocess.run(command, env=place.environment(), check=True, capture_output=True, timeout=60)
    place.set_behaviours({"*": "data"})  # a trainer that runs now fails
    assert place.launch().returncode == 0
    assert place.versions() == {"ana speech": ["v1"]}


@pytest.mark.slow
def test_a_damaged_leftover_bundle_is_trained_again(place: Place) -> None:
    place.add("ana")
    assert place.launch().returncode == 0
    subprocess.run(["rm", "-rf", str(place.registry.root)], check=True)
    next(place.runs.glob("bundles/*/model.onnx")).write_bytes(b"half")
    assert place.launch("--retries", "1", "--backoff", "0").returncode == 1
    assert place.launch().returncode == 0
    assert place.versions() == {"ana speech": ["v1"]}


@pytest.mark.slow
def test_data_that_change_while_a_job_runs_are_noticed_and_trained_again(place: Place) -> None:
    place.add("ana")
    place.set_behaviours({"ana speech": f"change {place.examples('ana')}"})
    done = place.launch("--retries", "1", "--backoff", "0")
    assert done.returncode == 1
    assert "failed: ana speech: data changed" in done.stdout
    assert place.summary()["attempts"] == 2
    assert not (place.registry.root / "users").exists()
    place.set_behaviours({})
    assert place.launch().returncode == 0
    assert place.versions() == {"ana speech": ["v1"]}


@pytest.mark.slow
def test_one_batch_at_a_time_in_a_run_folder(place: Place) -> None:
    place.add("ana")
    place.set_behaviours({"*": "slow 60"})
    batch = place.start()
    place.wait_for_trainer(batch)
    second = place.launch()
    assert second.returncode == 2
    assert f"process {batch.pid}" in second.stderr and "--runs" in second.stderr
    batch.send_signal(signal.SIGINT)
    batch.communicate(timeout=30)


@pytest.mark.slow
def test_transient_failures_are_tried_again_and_others_are_not(place: Place) -> None:
    for user in ("ana", "ben", "cleo"):
        place.add(user)
    mark = place.root / "mark"
    place.set_behaviours({"ana speech": f"flaky {mark}", "ben speech": "data", "cleo speech": "kill"})
    done = place.launch("--retries", "2", "--backoff", "0")
    assert done.returncode == 1
    assert place.versions() == {"ana speech": ["v1"]}
    attempts = {
        user: json.loads(line)["attempts"]
        for line in (place.runs / "journal.jsonl").read_text().splitlines()
        for user in ("ana", "ben", "cleo")
        if json.loads(line).get("event") == "finished" and json.loads(line)["user"] == user
    }
    assert attempts == {"ana": 2, "ben": 1, "cleo": 3}


@pytest.mark.slow
def test_time_and_memory_are_limited_for_each_job(place: Place) -> None:
    place.add("ana")
    place.add("ben")
    place.set_behaviours({"ana speech": "hang"})
    late = place.launch("--timeout", "3", "--users", "ana")
    assert late.returncode == 1
    assert "ana speech: timeout: took longer than 3 s" in late.stdout
    place.set_behaviours({"ana speech": "hog"})
    big = place.launch("--memory", "300M", "--jobs", "1")
    assert big.returncode == 1
    assert "ana speech: memory: used" in big.stdout
    assert place.versions() == {"ben speech": ["v1"]}


@pytest.mark.slow
def test_a_batch_can_end_at_the_first_failure_or_after_some(place: Place) -> None:
    for user in ("ana", "ben", "cleo", "dora"):
        place.add(user)
    place.set_behaviours({"*": "data"})
    assert "3 not started" in place.launch("--jobs", "1", "--fail-fast").stdout
    done = place.launch("--jobs", "1", "--max-failures", "2")
    assert done.returncode == 1
    assert place.summary()["without_model"] == 2 and place.summary()["not_started"] == 2


@pytest.mark.slow
def test_sigterm_lets_running_jobs_finish_and_starts_no_other(place: Place) -> None:
    place.add("ana")
    place.add("ben")
    place.set_behaviours({"*": "slow 1"})
    batch = place.start("--jobs", "1")
    place.wait_for_trainer(batch)
    batch.send_signal(signal.SIGTERM)
    batch.communicate(timeout=60)
    assert batch.returncode == 143
    assert place.versions() == {"ana speech": ["v1"]}
    assert place.summary()["not_started"] == 1


@pytest.mark.slow
def test_the_summary_names_causes_and_who_needs_more_data(place: Place) -> None:
    for user in ("ana", "ben", "cleo"):
        place.add(user)
    place.set_behaviours({"ana speech": "gate", "ben speech": "internal"})
    assert place.launch().returncode == 1
    summary = place.summary()
    assert (summary["failed_by_cause"], summary["without_model"]) == ({"internal": 1}, 1)
    assert (summary["published"], summary["promoted"], summary["kept_as_candidate"]) == (1, 1, 0)
    assert [(row["user"], row["why"]) for row in summary["users_needing_more_data"]] == [("ana", "made to fail: gate")]
    assert {row["user"] for row in summary["slowest"]} == {"ana", "ben", "cleo"}


class _Scripted:
    """A backend that ends jobs as a script says, without any process."""

    slots = 2

    def __init__(self, outcomes: Iterator[Outcome]) -> None:
        self._outcomes = outcomes
        self.submitted: list[Job] = []
        self.most = self.running = 0

    def submit(self, job: Job) -> None:
        self.submitted.append(job)
        self.running += 1
        self.most = max(self.most, self.running)

    def wait(self, seconds: float) -> Outcome | None:
        self.running -= 1
        return next(self._outcomes)

    def cancel(self) -> None: ...

    def close(self) -> None: ...


def test_never_more_jobs_than_slots_are_handed_to_a_backend(tmp_path: Path) -> None:
    jobs = [Job(user=f"u{n}", modality="speech", data="d", fingerprint="a.b.c") for n in range(9)]
    backend = _Scripted(failed(job, "", "") for job in jobs)
    folder = RunFolder(tmp_path)
    folder.begin({}, jobs)
    outcomes: list[Outcome] = []
    run_batch(jobs, backend, folder, Control(), Stop(), outcomes.append)
    assert [outcome.user for outcome in outcomes] == [job.user for job in jobs] == [j.user for j in backend.submitted]
    assert backend.most == 2


@pytest.mark.slow
def test_a_job_keeps_its_run_id_until_something_changes(place: Place) -> None:
    place.add("ana")
    (job,) = make_plan(BatchSpec(data=place.data), users_with_data(place.data), []).jobs
    (same,) = make_plan(BatchSpec(data=place.data), users_with_data(place.data), []).jobs
    assert job.run_id == same.run_id == with_present_data(job).run_id
    with place.examples("ana").open("a") as stream:
        stream.write(json.dumps({"modality": "image"}) + os.linesep)
    assert with_present_data(job).run_id == job.run_id
    place.add("ana", session="s9")
    assert with_present_data(job).run_id != job.run_id
    (forced,) = make_plan(BatchSpec(data=place.data, force=True), users_with_data(place.data), [], {}).jobs[:1]
    assert forced.run_id != with_present_data(job).run_id


@pytest.mark.slow
def test_a_person_whose_data_allow_no_model_is_reported_and_does_not_fail_the_batch(place: Place) -> None:
    for user in ("ana", "ben"):
        place.add(user)
    place.set_behaviours({"ana speech": "data"})
    done = place.launch()
    assert done.returncode == 0
    assert "no model: ana speech: data in fit: made to fail: data" in done.stdout
    assert ", 0 failed, 1 without a model, " in done.stdout
    assert place.versions() == {"ben speech": ["v1"]}
    watched = [sys.executable, "-m", "orchestrator.monitor", str(place.runs), "--once"]
    shown = subprocess.run(watched, env=place.environment(), capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0
    assert "0 failed, 1 without a model" in shown.stdout and "no version: ana speech" in shown.stdout
    place.set_behaviours({"ana speech": "internal"})
    assert place.launch().returncode == 1


@pytest.mark.slow
def test_what_the_gate_refused_is_not_trained_again_until_something_changes(place: Place) -> None:
    place.add("ana")
    place.set_behaviours({"ana speech": "gate"})
    assert place.launch().returncode == 0
    place.set_behaviours({})  # a trainer that runs now succeeds
    again = place.launch()
    assert again.returncode == 0, "that ana has no model is known and reported"
    assert "refused before, and nothing changed since: ana speech: made to fail: gate" in again.stdout
    summary = place.summary()
    assert (summary["jobs"], summary["failed"], summary["refused_before"]) == (0, 0, 1)
    assert [(row["user"], row["why"]) for row in summary["users_needing_more_data"]] == [("ana", "made to fail: gate")]
    assert "1 refused before" in place.launch("--dry-run").stdout
    place.add("ana", count=7, session="later")
    assert place.launch().returncode == 0
    assert place.summary()["refused_before"] == 0


@pytest.mark.slow
def test_what_the_gate_refused_is_trained_again_by_force_and_after_other_failures(place: Place) -> None:
    place.add("ana")
    place.set_behaviours({"ana speech": "gate"})
    assert place.launch().returncode == 0
    place.set_behaviours({"ana speech": "internal"})
    assert place.launch("--force").returncode == 1
    place.set_behaviours({})
    assert place.launch().returncode == 0  # the last thing known is no refusal
    assert place.versions() == {"ana speech": ["v1"]}


@pytest.mark.slow
def test_what_is_damaged_of_one_person_fails_their_jobs_alone(place: Place) -> None:
    place.add("ana")
    place.add("ben")
    assert place.launch().returncode == 0
    history = place.registry.root / "users/ben/speech/history.jsonl"
    history.write_bytes(history.read_bytes().replace(b"user", b"USER", 1))
    place.add("ana", session="s2")
    place.add("ben", session="s2")
    place.set_behaviours({"ben speech": "internal"})  # which he would fail with, if anything were trained in vain
    batch = place.launch()
    assert batch.returncode == 1 and "history.jsonl:1" in batch.stderr
    assert place.versions() == {"ana speech": ["v1", "v2"]}
    assert "ben speech: upload: " in batch.stderr
