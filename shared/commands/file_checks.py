"""Every media file decoded as its trainer would decode it: in parallel, and once for each content."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from model_registry.names import Modality
from shared.data.identity import content_of
from shared.data.media_types import media_type
from shared.errors import ConfigError, DataError
from shared.features.cache import FeatureCache, content_key
from shared.progress import Progress, silent
from shared.schema_utils import Example
from shared.trainers import Trainer, all_trainers, find_trainer, missing_package

_SPEC = "file_check_v3"  # of what is remembered of files that can be used; count it up where a check refuses more
_THREADS = 2  # decoders release the interpreter's lock
_AT_ONCE = 16  # files that a thread takes: many are decoded faster than a thread is told of the next

# Decodes the part of a media file that an example is, as training does by default, and returns what should be known of
# it. Raises DataError where training would refuse the file.
CheckFile = Callable[[Path, Example], tuple[str, ...]]


@dataclass(frozen=True)
class FileCheck:
    """Why a file cannot be used (None where it can), and what should be known of it all the same."""

    refusal: str | None = None
    notes: tuple[str, ...] = ()


def wrong_kind(modality: Modality, example: Example) -> str | None:
    """Return why a modality does not take what an example is, or None; also where its trainer is not here."""
    trainer = all_trainers().get(modality)
    if trainer is None:
        return None
    accepts = trainer.accepts
    kind = "features" if example.features is not None else "text"
    if example.media is not None:
        kind = media_type(Path(example.media.path)).split("/")[0]
    if kind in accepts or kind == "application":  # by its name alone nothing is known of the last
        return None
    return f"is {kind}, but this modality takes {', '.join(sorted(accepts))}"


def check_files(
    modality: Modality, files: Sequence[tuple[Path, Example]], *, progress: Progress = silent, cached: bool = True
) -> list[FileCheck]:
    """Return for each file whether its trainer can use the part of it that its example is.

    What was decoded before, by its content, is not decoded again. Without the trainer's packages nothing is decoded.
    """
    try:
        check = load_file_check(find_trainer(modality))
    except ConfigError:
        check = None
    if check is None or not files:
        return [FileCheck() for _ in files]
    cache = FeatureCache() if cached else None
    keys = [content_key(modality, content_of(example), path.suffix.lower()) for path, example in files]
    known = cache.get_many(_SPEC, keys) if cache else {}
    results = [FileCheck()] * len(files)
    missing = [number for number, key in enumerate(keys) if key not in known]
    usable = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        parts = [missing[start : start + _AT_ONCE] for start in range(0, len(missing), _AT_ONCE)]
        decoded = pool.map(lambda part: [_check(check, *files[number]) for number in part], parts)
        for number, result in zip(progress(missing, "decoding"), chain.from_iterable(decoded), strict=True):
            results[number] = result
            if result == FileCheck():
                usable[keys[number]] = np.ones(1, np.float32)
    if cache and usable:
        cache.put_many(_SPEC, usable)
    return results


def load_file_check(trainer: Trainer) -> CheckFile | None:
    """Import what decodes a file for a trainer, without its recipe; None where the modality is not of media.

    Raises ConfigError where a package that it needs is not installed.
    """
    try:
        check: CheckFile | None = pkgutil.resolve_name(trainer.check_file) if trainer.check_file else None
    except ModuleNotFoundError as error:
        raise missing_package(trainer, error) from None
    return check


def _check(check: CheckFile, path: Path, example: Example) -> FileCheck:
    try:
        return FileCheck(None, check(path, example))
    except DataError as error:
        return FileCheck("; ".join(fault.reason for fault in error.faults) or str(error))
