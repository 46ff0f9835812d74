"""A progress bar for commands that people run by hand."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

# Shows the progress of an iteration: takes the items and what is done with each, and gives the items.
Progress = Callable[[Sequence[Any], str], Iterable[Any]]


def silent(items: Sequence[Any], what: str) -> Iterable[Any]:
    """Return the items; nothing is shown."""
    return items


def bar(items: Sequence[Any], what: str) -> Iterable[Any]:
    """Return the items, shown as a bar on a terminal; elsewhere the command's result is enough."""
    if not sys.stderr.isatty():
        return items
    from rich.console import Console
    from rich.progress import track

    return track(items, what, console=Console(stderr=True), transient=True)
