"""The monitor shows what the run folder holds, follows it, and writes nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from model_registry.languages import LANGUAGES, Language
from orchestrator.jobs import Cause, Job, failed
from orchestrator.lock import batch_lock
from orchestrator.monitor_page import failures_json, monitor_page, page_server
from orchestrator.progress import Follower
from orchestrator.run_folder import RunFolder
from tests.model_registry.service.browser import Browser, chromium
from tests.orchestrator.orchestrated import Place

JOBS = [Job(user=user, modality="speech", data="data", fingerprint="a.b.c") for user in ("ana", "ben", "cleo")]


def _batch(root: Path) -> RunFolder:
    folder = RunFolder(root / "runs")
    folder.begin({}, JOBS)
    return folder


def test_a_follower_sees_stages_failures_and_the_end(tmp_path: Path) -> None:
    folder = _batch(tmp_path)
    follower = Follower(folder)
    assert (follower.read().total, follower.read().done) == (3, 0)

    events = folder.start_job(JOBS[0], ["x"]) / "events.jsonl"
    folder.record("started", {"user": "ana", "modality": "speech"})
    events.write_text(
        'a library\'s warning\n{"event": "stage", "stage": "decode", "done": 3, "total": 9}\n{"event": "st'
    )
    (running,) = follower.read().running
    assert (running.user, running.stage, running.done, running.total) == ("ana", "decode", 3, 9)

    with events.open("a") as stream:
        stream.write('age", "stage": "fit", "done": 0, "total": 1}\n')
    assert follower.read().running[0].stage == "fit"

    folder.record("finished", failed(JOBS[0], "internal", "no\nsamples").model_dump())
    progress = follower.read()
    assert (progress.done, progress.failed, progress.running) == (1, 1, ())
    assert progress.last_errors == ("ana speech: internal: no samples",)
    assert not progress.finished
    folder.record("end", {"exit_code": 1})
    assert follower.read().finished


def test_a_follower_notices_a_new_batch_in_the_same_folder(tmp_path: Path) -> None:
    folder = _batch(tmp_path)
    follower = Follower(folder)
    folder.record("finished", failed(JOBS[0], "internal", "x").model_dump())
    assert follower.read().failed == 1
    folder.begin({}, JOBS[:1])
    progress = follower.read()
    assert (progress.total, progress.done, progress.failed) == (1, 0, 0)


@pytest.mark.slow
def test_the_command_shows_a_finished_batch_as_table_and_as_json(place: Place) -> None:
    place.add("ana", ["speech", "gesture"])
    place.set_behaviours({"ana speech": "internal"})
    place.launch()
    before = {path: path.stat().st_mtime_ns for path in place.runs.rglob("*")}
    command = [sys.executable, "-m", "orchestrator.monitor", str(place.runs)]
    shown = subprocess.run(command, env=place.environment(), capture_output=True, text=True, timeout=60)
    assert shown.returncode == 1
    assert "2 of 2 jobs ended, 1 failed" in shown.stdout and "made to fail" in shown.stdout
    printed = subprocess.run([*command, "--json"], env=place.environment(), capture_output=True, text=True, timeout=60)
    state = json.loads(printed.stdout)
    assert (state["done"], state["failed"], state["finished"]) == (2, 1, True)
    assert {row["modality"]: row["failed"] for row in state["modalities"]} == {"gesture": 0, "speech": 1}
    assert before == {path: path.stat().st_mtime_ns for path in place.runs.rglob("*")}


def test_a_folder_without_a_batch_is_a_usage_error(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "orchestrator.monitor", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "no batch" in done.stderr


def _get(url: str) -> tuple[str, str]:
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.headers["Content-Type"], response.read().decode()


@pytest.mark.slow
def test_the_page_the_state_and_the_metrics_are_served(tmp_path: Path) -> None:
    folder = _batch(tmp_path)
    folder.record("started", {"user": "ana", "modality": "speech"})
    folder.record("finished", failed(JOBS[0], "internal", "<script>alert(1)</script>").model_dump())
    folder.record("started", {"user": "ben", "modality": "speech"})
    with page_server(Follower(folder), "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        kind, page = _get(url + "/")
        assert kind.startswith("text/html") and "state.json" in page and "innerHTML" not in page
        state = json.loads(_get(url + "/state.json")[1])
        assert (state["total"], state["failed"], state["running"][0]["user"]) == (3, 1, "ben")
        _, text = _get(url + "/metrics")
        assert 'model_trainer_jobs{modality="speech",state="failed"} 1.0' in text
        assert 'model_trainer_jobs{modality="speech",state="waiting"} 1.0' in text
        with pytest.raises(urllib.error.HTTPError) as refused:
            _get(url + "/../../etc/passwd")
        assert refused.value.headers["Content-Type"].startswith("text/plain") and refused.value.read() == b"Not Found\n"
        server.shutdown()


@pytest.mark.slow
def test_a_batch_that_was_cut_short_has_an_exit_code_of_its_own(tmp_path: Path) -> None:
    folder = _batch(tmp_path)
    command = [sys.executable, "-m", "orchestrator.monitor", str(folder.root), "--once"]
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 4
    with batch_lock(folder.lock):
        assert subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    folder.record("end", {"exit_code": 0})
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 0


@pytest.mark.slow
def test_ten_thousand_jobs_are_followed_by_reading_each_line_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [Job(user=f"u{n}", modality="speech", data="data", fingerprint="a.b.c") for n in range(10_000)]
    folder = RunFolder(tmp_path / "runs")
    folder.begin({}, jobs)
    follower = Follower(folder)
    for job in jobs:
        folder.record("finished", failed(job, "", "").model_dump())
    assert follower.read().done == 10_000
    read: list[int] = []
    monkeypatch.setattr(
        "orchestrator.progress.tail", lambda path, offset: (read.append(path.stat().st_size - offset), ([], offset))[1]
    )
    assert follower.read().done == 10_000
    assert read == [0]


@pytest.mark.slow
def test_the_page_updates_itself_in_a_browser(tmp_path: Path) -> None:
    folder = _batch(tmp_path)
    with page_server(Follower(folder), "127.0.0.1", 0) as server, chromium({}) as page:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page.open(f"http://127.0.0.1:{server.server_port}/")
        _see(page, "0 of 3 jobs ended, 0 failed")
        folder.record("started", {"user": "ben", "modality": "speech"})
        folder.record("finished", failed(JOBS[0], "internal", "<b>no</b> samples").model_dump())
        _see(page, "1 of 3 jobs ended, 1 failed")
        assert page.run("document.getElementById('running').rows[0].cells[0].textContent") == "ben"
        _see(page, "1 without a version, 1 of them failed; 1 match", "count")
        cells = "[...document.getElementById('failures').rows[0].cells].map((cell) => cell.textContent)"
        user, modality, cause, reason, since, log = page.run(cells)
        assert (user, modality, cause, reason, log) == ("ana", "speech", "internal", "<b>no</b> samples", "")
        assert since.endswith(" UTC, new")
        assert page.run("document.getElementById('bar').value") == 1
        assert ("progressbar", "jobs ended") in [(role.lower(), name) for role, name in page.accessible()]
        faults = [event for event in page.events if event["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")]
        assert [event for event in faults if "favicon" not in str(event)] == []
        server.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_and_passes_axe(scheme: str, tmp_path: Path) -> None:
    folder = _batch(tmp_path)
    folder.record("started", {"user": "b" * 64, "modality": "visual_environment"})
    folder.record("finished", failed(JOBS[0], "internal", "no samples of " + "x" * 200).model_dump())
    with page_server(Follower(folder), "127.0.0.1", 0) as server, chromium({}) as page:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page.resize(360, 740)
        page.prefer(scheme)
        page.open(f"http://127.0.0.1:{server.server_port}/")
        _see(page, "1 of 3 jobs ended, 1 failed")
        _see(page, "1 match", "count")
        assert page.run("document.documentElement.scrollWidth") <= 360
        assert page.violations() == []
        page.screenshot(tmp_path / f"monitor-{scheme}.png")
        server.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("language", "head", "cause", "filtered"),
    [
        ("de", "1 von 3 Auftr\u00e4gen beendet, 1 fehlgeschlagen", "interner Fehler, Schritt: Laden", "1 passen"),
        ("es", "1 de 3 trabajos terminados, 1 fallidos", "error interno, paso: carga", "1 coinciden"),
    ],
)
def test_the_page_speaks_the_language_of_the_browser(
    language: str, head: str, cause: str, filtered: str, tmp_path: Path
) -> None:
    folder = _batch(tmp_path)
    folder.record("started", {"user": "ben", "modality": "visual_environment"})
    stopped = failed(JOBS[0], "internal", "no samples").model_copy(update={"stage": "load"})
    folder.record("finished", stopped.model_dump())
    headers = {"Accept-Language": language}
    with page_server(Follower(folder), "127.0.0.1", 0) as server, chromium(headers) as page:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        page.resize(360, 740)
        page.open(address)
        _see(page, head)
        _see(page, filtered, "count")
        assert page.run("document.documentElement.lang") == language
        row = "document.getElementById('failures').rows[0]"
        assert page.run(f"{row}.cells[2].textContent") == cause
        assert page.run(f"{row}.cells[3].lang") == "en", "a reason that no catalogue has is English"
        assert page.run("document.documentElement.scrollWidth") <= 360 and page.violations() == []
        text = page.run("document.body.innerText.replace('no samples', '')")
        assert re.findall(r"\b(?:the|of|is|and|jobs|failed|running|without|user|since)\b", text) == []
        assert {*page.requests()} == {address, f"{address}state.json", f"{address}failures.json"}
        server.shutdown()


LITTLE = "data/users/ana: speech: no sample to train on: 12 left out (no consent), 3 left out (demo data); "
LITTLE += "`model-trainer check` shows what is there"


@pytest.mark.parametrize(
    ("language", "reason", "said"),
    [
        (
            "de",
            LITTLE,
            "keine Aufnahme zum Trainieren: 12 ausgelassen (keine Einwilligung), 3 ausgelassen (Demodaten); ",
        ),
        ("es", LITTLE, "ninguna muestra para entrenar: 12 excluidas (sin consentimiento), 3 excluidas (datos de dem"),
        ("en", LITTLE, LITTLE),
        ("de", "used 900 MiB of 800 MiB; raise --memory or give it less data", "brauchte 900 MiB von 800 MiB; "),
        ("de", "killed by SIGKILL; last output: x: y", "durch SIGKILL beendet; letzte Ausgabe: x: y"),
    ],
)
def test_reasons_are_in_the_language_of_the_page(language: Language, reason: str, said: str, tmp_path: Path) -> None:
    folder = _batch(tmp_path)
    folder.record("finished", failed(JOBS[0], "data", reason).model_dump())
    (row,) = json.loads(failures_json(folder, language))["failures"]
    assert row["reason"] == reason and said in row["said"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_is_small(language: Language) -> None:
    assert 5_000 < len(monitor_page(language)) <= 100_000


@pytest.mark.slow
def test_the_page_lists_all_failures_filters_them_and_links_their_logs(tmp_path: Path) -> None:
    jobs = [Job(user=f"u{n:03}", modality="speech", data="data", fingerprint="a.b.c") for n in range(300)]
    folder = RunFolder(tmp_path / "runs")
    folder.begin({}, jobs)
    for number, job in enumerate(jobs):
        cause: Cause = "data" if number % 3 else "internal"
        folder.record("finished", failed(job, cause, f"reason {number}").model_dump())
    (folder.start_job(jobs[7], ["x"]) / "log.json").write_text('{"status": "failure <b>"}')
    with page_server(Follower(folder), "127.0.0.1", 0) as server, chromium({}) as page:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        page.open(f"{address}/")
        _see(page, "300 without a version, 100 of them failed; 300 match, the first 200 are listed", "count")
        assert page.run("document.getElementById('failures').rows.length") == 200
        _choose(page, "text", "value", "u007")
        _see(page, "; 1 match", "count")
        link = page.run("document.querySelector('#failures a').href")
        assert link == f"{address}/logs/u007/speech"
        kind, log = _get(link)
        assert kind == "text/plain; charset=utf-8" and log == '{"status": "failure <b>"}'
        _choose(page, "text", "value", "")
        _choose(page, "cause", "value", "internal")
        _see(page, "; 100 match", "count")
        _choose(page, "changed", "checked", True)
        _see(page, "; 100 match", "count")
        for path in ("logs/u007", "logs/u008/speech", "logs/..%2f../speech", "logs/u007/../../journal.jsonl"):
            with pytest.raises(urllib.error.HTTPError):
                _get(f"{address}/{path}")
        server.shutdown()


def _choose(page: Browser, control: str, field: str, value: object) -> None:
    element = f"document.getElementById('{control}')"
    page.run(f"{element}.{field} = {json.dumps(value)}; {element}.dispatchEvent(new Event('input'))")


def _see(page: Browser, text: str, place: str = "head") -> None:
    until = time.monotonic() + 30
    while text not in str(page.run(f"document.getElementById('{place}').textContent")):
        assert time.monotonic() < until, page.run("document.body.textContent")
        time.sleep(0.1)
