"""Retraining requests as A3CP writes them: from a file, standard input or a spool folder."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from orchestrator.retraining import parse_requests, put_away, spooled
from shared.errors import DataError
from tests.orchestrator.orchestrated import Place


def _line(user: str, modality: str) -> str:
    request = {"user_id": user, "modality": modality, "timestamp": "2026-03-01T12:00:00.000Z"}
    return json.dumps({**request, "retrain_reason": "new_samples", "policy_config_version": "1.0.0"}) + "\n"


def test_only_what_is_requested_is_trained_and_a_wish_without_data_stops_nobody(place: Place) -> None:
    place.add("ana", ["speech", "sound"])
    place.add("ben", ["gesture"])
    wishes = _line("ana", "audio") + _line("ana", "audio") + _line("nobody", "image") + _line("ben", "speech")
    done = subprocess.run(
        place.command("--requests", "-"),
        input=wishes,
        env=place.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert place.versions() == {"ana sound": ["v1"]}
    assert [(row["user"], row["modality"]) for row in place.summary()["users_needing_more_data"]] == [
        ("ben", "speech"),
        ("nobody", "visual_environment"),
    ]


def test_all_faults_of_a_file_of_requests_are_told_and_nothing_runs(place: Place) -> None:
    place.add("ana")
    wishes = place.root / "wishes.jsonl"
    wishes.write_text(_line("ana", "speech") + _line("../x", "smell") + "{\n" + '{"user_id": "ana"}\n')
    done = place.launch("--requests", str(wishes))
    assert done.returncode == 3
    told = done.stderr.splitlines()
    assert [line.split(":")[1] for line in told] == ["2", "2", "3", "4"]
    assert not place.registry.root.exists()


def test_a_dry_run_writes_a_plan_that_can_be_given_back(place: Place) -> None:
    place.add("ana", ["speech", "gesture"])
    plan = place.launch("--dry-run", "--json", "--modalities", "speech")
    assert plan.returncode == 0
    (place.root / "plan.jsonl").write_text(plan.stdout)
    assert json.loads(plan.stdout)["retrain_reason"] == "first model"
    assert place.launch("--requests", str(place.root / "plan.jsonl")).returncode == 0
    assert place.versions() == {"ana speech": ["v1"]}


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
    _, told = follower.communicate(timeout=30)
    assert follower.returncode == 143
    assert "2.jsonl:1" in told
    assert place.versions() == {"ana speech": ["v1"], "ben speech": ["v1"]}


def _wait_for(path: Path) -> None:
    for _ in range(600):
        if path.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} did not appear")


def test_following_needs_a_folder(place: Place) -> None:
    place.add("ana")
    assert place.launch("--follow").returncode == 2


def test_spooled_files_come_by_name_and_are_put_away_without_overwriting(tmp_path: Path) -> None:
    for name in ("b.json", "a.jsonl", ".hidden.json", "notes.txt"):
        (tmp_path / name).write_text("")
    (tmp_path / "link.json").symlink_to("/etc/passwd")
    assert [path.name for path in spooled(tmp_path)] == ["a.jsonl", "b.json"]
    put_away(tmp_path / "b.json", "done")
    (tmp_path / "b.json").write_text("again")
    put_away(tmp_path / "b.json", "done")
    assert {path.name for path in (tmp_path / "done").iterdir()} == {"b.json", "b-2.json"}


@pytest.mark.parametrize("line", ['{"user_id": "a", "modality": 3}', "[]", '{"user_id": "' + "x" * 99 + '"}', "\x00"])
def test_hostile_lines_are_faults(line: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_requests(line, "q")
    assert all(fault.path == "q" and fault.line == 1 for fault in caught.value.faults)
