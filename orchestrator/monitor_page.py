"""The monitor over HTTP: a page that updates itself, state and failures as JSON, logs, and metrics for Prometheus."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import lru_cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import get_args

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from model_registry.errors import InvalidNameError
from model_registry.languages import CATALOGUES, Language, Words, install, preferred_language, words
from model_registry.names import parse_modality, parse_user
from orchestrator.failures import Change, FailureReport, read_failures
from orchestrator.jobs import Cause
from orchestrator.progress import Follower, Progress
from orchestrator.run_folder import RunFolder
from shared.logs import STAGES
from shared.report.pages import OWN_CATALOGUES as REPORT_CATALOGUES
from shared.trainers import modality_names

OWN_CATALOGUES = Path(__file__).parent / "locale"
# What the page's script writes, in English; the names between parentheses are filled in there.
TEXTS = {
    "head": "%(done)s of %(total)s jobs ended, %(failed)s failed, %(without_model)s without a model, %(rate)s jobs/s",
    "finished": "finished",
    "left": "about %(time)s left",
    "all": "all",
    "earlier": "an earlier batch",
    "count": "%(all)s without a version, %(failed)s of them failed; %(matching)s match",
    "first": "the first %(rows)s are listed",
    "in_stage": "%(cause)s in %(stage)s",
    "log": "log",
    "log_of": "log of %(user)s, %(modality)s",
    "mended": "Mended since the batch before: %(jobs)s",
    "silent": "the monitor does not respond; is it still running?",
}
NAMES = (*filter(None, get_args(Cause)), *get_args(Change), *STAGES)  # of causes, changes and stages in the JSON
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:"
_LOG_BYTES = 1 << 20  # of the end of a log


def page_server(follower: Follower, host: str, port: int) -> ThreadingHTTPServer:
    """Return a server of `/`, `/state.json`, `/failures.json`, `/logs/<user>/<modality>` and `/metrics`.

    Port 0 takes a free one. Raises OSError.
    """
    lock = threading.Lock()  # one read at a time: a follower remembers how far it has read

    def read() -> Progress:
        with lock:
            return follower.read()

    return ThreadingHTTPServer((host, port), partial(_Handler, read, follower.folder))


class _Handler(BaseHTTPRequestHandler):
    server_version = "model-trainer"
    sys_version = ""
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(message)s\n"

    def __init__(self, read: Callable[[], Progress], folder: RunFolder, *rest: object) -> None:
        self._read = read
        self._folder = folder
        super().__init__(*rest)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        path = self.path.split("?", 1)[0]
        if path == "/":
            self._respond("text/html; charset=utf-8", monitor_page(self._language()))
        elif path == "/state.json":
            self._respond("application/json", self._read().model_dump_json().encode())
        elif path == "/failures.json":
            self._respond("application/json", failures_json(self._folder, self._language()))
        elif path.startswith("/logs/"):
            log = _last_bytes(self._folder, path.removeprefix("/logs/"))
            self.send_error(404) if log is None else self._respond("text/plain; charset=utf-8", log)
        elif path == "/metrics":
            self._respond(
                "text/plain; version=0.0.4; charset=utf-8", metrics(self._read(), read_failures(self._folder))
            )
        else:
            self.send_error(404)

    def _language(self) -> Language:
        return preferred_language(self.headers.get("Accept-Language", ""))

    def _respond(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Content-Security-Policy": _POLICY,
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: the page polls every second."""


@lru_cache
def monitor_page(language: Language) -> bytes:
    """Return the page in a language; what it shows comes as JSON."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    translated = _words(language)
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    install(environment, translated)
    texts = {name: translated.text(text) for name, text in TEXTS.items()}
    names = {name: translated.text(name) for name in NAMES}
    names |= {name: translated.modality(name) for name in modality_names()}
    return environment.get_template("monitor.html").render(texts=texts, names=names).encode()


def _words(language: Language) -> Words:
    return words(language, OWN_CATALOGUES, REPORT_CATALOGUES, CATALOGUES)


def failures_json(folder: RunFolder, language: Language = "en") -> bytes:
    """Return all failures of a run folder as JSON: with what changed, whether there is a log, and `said`.

    `said` is the reason in a language, or in English where no catalogue has it.
    """
    report, translated = read_failures(folder), _words(language)
    rows = [
        each.model_dump()
        | {"change": report.change(each), "of_data": each.of_data, "log": folder.log(*each.slot) is not None}
        | {"said": translated.logged_text(each.reason)}
        for each in report.failures
    ]
    mended = [each.model_dump() for each in report.mended]
    return json.dumps({"batch": report.batch, "failures": rows, "mended": mended}, ensure_ascii=False).encode()


def _last_bytes(folder: RunFolder, name: str) -> bytes | None:
    """Return the end of the log of `<user>/<modality>`, or None where there is none."""
    user, _, modality = name.partition("/")
    try:
        log = folder.log(parse_user(user), parse_modality(modality))
    except InvalidNameError:
        return None
    if log is None:
        return None
    with log.open("rb") as file:
        file.seek(max(log.stat().st_size - _LOG_BYTES, 0))
        return file.read()


class _Gauges:
    """A batch's state and failures as Prometheus gauges, without any name of a person."""

    def __init__(self, progress: Progress, report: FailureReport) -> None:
        self._progress = progress
        self._report = report

    def collect(self) -> Iterator[Metric]:
        jobs = GaugeMetricFamily("model_trainer_jobs", "Jobs of the batch by state.", labels=["modality", "state"])
        for row in self._progress.modalities:
            counts = {
                "waiting": row.total - row.done - row.running,
                "running": row.running,
                "succeeded": row.done - row.failed - row.without_model,
                "failed": row.failed,
                "without_model": row.without_model,
            }
            for state, count in counts.items():
                jobs.add_metric([row.modality, state], count)
        yield jobs
        failures = GaugeMetricFamily(
            "model_trainer_failures",
            "Users and modalities without a version, by what kind of end, cause, and what the batch changed about it.",
            labels=["modality", "kind", "cause", "change"],
        )
        counts_of_failures = Counter(
            (each.modality, "no_model" if each.of_data else "failed", each.cause, self._report.change(each))
            for each in self._report.failures
        )
        for labels, number in sorted(counts_of_failures.items()):
            failures.add_metric(labels, number)
        yield failures
        if self._progress.started:
            started = datetime.fromisoformat(self._progress.started).timestamp()
            yield GaugeMetricFamily("model_trainer_batch_started_seconds", "When the batch began, since 1970.", started)
        rate, finished = self._progress.jobs_per_second, self._progress.finished
        yield GaugeMetricFamily("model_trainer_jobs_per_second", "Jobs ended per second.", rate)
        yield GaugeMetricFamily("model_trainer_batch_finished", "1 when the batch has ended.", int(finished))
        if self._progress.eta_seconds is not None:
            left = self._progress.eta_seconds
            yield GaugeMetricFamily("model_trainer_eta_seconds", "Estimated seconds to the end.", left)


def metrics(progress: Progress, report: FailureReport) -> bytes:
    """Return the state in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Gauges(progress, report))
    return generate_latest(registry)
