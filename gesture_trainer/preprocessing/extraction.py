"""Clips -> landmark sequences: in parallel, cached, and each under a time limit."""

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
from gesture_trainer.preprocessing.postprocessing import OneEuro, SavitzkyGolay, postprocess
from gesture_trainer.preprocessing.sandbox import Failure, run_limited
from shared.data.files import RefusedFileError, sha256_of
from shared.errors import ConfigError
from shared.features.cache import FeatureCache, content_key
from shared.features.encoders import model_path
from shared.features.pretrained import pretrained_folder
from shared.schema_utils import Schema

EXTRACT = "gesture_trainer.preprocessing.landmarker:extract_clip"
NO_LANDMARK = "no landmark in any frame"
NO_FACE = "the 32 face points are missing: no face task file is configured (extraction.face_task)"
_VERSION = "2"  # of what extract_clip does; a change invalidates cached sequences


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
    """A media file, its content's hash, and which seconds of it are used."""

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
    """Return the configured name or path of each task file that an encoding needs."""
    wanted: dict[str, str] = {"hand": config.hand_task}
    if config.encoding == BODY:
        wanted["pose"] = config.pose_task
        if config.face_task is not None:
            wanted["face"] = config.face_task
    return wanted


def task_files(config: Extraction) -> Tasks:
    """Return the landmarkers that an encoding needs. Raises ConfigError naming every one that is missing."""
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
    """Return the settings that a model's sequences were extracted with; `given` is how each task file was named then.

    A task file is identified by its content: it is searched for where it was, among the pretrained networks, and as any
    `.task` file in their folder. Raises ConfigError naming every one that is not found.
    """
    chosen = {key: spec[key] for key in spec if key in Extraction.model_fields}
    missing: list[str] = []
    for name, sha256 in spec["tasks"].items():
        path = next((path for path in _task_paths(name, given.get(name)) if _has_hash(path, sha256)), None)
        if path is None:
            missing.append(f"{name}: no file here has the sha256 {sha256}")
        chosen[f"{name}_task"] = str(path)
    if missing:
        raise ConfigError(
            "the model was trained with other .task files than those here:\n" + "\n".join(missing) + "\n"
            f"put them into {pretrained_folder()}, or extract elsewhere and use the feature file"
        )
    return Extraction.model_validate({**chosen, "processes": 1})


def _task_paths(name: str, given: str | None) -> Iterator[Path]:
    folder = pretrained_folder()
    if given is not None and given.endswith(".task"):
        yield Path(given).resolve()
    yield folder / f"{name}_landmarker" / f"{name}_landmarker.task"
    yield from sorted(folder.glob("*.task"))


def _has_hash(path: Path, sha256: str) -> bool:
    try:
        return _hash(path, path.stat().st_mtime_ns) == sha256
    except (RefusedFileError, OSError):
        return False


@lru_cache(maxsize=16)
def _hash(path: Path, changed: int) -> str:
    return sha256_of(path)


def spec_of(config: Extraction, tasks: Tasks) -> dict[str, Any]:
    """Return all that a sequence depends on apart from its clip, in JSON's types: a live client must use the same."""
    described = config.model_dump(mode="json", include={"encoding", "longest", "smoothing", "keyframes"})
    return {**described, "rate": RATE, "version": _VERSION, "tasks": dict(tasks.sha256)}


def extract_clips(
    clips: Sequence[Clip],
    config: Extraction,
    cache: FeatureCache | None,
    on_done: Callable[[int, int], None] = lambda done, total: None,
) -> list[NDArray[np.float32] | Failure]:
    """Return each clip's (T, D) float32 sequence, or why there is none; identical clips are extracted once.

    Each finished sequence is cached immediately, so that an interrupted run resumes where it stopped.
    Raises ConfigError for missing task files, and where MediaPipe cannot be loaded.
    """
    tasks = task_files(config)
    spec = spec_of(config, tasks)
    raw = {key: value for key, value in spec.items() if key not in ("smoothing", "keyframes", "longest")}
    spec_id = f"landmarks-{content_key(json.dumps(raw, sort_keys=True))[:16]}"
    keys = [content_key(clip.sha256, clip.path.suffix.lower(), repr((clip.onset, clip.offset))) for clip in clips]
    results: dict[str, NDArray[np.float32] | Failure] = {**(cache.get_many(spec_id, keys) if cache else {})}
    first = dict(zip(keys, clips, strict=True))
    missing = [key for key in dict.fromkeys(keys) if key not in results]
    total = len(first)
    on_done(total - len(missing), total)

    def finished(number: int, result: NDArray[np.float32] | Failure) -> None:
        results[missing[number]] = result
        if cache and not isinstance(result, Failure):
            cache.put_many(spec_id, {missing[number]: result})
        on_done(len(results), total)

    requests = [_request(first[key], config, tasks) for key in missing]
    run_limited(EXTRACT, requests, config.processes or os.cpu_count() or 1, config.seconds, finished)
    return [_postprocessed(results[key], config) for key in keys]


def _request(clip: Clip, config: Extraction, tasks: Tasks) -> dict[str, Any]:
    return {
        "path": str(clip.path),
        "sha256": clip.sha256,
        "onset": clip.onset,
        "offset": clip.offset,
        "encoding": config.encoding,
        "longest": config.longest,
        "tasks": {name: str(path) for name, path in tasks.paths.items()},
    }


def without_landmark(sequence: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(T, D) -> (T,) bool: the frames without any landmark."""
    return np.asarray(~sequence.any(axis=1))


def _postprocessed(result: NDArray[np.float32] | Failure, config: Extraction) -> NDArray[np.float32] | Failure:
    if isinstance(result, Failure):
        return result
    return postprocess(result, 2 if config.encoding == BODY else 3, config.smoothing, config.keyframes)
