"""Every media file decoded as its trainer would decode it: in parallel, and once for each content."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice, repeat
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

_SPEC = "file_check_v4"  # of what is remembered of files that can be used; count it up where a check refuses more
_THREADS = 2  # decoders release the interpreter's lock
_REMEMBERED = 1024  # files that are looked up in the cache at once
_AT_ONCE = 16  # files that a thread takes: handing over a short one takes as long as decoding it

# Decodes the part of a media file that an example is, as training does by default, and returns what should be known of
# it. Raises DataError where training would refuse the file.
CheckFile = Callable[[Path, Example], tuple[str, ...]]


@dataclass(frozen=True)
class FileCheck:
    """Why a file cannot be used (None where it can), and what should be known of it all the same."""

    refusal: str | None = None
    notes: tuple[str, ...] = ()


_USABLE = FileCheck()


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
    modality: Modality, files: Iterable[tuple[Path, Example]], count: int, *, progress: Progress = silent
) -> Iterator[FileCheck]:
    """Yield for each of `count` files whether its trainer can use the part of it that its example is.

    What was decoded before, by its content, is not decoded again. Without the trainer's packages nothing is decoded.
    """
    try:
        check = load_file_check(find_trainer(modality))
    except ConfigError:
        check = None
    left, cache, shown = iter(files), FeatureCache(), iter(progress(range(count), "decoding"))
    with ThreadPoolExecutor(_THREADS) as pool:
        while some := list(islice(left, _REMEMBERED)):
            for result in repeat(_USABLE, len(some)) if check is None else _checked(modality, check, some, cache, pool):
                next(shown, None)
                yield result
    next(shown, None)  # ends the bar


def _checked(
    modality: Modality, check: CheckFile, files: Sequence[tuple[Path, Example]], cache: FeatureCache, pool: Executor
) -> Iterator[FileCheck]:
    """Yield for each file what is remembered of it, or what decoding it says; remember those that can be used."""
    keys = [content_key(modality, content_of(example), path.suffix.lower()) for path, example in files]
    known = cache.get_many(_SPEC, keys)
    missing = [file for file, key in zip(files, keys, strict=True) if key not in known]
    parts = [missing[start : start + _AT_ONCE] for start in range(0, len(missing), _AT_ONCE)]
    decoded = chain.from_iterable(pool.map(lambda part: [_check(check, *file) for file in part], parts))
    usable = {}
    for key in keys:
        result = _USABLE if key in known else next(decoded)
        if result is _USABLE and key not in known:
            usable[key] = np.ones(1, np.float32)
        yield result
    if usable:
        cache.put_many(_SPEC, usable)


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
        notes = check(path, example)
        return FileCheck(None, notes) if notes else _USABLE
    except DataError as error:
        return FileCheck("; ".join(fault.reason for fault in error.faults) or str(error))
