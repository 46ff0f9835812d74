"""Run a function in separate processes with a time limit per item: a hang or a crash costs that item and no other."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import ConfigError

_START = 60.0  # seconds that a process may take to import what it runs
_SERVE = f"from {__name__} import serve; serve()"
_TRIES = 3  # failed starts in a row after which the run gives up

Array = NDArray[np.float32]
Request = Mapping[str, Any]  # what JSON can hold


class UnusableItemError(ValueError):
    """An item that the function refuses; its text is the reason."""


@dataclass(frozen=True)
class Failure:
    """Why there is no result."""

    reason: str


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection[bytes, bytes]
    deadline: float
    item: int | None = None
    ready: bool = False

    def send(self, item: int, request: Request, seconds: float) -> None:
        self.item, self.deadline = item, time.monotonic() + seconds
        with suppress(BrokenPipeError):  # a process that has ended is noticed when it is next waited for
            self.connection.send_bytes(json.dumps(request).encode())

    def end(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.wait()


def run_limited(
    function: str,
    requests: Sequence[Request],
    processes: int,
    seconds: float,
    on_result: Callable[[int, Array | Failure], None],
) -> None:
    """Call `function` ("module:name", request -> float32 array) for each request, `on_result` with number and result.

    A process that takes longer than `seconds` for one request, or dies, is replaced. Raises ConfigError where the
    function does, and where processes do not start.
    """
    waiting = list(range(len(requests)))[::-1]
    workers: list[_Worker] = []
    failed_starts = 0
    try:
        while waiting or any(worker.item is not None for worker in workers):
            while len(workers) < min(processes, len(waiting) + sum(w.item is not None for w in workers)):
                workers.append(_start_worker(function, seconds))
            soonest = min(worker.deadline for worker in workers)
            readable = wait([w.connection for w in workers], max(0.0, soonest - time.monotonic()))
            for worker in list(workers):
                gone = False
                if worker.connection in readable:
                    result, gone = _receive(worker)
                elif time.monotonic() >= worker.deadline:
                    result, gone = Failure(f"took longer than {seconds:g} seconds"), True
                else:
                    continue
                if worker.ready:
                    failed_starts = 0
                elif gone:
                    failed_starts += 1
                    if failed_starts >= _TRIES:
                        raise ConfigError("the processes that extract landmarks do not start; is memory short?")
                if worker.item is not None and result is not None:
                    on_result(worker.item, result)
                    worker.item = None
                worker.deadline = float("inf") if worker.item is None else worker.deadline
                if gone:
                    worker.end()
                    workers.remove(worker)
                elif worker.item is None and waiting:
                    number = waiting.pop()
                    worker.send(number, requests[number], seconds)
    finally:
        for worker in workers:
            worker.end()


def _receive(worker: _Worker) -> tuple[Array | Failure | None, bool]:
    """Return a process's message, if it is a result, and whether the process has to be replaced."""
    try:
        head = json.loads(worker.connection.recv_bytes())
        if head["kind"] == "done":
            body = worker.connection.recv_bytes()
            return np.frombuffer(body, np.float32).reshape(head["shape"]), False
    except (EOFError, OSError):
        code = worker.process.wait()
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return Failure(f"the process that worked on it ended ({name})"), True
    if head["kind"] == "ready":
        worker.ready = True
        return None, False
    if head["kind"] == "configuration":
        raise ConfigError(head["reason"])
    return Failure(head["reason"]), head["kind"] == "broken"


def _start_worker(function: str, seconds: float) -> _Worker:
    ours, theirs = Pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _SERVE, str(theirs.fileno()), function, str(seconds)],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # the networks' runtime writes debug output there
        )
    finally:
        theirs.close()
    return _Worker(process, ours, time.monotonic() + _START)


def serve() -> None:
    """Serve requests until the other end is closed."""
    connection: Connection[bytes, bytes] = Connection(int(sys.argv[1]))
    seconds = float(sys.argv[3])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles it
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends this process even in a library that hangs, if the parent died
    module, _, name = sys.argv[2].partition(":")
    function = getattr(importlib.import_module(module), name)
    connection.send_bytes(b'{"kind": "ready"}')
    while True:
        try:
            request = json.loads(connection.recv_bytes())
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_REAL, 2 * seconds + 10)
        try:
            result = np.ascontiguousarray(function(request), np.float32)
            connection.send_bytes(json.dumps({"kind": "done", "shape": result.shape}).encode())
            connection.send_bytes(result.tobytes())
        except UnusableItemError as error:
            _send_failure(connection, "failed", str(error))
        except ConfigError as error:
            _send_failure(connection, "configuration", str(error))
        except Exception as error:  # sent while it is caught: a library's objects may hang when they are collected
            _send_failure(connection, "broken", f"{type(error).__name__}: {str(error)[:300]}")
        signal.setitimer(signal.ITIMER_REAL, 0)


def _send_failure(connection: Connection[bytes, bytes], kind: str, reason: str) -> None:
    connection.send_bytes(json.dumps({"kind": kind, "reason": reason}).encode())
