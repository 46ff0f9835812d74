"""One batch at a time in a run folder.

The lock is the kernel's (`flock`), so it ends with the process that held it, however that ended. The file says who
holds it, and after a crash who held it last.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from model_registry.platforms import lock
from model_registry.timestamps import utc_now
from orchestrator.run_folder import read_json
from shared.errors import ConfigError, TrainerError


@contextmanager
def batch_lock(path: Path) -> Iterator[str]:
    """Hold the lock in `path` within the block; yield the owner whose batch was interrupted, or an empty text.

    Raises ConfigError naming the owner when another batch is running.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            lock(descriptor, wait=False)
        except BlockingIOError:
            owner = _owner(path) or "another process"
            raise ConfigError(
                f"{path.parent}: {owner} runs a batch here; wait for its end or choose another folder with --runs"
            ) from None
        before = _owner(path)
        _write(descriptor, {"pid": os.getpid(), "host": socket.gethostname(), "since": utc_now()})
        try:
            yield before
        except TrainerError:
            _write(descriptor, {})  # it was refused, not interrupted
            raise
        _write(descriptor, {})
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock; nothing is written."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        lock(descriptor, shared=True, wait=False)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _owner(path: Path) -> str:
    owner = read_json(path) or {}
    return "process {pid} on {host} (since {since})".format_map(owner) if {"pid", "host", "since"} <= set(owner) else ""


def _write(descriptor: int, owner: dict[str, object]) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(owner).encode(), 0)
