"""One trainer as a child process: started, its output collected, limited, and ended with everything it started.

The child has a process group of its own, so Ctrl-C in the terminal reaches only the orchestrator, which then ends
the group. Where `setpriv` exists (any Linux), the kernel kills the child when the orchestrator dies.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import selectors
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, cast

import psutil

from orchestrator.jobs import Cause, Job, Outcome, failed, outcome_from_log

_POLL_SECONDS = 0.2  # between checks of the limits
_GRACE = 3.0  # seconds between SIGTERM and SIGKILL
_OUTPUT_LIMIT = 256 << 20  # bytes of standard output and error


@dataclass(frozen=True)
class Limits:
    """What one job may use; None is no limit. `memory` counts resident bytes of the whole process tree."""

    seconds: float | None = None
    memory: int | None = None


class RunningTrainer(Protocol):
    """A process here or in a container. Reading from its two outputs does not block."""

    @property
    def pid(self) -> int: ...
    @property
    def stdout(self) -> IO[bytes] | None: ...
    @property
    def stderr(self) -> IO[bytes] | None: ...
    def poll(self) -> int | None: ...


@functools.cache
def _dies_with_parent() -> tuple[str, ...]:
    path = shutil.which("setpriv")
    return () if path is None else (path, "--pdeathsig", "KILL", "--")


def child_environment(threads: int) -> dict[str, str]:
    """Return this process' environment with numerical libraries limited to `threads` threads each."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    return {**os.environ, **{name: str(threads) for name in names}, "PYTHONUNBUFFERED": "1"}


def start(command: Sequence[str], environment: Mapping[str, str], stdin: bool = False) -> subprocess.Popen[bytes]:
    """Start `command`; with `stdin` its standard input is a pipe, for jobs."""
    process = subprocess.Popen(
        (*_dies_with_parent(), *command),
        stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(environment),
        start_new_session=True,
    )
    for pipe in (process.stdout, process.stderr):
        assert pipe is not None
        os.set_blocking(pipe.fileno(), False)
    return process


def stop(process: subprocess.Popen[bytes], grace: float = _GRACE) -> None:
    """End the child and everything that it started: SIGTERM, then SIGKILL after `grace` seconds."""
    for number, timeout in ((signal.SIGTERM, grace), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process and all its descendants in bytes; 0 when it has ended."""
    try:
        parent = psutil.Process(pid)
        family = [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return 0
    total = 0
    for member in family:
        with contextlib.suppress(psutil.Error):
            total += member.memory_info().rss
    return total


def run_once(
    job: Job,
    command: Sequence[str],
    events: Path,
    environment: Mapping[str, str],
    limits: Limits,
    cancelled: threading.Event,
) -> tuple[Outcome, dict[str, Any] | None]:
    """Run a job to its end in a process of its own; return the outcome and the training log entry."""
    begun = time.monotonic()
    try:
        process = start(command, environment)
    except OSError as error:
        return failed(job, "internal", f"{command[0]}: {error.strerror}"), None
    try:
        violation, output = collect_output(process, events, limits, cancelled)
        exit_code = process.wait() if violation is None else -1
    finally:
        stop(process)
    seconds = time.monotonic() - begun
    if violation is not None:
        return failed(job, *violation, seconds=seconds), None
    log = last_object(output)
    if log is None or exit_code < 0:
        reason = crash_reason(exit_code, events)
        return failed(job, "crashed", reason, exit_code, seconds, transient=exit_code < 0), log
    return outcome_from_log(job, log, exit_code, seconds), log


def collect_output(
    process: RunningTrainer,
    events: Path,
    limits: Limits,
    cancelled: threading.Event,
    complete: Callable[[bytes], bool] = lambda output: False,
) -> tuple[tuple[Cause, str] | None, bytes]:
    """Copy standard error to `events` and collect standard output until the child ends or the output is `complete`.

    Returns which limit was exceeded (None for none) and the output.
    """
    assert process.stdout is not None and process.stderr is not None
    output = bytearray()
    begun = checked = time.monotonic()
    with selectors.DefaultSelector() as selector, events.open("ab", buffering=0) as record:
        selector.register(process.stdout, selectors.EVENT_READ, output.extend)
        selector.register(process.stderr, selectors.EVENT_READ, record.write)
        written = 0
        while selector.get_map():
            ready = selector.select(_POLL_SECONDS)
            for key, _ in ready:
                block = _read(cast(IO[bytes], key.fileobj))
                if block is None:
                    continue
                if block:
                    key.data(block)
                    written += len(block)
                else:
                    selector.unregister(key.fileobj)
            if output.endswith(b"\n") and complete(bytes(output)):
                while rest := _read(process.stderr):  # written before the output, so it has arrived
                    record.write(rest)
                return None, bytes(output)
            if not ready and process.poll() is not None:
                break  # it has ended, although a child of its own may hold the pipes open
            moment = time.monotonic()
            if moment - checked >= _POLL_SECONDS or not ready:
                checked = moment
                violation = _exceeded(process.pid, moment - begun, written, limits, cancelled)
                if violation is not None:
                    return violation, bytes(output)
    return None, bytes(output)


def _exceeded(
    pid: int, seconds: float, written: int, limits: Limits, cancelled: threading.Event
) -> tuple[Cause, str] | None:
    if cancelled.is_set():
        return "cancelled", "the batch was stopped"
    if limits.seconds is not None and seconds > limits.seconds:
        return "timeout", f"took longer than {limits.seconds:g} s; raise --timeout or give it less data"
    if limits.memory is not None:
        used = resident_bytes(pid)
        if used > limits.memory:
            return "memory", f"used {used >> 20} MiB of {limits.memory >> 20} MiB; raise --memory or give it less data"
    if written > _OUTPUT_LIMIT:
        return "internal", f"wrote more than {_OUTPUT_LIMIT >> 20} MiB of output"
    return None


def _read(pipe: IO[bytes]) -> bytes | None:
    """Return what the pipe holds, empty at its end; None while it holds nothing."""
    try:
        return os.read(pipe.fileno(), 1 << 16)
    except BlockingIOError:
        return None


def last_object(output: bytes) -> dict[str, Any] | None:
    """Return the JSON object that `output` is, or the one on its last line."""
    for text in (output, output.strip().rsplit(b"\n", 1)[-1]):
        try:
            value = json.loads(text)
        except ValueError:
            continue
        if isinstance(value, dict):
            return value
    return None


def crash_reason(exit_code: int, events: Path) -> str:
    """Return which signal or exit code ended a trainer, with the last line of its standard error."""
    if exit_code < 0:
        return with_last_line(f"killed by {signal.Signals(-exit_code).name}", events)
    return with_last_line(f"exit code {exit_code} without a training log entry", events)


def with_last_line(reason: str, events: Path) -> str:
    """Return `reason` followed by the last line of a trainer's standard error, if it wrote any."""
    line = _last_line(events)
    return f"{reason}; last output: {line}" if line else reason


def _last_line(events: Path) -> str:
    with events.open("rb") as record:
        record.seek(max(0, events.stat().st_size - 4096))
        lines = [line for line in record.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""
