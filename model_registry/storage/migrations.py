"""What a registry's layout went through, release by release. The list only grows; docs/registry.md has each layout.

A registry is brought up to date by the first command that writes to it. Readers read every layout.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from model_registry.errors import NotFoundError
from model_registry.storage.durable import ensure_folder, locked, write_file_atomically
from model_registry.storage.entry import DOCUMENT_LIMIT, NEWEST_FORMAT, RegistryFormat
from model_registry.storage.file_cache import FileCache

_formats: FileCache[int] = FileCache(100)  # registries


def _chain_lines(root: Path) -> None:
    """1 -> 2 (0.3): lines of histories and tombstones are chained. Old lines stay; the next line covers them."""


# Each brings a registry of format n (counted from 1) to format n + 1, and may be repeated after a crash.
MIGRATIONS: tuple[Callable[[Path], None], ...] = (_chain_lines,)


def read_format(root: Path) -> int:
    """Return the number of a registry's layout. Raises NotFoundError, DocumentError for a later or damaged one."""
    path = str(root / "registry.json")
    return _formats.read(path, DOCUMENT_LIMIT, lambda data: RegistryFormat.from_json(data, path).format)


def bring_up_to_date(root: Path) -> None:
    """Create a registry of the newest layout, or change an older one to it. Raises DocumentError."""
    ensure_folder(root)
    with locked(root):
        try:
            number: int = read_format(root)
        except NotFoundError:
            number = NEWEST_FORMAT
        else:
            if number == NEWEST_FORMAT:
                return
        for migration in MIGRATIONS[number - 1 :]:
            migration(root)
        write_file_atomically(root / "registry.json", RegistryFormat().to_json())
