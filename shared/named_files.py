"""The files that a configuration names by path: what a training run depends on is their content, too."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

from model_registry.storage.encoders import SPEC_FILE

_PIECE = 1 << 20


def named_files(texts: Iterable[bytes | str]) -> dict[str, str]:
    """Return each path that stands in YAML texts and is there -> a hex digest of the file, or of an encoder's folder.

    A bare name without a suffix is no path. What cannot be parsed or read is passed over: whoever uses it will say so.
    """
    found: dict[str, str] = {}
    for value in dict.fromkeys(value for text in texts for value in _values(text)):
        if len(value) > 4096 or "\0" in value or ("/" not in value and not Path(value).suffix):
            continue
        path = Path(value)
        try:
            is_encoder = (path / SPEC_FILE).is_file()
            files = sorted(part for part in path.iterdir()) if is_encoder else [path]
            parts = [f"{part.name}\0{_digest(part)}" for part in files if part.is_file()]
        except OSError:
            continue
        if parts:
            found[value] = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return found


def _values(text: bytes | str) -> Iterator[str]:
    try:
        for token in yaml.scan(text):
            if isinstance(token, yaml.ScalarToken):
                yield token.value
    except (yaml.YAMLError, UnicodeError):
        return


def _digest(path: Path) -> str:
    status = path.stat()
    return _digest_of(path.resolve(), status.st_size, status.st_mtime_ns, status.st_ino)


@functools.lru_cache(maxsize=256)
def _digest_of(path: Path, size: int, changed: int, inode: int) -> str:
    total = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            total.update(piece)
    return total.hexdigest()
