"""What a run reports while it works: stages with their seconds, progress and warnings.

On a terminal that is a bar; otherwise one JSON object a line on standard error, which the monitor follows.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from model_registry.timestamps import utc_now

STAGES = ("load", "decode", "encode", "featurise", "validate", "fit", "export", "replay", "bundle", "publish")
_EVERY = 0.2  # seconds between two progress lines of one stage


class RunLog:
    """Collects the seconds of each stage, warnings, and what becomes known of the run; reports progress as it goes.

    `fields` are the fields of the training log entry that are known so far, so that a run that fails logs them too.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self.warnings: list[str] = []
        self.fields: dict[str, Any] = {}
        self.current = "load"
        self._stream = stream or sys.stderr
        self._bar = _Bar(self._stream) if self._stream.isatty() else None
        self._last = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one stage; entering it again adds to its seconds. A stage that fails stays `current`."""
        self.current = name
        started = time.perf_counter()
        self._emit("stage", stage=name, done=0, total=0)
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def record(self, **fields: Any) -> None:
        """Keep fields of the training log entry as soon as they are known; a later value replaces an earlier one."""
        self.fields |= fields

    def rounded_seconds(self) -> dict[str, float]:
        """Return how long each stage took so far."""
        return {name: round(value, 4) for name, value in self.seconds.items()}

    def progress(self, done: int, total: int) -> None:
        """Report how far the current stage is; at most a few times a second, and always when it is complete."""
        now = time.perf_counter()
        if done < total and now - self._last < _EVERY:
            return
        self._last = now
        self._emit("stage", stage=self.current, done=done, total=total)

    def warn(self, message: str) -> None:
        """Keep a warning for the training log, and show it."""
        self.warnings.append(message)
        self._emit("warning", message=message)

    def end(self, status: str) -> None:
        """Report that the run is over."""
        self._emit("end", status=status)
        if self._bar is not None:
            self._bar.close()

    def _emit(self, event: str, **fields: Any) -> None:
        if self._bar is not None:
            self._bar.show(event, fields)
            return
        self._stream.write(json.dumps({"time": utc_now(), "event": event, **fields}) + "\n")
        self._stream.flush()


class _Bar:
    """The stages of one run as one bar on a terminal."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        self._progress = Progress(*columns, console=Console(file=stream), transient=True)
        self._task = self._progress.add_task("load", total=None)
        self._progress.start()

    def show(self, event: str, fields: dict[str, Any]) -> None:
        if event == "stage":
            total = fields["total"] or None
            self._progress.update(self._task, description=fields["stage"], completed=fields["done"], total=total)
        elif event == "warning":
            self._progress.console.print(f"warning: {fields['message']}", markup=False)

    def close(self) -> None:
        self._progress.stop()
