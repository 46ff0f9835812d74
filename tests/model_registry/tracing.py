"""What a process changes on the disk, in order: which files it opens to write, what it renames, removes and syncs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

_active: list[Trace] = []
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True)
class Change:
    """One change: `write`, `mkdir`, `remove` or `sync` of a path, or `rename` from `source` to it."""

    kind: str
    path: Path
    source: Path | None = None


@dataclass
class Trace:
    """The changes below `root`, in order."""

    root: Path
    changes: list[Change] = field(default_factory=list)

    def add(self, kind: str, path: Any, source: Any = None) -> None:
        """Note a change, unless it is outside the root."""
        places = [Path(os.fsdecode(place)).absolute() for place in (path, source) if place is not None]
        if any(place.is_relative_to(self.root) for place in places):
            self.changes.append(Change(kind, *places))

    def unsynced(self) -> list[str]:
        """Return the files and folders that exist, were changed, and were not synced after that."""
        dirty: dict[Path, str] = {}
        for change in self.changes:
            if change.kind == "sync":
                dirty.pop(change.path, None)
                continue
            if change.kind == "write":
                dirty[change.path] = "content"
            if change.source is not None:
                moved = [path for path in dirty if path == change.source or path.is_relative_to(change.source)]
                if change.source.parent != change.path.parent:
                    dirty[change.source.parent] = f"name of {change.source.name}, which is gone"
                for path in moved:
                    dirty[change.path / path.relative_to(change.source)] = dirty.pop(path)
            if change.kind != "remove":
                dirty[change.path.parent] = f"name of {change.path.name}"
        return [f"{path}: {what}" for path, what in dirty.items() if path.exists() and path.is_relative_to(self.root)]

    def order(self, *steps: tuple[str, str]) -> None:
        """Fail unless the steps (kind, how the path ends) happened in this order."""
        left = iter(self.changes)
        for kind, end in steps:
            if not any(change.kind == kind and str(change.path).endswith(end) for change in left):
                listed = "\n".join(f"{change.kind} {change.path}" for change in self.changes)
                raise AssertionError(f"no {kind} of {end} in its place:\n{listed}")


@contextmanager
def traced(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trace]:
    """Trace what this process changes below a folder."""
    trace, real = Trace(root), os.fsync

    def fsync(fd: int) -> None:
        real(fd)
        trace.add("sync", Path(f"/proc/self/fd/{fd}").readlink())

    def sync_all() -> None:  # not called in truth: it would write what every process of the machine has not written yet
        for path in (root, *root.rglob("*")):
            trace.add("sync", path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        patch.setattr(os, "sync", sync_all)
        _active.append(trace)
        try:
            yield trace
        finally:
            _active.remove(trace)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _active:
        return
    trace = _active[-1]
    if event == "open":
        path, _, flags = arguments
        if isinstance(path, str | bytes | os.PathLike) and isinstance(flags, int) and flags & _WRITING:
            trace.add("write", path)
    elif event == "os.rename":
        trace.add("rename", arguments[1], arguments[0])
    elif event == "os.mkdir":
        trace.add("mkdir", arguments[0])
    elif event in ("os.remove", "os.rmdir"):
        trace.add("remove", arguments[0])
    elif event == "os.link":
        trace.add("write", arguments[1])


sys.addaudithook(_hook)  # there is no way to take a hook away; it does nothing while nothing is traced
