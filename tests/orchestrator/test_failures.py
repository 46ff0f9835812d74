"""`batch report`: every failure with its cause, its log and since when, and what the last batch changed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from orchestrator.failures import failures_before, read_failures
from orchestrator.jobs import Cause, Job, failed
from orchestrator.launch import main
from orchestrator.plan import BatchSpec, Plan
from orchestrator.run_folder import RunFolder
from shared.data.erasure import Person, Places, erase_from_folder, traces
from tests.orchestrator.orchestrated import Place

SPEC = BatchSpec(data=Path("data"))
Endings = dict[str, tuple[Cause, str]]  # user -> cause and reason


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each look at the clock be a minute after the last."""
    minutes = iter(range(60, 100_000))
    monkeypatch.setattr(
        "orchestrator.run_folder.utc_now",
        lambda: f"2026-03-01T{(minute := next(minutes)) // 60 % 24:02}:{minute % 60:02}:00.000Z",
    )


def run(folder: RunFolder, endings: Endings, *, planned: Endings | None = None, spec: BatchSpec = SPEC) -> str:
    """Run a batch whose jobs end so, and return when it began; of `planned` jobs the others do not end."""
    jobs = {user: Job(user=user, modality="speech", data="data", fingerprint="a.b.c") for user in planned or endings}
    folder.begin({}, jobs.values(), failures_before(folder, spec, Plan(tuple(jobs.values()), ())))
    for user, (cause, reason) in endings.items():
        log = folder.start_job(jobs[user], ["x"])
        (log / "log.json").write_text('{"status": "failure"}')
        folder.record("finished", failed(jobs[user], cause, reason).model_dump())
    if planned is None:
        folder.record("end", {"exit_code": 0})
    return str(json.loads(folder.journal.read_text().splitlines()[0])["time"])


def report(folder: RunFolder, *options: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["report", str(folder.root), *options])
    return done.exit_code, done.output


def test_a_failure_is_as_old_as_the_batch_that_first_showed_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs")
    first = run(folder, {"ana": ("internal", "no"), "ben": ("data", "2 samples"), "cleo": ("", "")})
    second = run(folder, {"ana": ("internal", "no"), "ben": ("data", "3 samples"), "cleo": ("timeout", "60 s")})
    found = read_failures(folder)
    assert [(each.user, each.since, found.change(each)) for each in found.failures] == [
        ("ana", first, "unchanged"),
        ("ben", first, "changed"),
        ("cleo", second, "new"),
    ]
    third = run(folder, {"ana": ("", ""), "ben": ("internal", "3 samples"), "cleo": ("timeout", "60 s")})
    found = read_failures(folder)
    assert {each.user: each.since for each in found.failures} == {"ben": third, "cleo": second}
    assert [(each.user, each.since) for each in found.mended] == [("ana", first)]
    run(
        folder, {"ana": ("", ""), "cleo": ("timeout", "60 s")}, spec=BatchSpec(data=Path("data"), users=("ana", "cleo"))
    )
    found = read_failures(folder)
    assert {each.user: each.since for each in found.failures} == {"ben": third, "cleo": second}
    assert found.mended == ()


def test_a_batch_that_runs_or_was_killed_is_reported_as_far_as_it_came(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs")
    first = run(folder, {"ana": ("internal", "no"), "ben": ("internal", "no")})
    everybody: Endings = {"ana": ("", ""), "ben": ("", ""), "cleo": ("", "")}
    run(folder, {"ana": ("", ""), "ben": ("cancelled", "the batch ended")}, planned=everybody)
    found = read_failures(folder)
    assert not found.finished and [each.user for each in found.mended] == ["ana"]
    assert [(each.user, each.cause, each.since) for each in found.failures] == [("ben", "internal", first)]
    assert "has not ended" in report(folder)[1]
    last = run(folder, {"ben": ("internal", "no"), "cleo": ("crashed", "x")})
    assert {each.user: each.since for each in read_failures(folder).failures} == {"ben": first, "cleo": last}


def test_what_no_longer_has_data_is_mended_only_where_the_batch_is_about_everybody(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs")
    run(folder, {"ana": ("internal", "no"), "ben": ("internal", "no")})
    run(folder, {"ben": ("internal", "no")}, spec=BatchSpec(data=Path("data"), users=("ben",)))
    assert [each.user for each in read_failures(folder).failures] == ["ana", "ben"]
    run(folder, {"ben": ("internal", "no")})
    assert [each.user for each in read_failures(folder).failures] == ["ben"]
    assert [each.user for each in read_failures(folder).mended] == ["ana"]


def test_what_the_quality_gate_refused_before_stays_listed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs")
    refused = failed(Job(user="ana", modality="speech", data="data", fingerprint="a.b.c"), "gate", "too weak")
    folder.begin({}, (), failures_before(folder, SPEC, Plan((), (), (refused,))))
    (each,) = read_failures(folder).failures
    assert (each.user, each.cause, each.since) == ("ana", "gate", "")
    assert "since an earlier batch" in report(folder, "--all")[1]


def test_the_command_lists_what_changed_or_all_and_where_the_logs_are(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs")
    run(folder, {"ana": ("internal", "no"), "ben": ("data", "2 samples")})
    run(folder, {"ana": ("internal", "no"), "ben": ("", ""), "cleo": ("timeout", "60 s")})
    code, text = report(folder)
    assert code == 1 and "new: cleo speech failed: timeout: 60 s" in text and "ana" not in text
    assert "2 without a version: 1 new, 0 with another reason than before, 1 as before" in text
    assert f"log: {folder.job('cleo', 'speech') / 'log.json'}" in text
    assert "mended: ben speech" in text and "1 as before are not listed; --all lists them" in text
    code, text = report(folder, "--all")
    assert code == 1 and "unchanged: ana speech failed: internal: no\n    since 1 March 2026, 01:0" in text
    code, text = report(folder, "--all", "--cause", "internal")
    assert code == 1 and "ana" in text and "timeout" not in text and "mended" not in text
    assert report(folder, "--user", "ben", "--json")[0] == 0
    code, text = report(folder, "--json", "--all")
    document: dict[str, Any] = json.loads(text)
    assert [(row["user"], row["change"], row["cause"]) for row in document["failures"]] == [
        ("ana", "unchanged", "internal"),
        ("cleo", "new", "timeout"),
    ]
    assert document["mended"][0]["user"] == "ben" and document["finished"] is True
    assert Path(document["failures"][0]["log"]).is_file()


def test_a_quiet_report_says_nothing_where_nothing_changed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs")
    run(folder, {"ana": ("data", "2 samples")})
    assert report(folder, "--quiet")[0] == 0 and "new: ana speech no model: data" in report(folder, "--quiet")[1]
    run(folder, {"ana": ("data", "2 samples")})
    assert report(folder, "--quiet") == (0, "") and report(folder)[1] != ""
    assert "unchanged: ana" in report(folder, "--quiet", "--all")[1]


def test_a_folder_without_a_batch_or_with_a_damaged_record_is_no_crash(tmp_path: Path) -> None:
    code, text = report(RunFolder(tmp_path / "none"))
    assert code == 2 and "no batch was started" in text
    folder = RunFolder(tmp_path / "runs")
    run(folder, {"ana": ("internal", "no")})
    folder.failures.write_text('{"failures": [{"user": 5}]}')
    assert [each.user for each in read_failures(folder).failures] == ["ana"]


def test_an_erasure_takes_a_person_out_of_the_record(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs")
    run(folder, {"ana": ("internal", "no"), "ben": ("internal", "no")})
    run(folder, {"ben": ("internal", "no")}, spec=BatchSpec(data=Path("data"), users=("ben",)))
    assert "ana" in folder.failures.read_text()
    erase_from_folder(folder.root, Person("ana"), Places("ana"))
    assert "ana" not in folder.failures.read_text() and list(traces(folder.root, Person("ana"))) == []
    assert [each.user for each in read_failures(folder).failures] == ["ben"]


@pytest.mark.slow
def test_batches_keep_the_record_themselves(place: Place) -> None:
    place.add("ana", ["speech", "gesture"])
    place.add("ben")
    place.set_behaviours({"ana speech": "internal", "ben speech": "gate"})
    place.launch()
    place.launch()
    command = [sys.executable, "-m", "orchestrator.launch", "report", str(place.runs), "--json", "--all"]
    done = subprocess.run(command, env=place.environment(), capture_output=True, text=True, timeout=60)
    document = json.loads(done.stdout)
    assert done.returncode == 1 and document["finished"]
    assert {(row["user"], row["modality"], row["cause"], row["change"]) for row in document["failures"]} == {
        ("ana", "speech", "internal", "unchanged"),
        ("ben", "speech", "gate", "unchanged"),
    }
    place.set_behaviours({})
    place.launch("--force")
    done = subprocess.run(command, env=place.environment(), capture_output=True, text=True, timeout=60)
    document = json.loads(done.stdout)
    assert done.returncode == 0 and document["failures"] == []
    assert [(row["user"], row["modality"]) for row in document["mended"]] == [("ana", "speech"), ("ben", "speech")]


def test_a_batch_without_data_is_a_usage_error() -> None:
    done = CliRunner().invoke(main, [])
    assert done.exit_code == 2 and "--data" in done.output
