"""The files of a folder in the order in which people number them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path


def walk(folder: Path) -> Iterator[Path]:
    """Yield every file below a folder, hidden ones aside; links to folders are not followed."""
    for top, folders, files in os.walk(folder):
        folders[:] = sorted((name for name in folders if name[0] != "." and name != "__MACOSX"), key=natural)
        for name in sorted((name for name in files if name[0] != "."), key=natural):
            yield Path(top, name)


def natural(text: str) -> list[tuple[int, int, str]]:
    """Return a sorting key under which take 10 follows take 9."""
    parts = re.split(r"(\d+)", text)
    return [(1, int(part), "") if part.isdecimal() and part.isascii() else (0, 0, part) for part in parts]
