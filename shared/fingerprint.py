"""What a training run depends on, as one short text: equal texts mean that training again would change nothing.

The text has three parts, joined by dots, so that two of them tell not only that something changed but what:
the data of one user and modality, the options, and the code. The orchestrator computes it before a run without
importing the trainer, and the trainer before it loads the data. What a feature graph is called is known to the
trainer alone; it follows from the trainer's sources and configuration files, and those are what is hashed. The sources
name their pretrained networks by sha256; the descriptions of other networks are hashed as well.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from model_registry.errors import InvalidNameError
from model_registry.names import MODALITIES, Modality, parse_modality

_PART = 20  # hex digits of each part: 80 bits
_SOURCES = (".py", ".yaml", ".txt")


@dataclass(frozen=True)
class Options:
    """All that a command line can say about how a model is trained; what it leaves to the configuration is None."""

    config: bytes = b""  # the configuration file as it is on disk
    overrides: Sequence[str] = ()
    sessions: Sequence[str] = ()
    seed: int | None = None
    demo_data: bool | None = None
    data_format: str = "auto"


def job_fingerprint(user: str, modality: str, data: str, options: Options, code: str) -> str:
    """Return the fingerprint of one job: `data` from `data_fingerprints`, `code` from `code_fingerprint`."""
    return ".".join(
        (
            _digest([user, modality, data]),
            _digest(
                [
                    hashlib.sha256(options.config).hexdigest(),
                    list(options.overrides),
                    sorted(options.sessions),
                    options.seed,
                    options.demo_data,
                    options.data_format,
                ]
            ),
            code[:_PART],
        )
    )


def data_fingerprints(root: Path, user: str) -> dict[Modality, str]:
    """Return for each modality a hex digest of the lines that describe the user's data of it; a quick look.

    Only JSON lines are read, in both layouts: they name every file with its sha256, which is checked when the data
    are loaded. A line that names no known modality counts for all of them, so that nothing is overlooked.
    """
    totals: dict[Modality, Any] = {modality: hashlib.sha256() for modality in MODALITIES}
    for top in (root / "users" / user, root / "logs" / "users" / user):
        for path in _line_files(top):
            heading = f"\0{path.relative_to(root).as_posix()}\n".encode()
            begun: set[Modality] = set()
            with path.open("rb") as lines:
                for line in lines:
                    modality = _modality_of(line)
                    for concerned in MODALITIES if modality is None else (modality,):
                        totals[concerned].update(line if concerned in begun else heading + line)
                        begun.add(concerned)
    return {modality: total.hexdigest() for modality, total in totals.items()}


def _line_files(top: Path) -> list[Path]:
    found = [Path(place) / name for place, _, names in os.walk(top) for name in names if name.endswith(".jsonl")]
    return sorted(path for path in found if path.is_file() and not path.is_symlink())


def _modality_of(line: bytes) -> Modality | None:
    try:
        value = from_json(line)
        event = value.get("event") if isinstance(value, dict) else None
        named = event if isinstance(event, dict) else value
        return parse_modality(named["modality"])
    except (ValueError, KeyError, TypeError, InvalidNameError):
        return None


def changes(before: str, after: str) -> tuple[str, ...]:
    """Return which of "data", "config" and "code" differ between two job fingerprints."""
    parts = zip(("data", "config", "code"), before.split("."), after.split("."), strict=False)
    return tuple(name for name, old, new in parts if old != new)


@functools.cache
def code_fingerprint(package: str, pretrained: Path | None = None) -> str:
    """Return hex over the sources and configurations of `shared` and `package`, and networks that they do not name.

    Neither package is imported. Raises ModuleNotFoundError for a package that is not there.
    """
    total = hashlib.sha256()
    sources = b""
    for name in ("shared", package):
        spec = importlib.util.find_spec(name)
        if spec is None or spec.submodule_search_locations is None:
            raise ModuleNotFoundError(f"no package {name}", name=name)
        root = Path(next(iter(spec.submodule_search_locations)))
        paths = sorted(path for path in root.rglob("*") if path.suffix in _SOURCES and path.is_file())
        _add(total, name, root, paths)
        sources += b"".join(path.read_bytes() for path in paths if path.name == "pretrained.py")
    if pretrained is not None and pretrained.is_dir():
        _add(total, "pretrained", pretrained, _unnamed(package, pretrained, sources))
    return total.hexdigest()


def _unnamed(package: str, pretrained: Path, sources: bytes) -> Iterator[Path]:
    """Yield the descriptions of networks that are neither another package's nor those that `sources` name by sha256.

    An image holds the networks of one trainer; the fingerprint is the same there as beside all the others.
    """
    owners = {point.name: point.module.split(".")[0] for point in entry_points(group="model_trainer.pretrained")}
    for path in pretrained.glob("*/encoder.json"):
        described = re.search(rb'"sha256": "([0-9a-f]{64})"', path.read_bytes())
        if owners.get(path.parent.name, package) == package and not (described and described[1] in sources):
            yield path


def _add(total: Any, name: str, root: Path, paths: Iterable[Path]) -> None:
    for path in sorted(paths):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{name}/{path.relative_to(root).as_posix()}\0{content}\n".encode())


def _digest(value: Sequence[Any] | Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=False, sort_keys=True).encode()).hexdigest()[:_PART]
