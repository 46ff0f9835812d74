"""What a training run depends on, as one short text: equal texts mean that training again would change nothing.

The text has three parts, joined by dots, so that two of them tell not only that something changed but what: the data
of one user and modality, the options with the files that they name, and the code. The orchestrator computes it before
a run without importing the trainer, and the trainer before it loads the data. What a feature graph is called is known
to the trainer alone; it follows from the trainer's sources and configuration files, and those are what is hashed. The
sources name their pretrained networks by sha256; the descriptions of other networks are hashed as well.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic_core import from_json

from model_registry.errors import InvalidNameError
from model_registry.names import Modality, parse_modality
from model_registry.storage.durable import file_sha256
from shared.named_files import named_files

_PART = 20  # hex digits of each part: 80 bits
_SOURCES = (".py", ".yaml", ".txt")
_REQUIRED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Options:
    """All that a command line can say about how a model is trained; what it leaves to the configuration is None."""

    config: bytes = b""  # the configuration file as it is on disk
    overrides: Sequence[str] = ()
    sessions: Sequence[str] = ()
    seed: int | None = None
    demo_data: bool | None = None
    data_format: str = "auto"
    # Features and classifier, as a request or the active version has them.
    training_config: Mapping[str, Any] = field(default_factory=dict)


def job_fingerprint(user: str, modality: str, data: str, options: Options, code: str) -> str:
    """Return the fingerprint of one job: `data` from `data_fingerprints`, `code` from `code_fingerprint`.

    Files that the options name, such as a network of one's own, count by their content.
    """
    given = (override.partition("=")[2] for override in options.overrides)
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
                    dict(options.training_config),
                    named_files([options.config, *given]),
                ]
            ),
            code[:_PART],
        )
    )


def data_fingerprints(root: Path, user: str, modalities: Iterable[Modality]) -> dict[Modality, str]:
    """Return for each of `modalities` a hex digest of the lines that describe the user's data of it; a quick look.

    Only JSON lines are read, in both layouts: they name every file with its sha256, which is checked when the data
    are loaded. A line that names no modality counts for all of them, so that nothing is overlooked. Which trainers
    are installed makes no difference: an image holds one.
    """
    totals: dict[Modality, Any] = {modality: hashlib.sha256() for modality in modalities}
    for top in (root / "users" / user, root / "logs" / "users" / user):
        for path in _line_files(top):
            heading = f"\0{path.relative_to(root).as_posix()}\n".encode()
            begun: set[Modality] = set()
            with path.open("rb") as lines:
                for line in lines:
                    modality = _modality_of(line)
                    for concerned in totals if modality is None else totals.keys() & {modality}:
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


def code_fingerprint(package: str, pretrained: Path | None = None) -> str:
    """Return hex over `code_files`. Raises ModuleNotFoundError for a package that is not there."""
    lines = (f"{name}\0{content}\n" for name, content in code_files(package, pretrained).items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@functools.cache
def code_files(package: str, pretrained: Path | None = None) -> Mapping[str, str]:
    """Return the sha256 of the sources and configurations of `package`, of what it imports of `shared`, and of the
    descriptions of networks that they do not name, by their names.

    Neither package is imported. Raises ModuleNotFoundError for a package that is not there.
    """
    found: dict[str, str] = {}
    naming = b""
    own = sorted(_sources(_folder(package)))
    for name, paths in (("shared", _imported_of_shared(own)), (package, own)):
        found |= _contents(name, _folder(name), paths)
        naming += b"".join(path.read_bytes() for path in paths if path.name == "pretrained.py")
    if pretrained is not None and pretrained.is_dir():
        found |= _contents("pretrained", pretrained, _unnamed(package, pretrained, naming))
    return MappingProxyType(found)


def _imported_of_shared(sources: Iterable[Path]) -> list[Path]:
    """Return the files of `shared` that are no modules, and its modules that `sources` import, directly or not."""
    root = _folder("shared")
    found = {path for path in _sources(root) if path.suffix != ".py"} | {root / "__init__.py"}
    waiting = [path for path in (*sources, root / "__init__.py") if path.suffix == ".py"]
    while waiting:
        fresh = {path for name in imported_names(waiting.pop()) for path in _module_files(root, name)} - found
        found |= fresh
        waiting += fresh
    return sorted(found)


@functools.cache
def imported_names(source: Path) -> tuple[str, ...]:
    """Return the dotted name of everything that a module imports absolutely, wherever in it the import stands.

    `from a.b import c` gives `a.b` and `a.b.c`, since `c` may be a module. A source is parsed once a process: what a
    process runs does not change.
    """
    names: list[str] = []
    for node in _statements(ast.parse(source.read_text("utf-8")).body):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(names)


def _statements(block: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Yield every statement of a block and of the blocks in it. Expressions, most of a module, hold no imports."""
    for node in block:
        yield node
        for name in ("body", "handlers", "orelse", "finalbody", "cases"):
            yield from _statements(getattr(node, name, ()))


@functools.cache
def _module_files(root: Path, name: str) -> tuple[Path, ...]:
    """Return the files that importing `name`, a module below the package in `root`, runs."""
    package, *parts = name.split(".")
    if package != root.name:
        return ()
    places = [root.joinpath(*parts[: depth + 1]) for depth in range(len(parts))]
    candidates = (path for place in places for path in (place.with_suffix(".py"), place / "__init__.py"))
    return tuple(path for path in candidates if path.is_file())


def newest_source(package: str) -> float:
    """Return when the last of the sources and configurations was changed, in seconds since 1970."""
    return max(path.stat().st_mtime for name in ("shared", package) for path in _sources(_folder(name)))


def _sources(root: Path) -> Iterator[Path]:
    return (path for path in root.rglob("*") if path.suffix in _SOURCES and path.is_file())


def _unnamed(package: str, pretrained: Path, sources: bytes) -> Iterator[Path]:
    """Yield the descriptions of networks that are neither another package's nor those that `sources` name by sha256.

    An image holds the networks of one trainer; the fingerprint is the same there as beside all the others.
    """
    owners = {point.name: point.module.split(".")[0] for point in entry_points(group="model_trainer.pretrained")}
    for path in pretrained.glob("*/encoder.json"):
        described = re.search(rb'"sha256": "([0-9a-f]{64})"', path.read_bytes())
        if owners.get(path.parent.name, package) == package and not (described and described[1] in sources):
            yield path


@functools.cache
def library_versions(package: str) -> Mapping[str, str]:
    """Return the version of Python and of everything that `shared` and `package` name in their requirements."""
    found = {"python": platform.python_version()}
    for name in ("shared", package):
        for line in (_folder(name) / "requirements.txt").read_text("utf-8").splitlines():
            named = _REQUIRED.match(line)
            if named:
                with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                    found[named.group().lower()] = importlib.metadata.version(named.group())
    return MappingProxyType(found)


def _folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError(f"no package {name}", name=name)
    return Path(next(iter(spec.submodule_search_locations)))


def _contents(name: str, root: Path, paths: Iterable[Path]) -> dict[str, str]:
    return {f"{name}/{path.relative_to(root).as_posix()}": file_sha256(path) for path in sorted(paths)}


def _digest(value: Sequence[Any] | Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=False, sort_keys=True).encode()).hexdigest()[:_PART]
