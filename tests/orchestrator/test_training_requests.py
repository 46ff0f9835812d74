"""Training requests as A3CP writes them: from a file, standard input or a spool folder, and on to the trainer."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from orchestrator.jobs import Job
from orchestrator.lifecycle import only_requested
from orchestrator.plan import BatchSpec, Plan, make_plan
from orchestrator.training_requests import move_spool_file, parse_requests, spool_files
from shared.data_loader import users_with_data
from shared.errors import DataError
from tests.orchestrator.orchestrated import Place

FOREST = {"model_type": "random_forest", "hyperparameters": {"n_estimators": 50}}


def _line(user: str, modality: str, **fields: Any) -> str:
    request = {"user_id": user, "modality": modality, "timestamp": "2026-03-01T12:00:00.000Z"}
    return json.dumps({**request, "retrain_reason": "new_samples", "policy_config_version": "1.0.0", **fields}) + "\n"


def _plan(place: Place, *lines: str) -> Plan:
    spec = only_requested(BatchSpec(data=place.data), parse_requests("".join(lines), "requests"))
    published = list(place.registry.entries()) if place.registry.root.exists() else []
    return make_plan(spec, users_with_data(place.data), published)


@pytest.mark.slow
def test_only_requested_models_are_trained_and_a_request_without_data_stops_no_other(place: Place) -> None:
    place.add("ana", ["speech", "sound"])
    place.add("ben", ["gesture"])
    requests = _line("ana", "audio") + _line("ana", "audio") + _line("nobody", "image") + _line("ben", "speech")
    done = subprocess.run(
        place.command("--requests", "-"),
        input=requests,
        env=place.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    assert place.versions() == {"ana sound": ["v1"]}
    assert [(row["user"], row["modality"]) for row in place.summary()["users_needing_more_data"]] == [
        ("ben", "speech"),
        ("nobody", "visual_environment"),
    ]


@pytest.mark.slow
def test_a_request_reaches_its_trainer_whole_and_no_other(place: Place) -> None:
    place.add("ana", ["speech", "sound"])
    (place.root / "requests.jsonl").write_text(
        _line("ana", "audio", training_config=FOREST, latest_model_version="v7", extra=1) + _line("ana", "speech")
    )
    assert place.launch("--requests", str(place.root / "requests.jsonl")).returncode == 0
    commands = {
        modality: json.loads((place.runs / "jobs/ana" / modality / "job.json").read_text())["command"]
        for modality in ("sound", "speech")
    }
    requests = {modality: json.loads(words[words.index("--request") + 1]) for modality, words in commands.items()}
    assert requests["sound"] == json.loads(_line("ana", "sound", training_config=FOREST, latest_model_version="v7")), (
        "in our names, without what is not A3CP's"
    )
    assert requests["speech"] == json.loads(_line("ana", "speech"))


@pytest.mark.slow
def test_what_a_request_asks_for_is_part_of_what_a_model_depends_on_and_why_is_not(place: Place) -> None:
    place.add("ana")
    assert place.launch().returncode == 0
    assert _plan(place, _line("ana", "speech")).jobs == ()
    assert (
        len(_plan(place, _line("ana", "speech", retrain_reason="30 days", policy_config_version="2")).up_to_date) == 1
    )
    (job,) = _plan(place, _line("ana", "speech", training_config=FOREST)).jobs
    assert job.reasons == ("changed config",)
    (place.root / "requests.jsonl").write_text(_line("ana", "speech", training_config=FOREST))
    assert place.launch("--requests", str(place.root / "requests.jsonl")).returncode == 0
    assert place.versions() == {"ana speech": ["v1", "v2"]}
    assert len(_plan(place, _line("ana", "speech", training_config=dict(reversed(FOREST.items())))).up_to_date) == 1
    (other,) = _plan(place, _line("ana", "speech", training_config=FOREST | {"feature_set": "use"})).jobs
    assert other.run_id != job.run_id


@pytest.mark.slow
def test_what_the_gate_refused_as_requested_is_tried_as_requested_otherwise(place: Place) -> None:
    place.add("ana")
    place.set_behaviours({"*": "gate"})
    requests = place.root / "requests.jsonl"
    requests.write_text(_line("ana", "speech", training_config=FOREST))
    assert place.launch("--requests", str(requests)).returncode == 0
    assert "refused before" in place.launch("--requests", str(requests)).stdout
    place.set_behaviours({})
    requests.write_text(_line("ana", "speech", training_config={"model_type": "lda"}))
    assert place.launch("--requests", str(requests)).returncode == 0


def test_a_job_with_its_request_travels_as_json(place: Place) -> None:
    place.add("ana")
    (job,) = _plan(place, _line("ana", "speech", training_config=FOREST)).jobs
    again = Job.model_validate_json(job.model_dump_json())
    assert again == job and again.words(place.runs) == job.words(place.runs)


def test_of_several_requests_for_one_model_the_last_counts(place: Place) -> None:
    place.add("ana")
    (job,) = _plan(place, _line("ana", "speech", training_config=FOREST), _line("ana", "speech")).jobs
    assert job.request is not None and job.request.training_config == {}


@pytest.mark.slow
def test_all_faults_of_a_file_of_requests_are_reported_and_nothing_runs(place: Place) -> None:
    place.add("ana")
    requests = place.root / "requests.jsonl"
    lines = [
        _line("ana", "speech"),
        _line("../x", "smell"),
        "{\n",
        '{"user_id": "ana"}\n',
        _line("ana", "speech", training_config=[1]),
        _line("ana", "speech", training_config={"hyperparameters": "x" * 40_000}),
        _line("ana", "speech", training_config={"hyperparameters": {"C": float("nan")}}),
        _line("ana", "speech", timestamp="yesterday"),
    ]
    requests.write_text("".join(lines))
    done = place.launch("--requests", str(requests))
    assert done.returncode == 3
    places = [tuple(line.split(": ")[:2]) for line in done.stderr.splitlines()]
    assert [(path.rpartition(":")[2], field) for path, field in places] == [
        ("2", "modality"),
        ("2", "user_id"),
        ("3", "(line)"),
        ("4", "modality"),
        ("5", "training_config"),
        ("6", "training_config"),
        ("7", "training_config"),
        ("8", "timestamp"),
    ]
    assert "is larger than 32 KiB" in done.stderr and "holds a number that is not finite" in done.stderr
    assert "'smell': must be one of gesture, sound" in done.stderr
    assert not place.registry.root.exists()


@pytest.mark.slow
def test_a_dry_run_writes_a_plan_that_can_be_passed_back(place: Place) -> None:
    place.add("ana", ["speech", "gesture"])
    plan = place.launch("--dry-run", "--json", "--modalities", "speech")
    assert plan.returncode == 0
    (place.root / "plan.jsonl").write_text(plan.stdout)
    assert json.loads(plan.stdout)["retrain_reason"] == "first model"
    assert place.launch("--requests", str(place.root / "plan.jsonl")).returncode == 0
    assert place.versions() == {"ana speech": ["v1"]}
    (place.root / "requests.jsonl").write_text(_line("ana", "gesture", training_config=FOREST))
    planned = json.loads(place.launch("--dry-run", "--json", "--requests", str(place.root / "requests.jsonl")).stdout)
    assert (planned["training_config"], planned["retrain_reason"]) == (FOREST, "new_samples")


@pytest.mark.slow
def test_a_spool_folder_is_followed_until_a_signal(place: Place) -> None:
    place.add("ana")
    place.add("ben")
    spool = place.root / "spool"
    spool.mkdir()
    (spool / "1.jsonl").write_text(_line("ana", "speech"))
    (spool / "2.jsonl").write_text("nonsense\n")
    follower = place.start("--requests", str(spool), "--follow")
    _wait_for(spool / "done/1.jsonl")
    _wait_for(spool / "refused/2.jsonl")
    (spool / ".3").write_text(_line("ben", "speech"))
    (spool / ".3").rename(spool / "3.json")
    _wait_for(spool / "done/3.json")
    follower.send_signal(signal.SIGTERM)
    _, errors = follower.communicate(timeout=30)
    assert follower.returncode == 143
    assert "2.jsonl:1" in errors
    assert place.versions() == {"ana speech": ["v1"], "ben speech": ["v1"]}


def _wait_for(path: Path) -> None:
    for _ in range(600):
        if path.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} did not appear")


@pytest.mark.slow
def test_following_needs_a_folder(place: Place) -> None:
    place.add("ana")
    assert place.launch("--follow").returncode == 2


def test_spooled_files_come_by_name_and_are_moved_without_overwriting(tmp_path: Path) -> None:
    for name in ("b.json", "a.jsonl", ".hidden.json", "notes.txt"):
        (tmp_path / name).write_text("")
    (tmp_path / "link.json").symlink_to("/etc/passwd")
    assert [path.name for path in spool_files(tmp_path)] == ["a.jsonl", "b.json"]
    move_spool_file(tmp_path / "b.json", "done")
    (tmp_path / "b.json").write_text("again")
    move_spool_file(tmp_path / "b.json", "done")
    assert {path.name for path in (tmp_path / "done").iterdir()} == {"b.json", "b-2.json"}


@pytest.mark.parametrize("line", ['{"user_id": "a", "modality": 3}', "[]", '{"user_id": "' + "x" * 99 + '"}', "\x00"])
def test_hostile_lines_are_faults(line: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_requests(line, "q")
    assert all(fault.path == "q" and fault.line == 1 for fault in caught.value.faults)
