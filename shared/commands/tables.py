"""Tables on standard output: fitted to a terminal, and never folded where a program reads them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

_PIPED_WIDTH = 4096  # characters


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under their columns; numbers stand at the right."""
    cells = [list(row) for row in rows]
    table = Table(box=None, pad_edge=False)
    for place, name in enumerate(columns):
        numbers = bool(cells) and all(isinstance(row[place], int) for row in cells)
        table.add_column(name, overflow="fold", justify="right" if numbers else "left")
    for row in cells:
        table.add_row(*map(str, row))
    width = None if sys.stdout.isatty() else _PIPED_WIDTH
    Console(highlight=False, markup=False, width=width).print(table)
