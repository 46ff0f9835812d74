"""Clips -> landmark sequences: in parallel, from the cache where they are known, each under a time limit."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from gesture_trainer.preprocessing.landmarker import BODY, RATE, ExtractedEncoding
from gesture_trainer.preprocessing.postprocessing import OneEuro, SavitzkyGolay, finish
from gesture_trainer.preprocessing.sandbox import Failure, run_limited
from shared.data.files import RefusedFileError, sha256_of
from shared.errors import ConfigError
from shared.features.cache import FeatureCache, content_key
from shared.features.encoders import model_path
from shared.features.pretrained import pretrained_folder
from shared.schema_utils import Schema

EXTRACT = "gesture_trainer.preprocessing.landmarker:extract_clip"
NO_LANDMARK = "no landmark was found in any frame"
NO_FACE = "the 32 face points are missing: no face task file is named (extraction.face_task)"
_VERSION = "1"  # of what extract_clip does; a change makes the cache's sequences unknown


class Extraction(Schema):
    """How clips and images become landmarks."""

    encoding: ExtractedEncoding = Field(default=BODY, description="body and hands, or hands in space")
    hand_task: str = Field(default="hand_landmarker", min_length=1, description="pretrained name or path")
    pose_task: str = Field(default="pose_landmarker", min_length=1, description="pretrained name or path")
    face_task: str | None = Field(default=None, description="path of a face landmarker; without it no face points")
    processes: int | None = Field(default=None, ge=1, le=64, description="one for each core when absent")
    seconds: float = Field(default=60.0, gt=0, le=3600, description="limit for one clip; one that takes longer fails")
    longest: float = Field(default=60.0, gt=0, le=600, description="seconds of a clip; a longer one is refused")
    smoothing: SavitzkyGolay | OneEuro | None = Field(default=None, description="off when absent")
    keyframes: int | None = Field(default=None, ge=2, le=128, description="frames to keep; all when absent")


@dataclass(frozen=True)
class Clip:
    """A media file, its content's hash, and which seconds of it count."""

    path: Path
    sha256: str
    onset: float = 0.0
    offset: float | None = None


@dataclass(frozen=True)
class Tasks:
    """The `.task` files in use, name -> path, and their sha256."""

    paths: Mapping[str, Path]
    sha256: Mapping[str, str]


def tasks_named(config: Extraction) -> dict[str, str]:
    """Return what names each task file that an encoding needs: a pretrained network's name, or a path."""
    wanted: dict[str, str] = {"hand": config.hand_task}
    if config.encoding == BODY:
        wanted["pose"] = config.pose_task
        if config.face_task is not None:
            wanted["face"] = config.face_task
    return wanted


def task_files(config: Extraction) -> Tasks:
    """Return the landmarkers that an encoding needs. Raises ConfigError naming every one that is not there."""
    wanted = tasks_named(config)
    paths: dict[str, Path] = {}
    hashes: dict[str, str] = {}
    wrong: list[str] = []
    for name, given in wanted.items():
        try:
            paths[name] = Path(given).resolve() if given.endswith(".task") else model_path(given)
            hashes[name] = _hash(paths[name], paths[name].stat().st_mtime_ns)
        except (ConfigError, RefusedFileError, OSError) as error:
            reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
            wrong.append(f"extraction.{name}_task: {given}: {reason}")
    if wrong:
        raise ConfigError("\n".join(wrong))
    return Tasks(paths, hashes)


def as_trained(spec: Mapping[str, Any], given: Mapping[str, str]) -> Extraction:
    """Return the settings that a model's sequences were extracted with; `given` is what named each task file then.

    A task file counts by its content: it is looked for where it was, among the pretrained networks, and as any
    `.task` file in their folder. Raises ConfigError naming every one that is not found.
    """
    chosen = {key: spec[key] for key in spec if key in Extraction.model_fields}
    missing: list[str] = []
    for name, sha256 in spec["tasks"].items():
        path = next((path for path in _places(name, given.get(name)) if _is(path, sha256)), None)
        if path is None:
            missing.append(f"{name}: none at hand has the sha256 {sha256}")
        chosen[f"{name}_task"] = str(path)
    if missing:
        raise ConfigError(
            "the model was trained with other .task files than those at hand:\n" + "\n".join(missing) + "\n"
            f"put them into {pretrained_folder()}, or extract elsewhere and give the model the feature file"
        )
    return Extraction.model_validate({**chosen, "processes": 1})


def _places(name: str, given: str | None) -> Iterator[Path]:
    folder = pretrained_folder()
    if given is not None and given.endswith(".task"):
        yield Path(given).resolve()
    yield folder / f"{name}_landmarker" / f"{name}_landmarker.task"
    yield from sorted(folder.glob("*.task"))


def _is(path: Path, sha256: str) -> bool:
    try:
        return _hash(path, path.stat().st_mtime_ns) == sha256
    except (RefusedFileError, OSError):
        return False


@lru_cache(maxsize=16)
def _hash(path: Path, changed: int) -> str:
    return sha256_of(path)


def spec_of(config: Extraction, tasks: Tasks) -> dict[str, Any]:
    """Return what a sequence depends on beside its clip, as JSON holds it: what a model must be given live, too."""
    described = config.model_dump(mode="json", include={"encoding", "longest", "smoothing", "keyframes"})
    return {**described, "rate": RATE, "version": _VERSION, "tasks": dict(tasks.sha256)}


def extract_clips(
    clips: Sequence[Clip],
    config: Extraction,
    cache: FeatureCache | None,
    on_done: Callable[[int, int], None] = lambda done, total: None,
) -> list[NDArray[np.float32] | Failure]:
    """Return for each clip its (T, D) float32 sequence, or why there is none; equal clips are looked at once.

    What is finished is in the cache at once, so that a run that was cut short goes on where it stopped.
    Raises ConfigError for task files that are not there and where MediaPipe cannot be loaded.
    """
    tasks = task_files(config)
    spec = spec_of(config, tasks)
    raw = {key: value for key, value in spec.items() if key not in ("smoothing", "keyframes", "longest")}
    spec_id = f"landmarks-{content_key(json.dumps(raw, sort_keys=True))[:16]}"
    keys = [content_key(clip.sha256, clip.path.suffix.lower(), repr((clip.onset, clip.offset))) for clip in clips]
    found: dict[str, NDArray[np.float32] | Failure] = {**(cache.get_many(spec_id, keys) if cache else {})}
    first = dict(zip(keys, clips, strict=True))
    missing = [key for key in dict.fromkeys(keys) if key not in found]
    total = len(first)
    on_done(total - len(missing), total)

    def finished(number: int, result: NDArray[np.float32] | Failure) -> None:
        found[missing[number]] = result
        if cache and not isinstance(result, Failure):
            cache.put_many(spec_id, {missing[number]: result})
        on_done(len(found), total)

    requests = [_request(first[key], config, tasks) for key in missing]
    run_limited(EXTRACT, requests, config.processes or os.cpu_count() or 1, config.seconds, finished)
    return [found[key] if isinstance(found[key], Failure) else _finish(found[key], config) for key in keys]  # type: ignore[arg-type]


def _request(clip: Clip, config: Extraction, tasks: Tasks) -> dict[str, Any]:
    return {
        "path": str(clip.path),
        "onset": clip.onset,
        "offset": clip.offset,
        "encoding": config.encoding,
        "longest": config.longest,
        "tasks": {name: str(path) for name, path in tasks.paths.items()},
    }


def unseen(sequence: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(T, D) -> (T,) bool: frames without any landmark."""
    return np.asarray(~sequence.any(axis=1))


def _finish(sequence: NDArray[np.float32], config: Extraction) -> NDArray[np.float32]:
    return finish(sequence, 2 if config.encoding == BODY else 3, config.smoothing, config.keyframes)
