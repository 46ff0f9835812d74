"""Running the frozen networks: a folder with `encoder.json` becomes a function from arrays to arrays."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from model_registry.storage.encoders import EncoderError, EncoderSpec, Tensor, copy_encoder, verify_encoder
from shared.errors import ConfigError
from shared.features.cache import FeatureCache
from shared.features.pretrained import pretrained_folder

Batch = Mapping[str, NDArray[Any]]
Sample = TypeVar("Sample")
TOGETHER = 8  # samples in a batch: of more, none is faster


@dataclass(frozen=True)
class Encoder:
    """An intact encoder. Sent to another process it opens its own session there.

    `network`, if given, runs instead of the folder's model.
    """

    spec: EncoderSpec
    folder: Path
    threads: int = 1
    network: Callable[[Batch], dict[str, NDArray[Any]]] | None = None

    def run(self, batch: Batch) -> dict[str, NDArray[Any]]:
        """Return every output, name -> (n, dimension) float32, of inputs as `spec.inputs` describes them.

        Raises ValueError for an input that is not as described.
        """
        if set(batch) != set(self.spec.inputs):
            raise ValueError(f"{self.spec.name} takes {', '.join(self.spec.inputs)}, not {', '.join(batch)}")
        for name, expected in self.spec.inputs.items():
            _check(f"{self.spec.name}: {name}", batch[name], expected)
        if self.network is not None:
            return self.network(batch)
        found = self.open().run(list(self.spec.outputs), dict(batch))
        return {name: np.asarray(rows) for name, rows in zip(self.spec.outputs, found, strict=True)}

    def open(self) -> onnxruntime.InferenceSession:
        """Return this process's session on the folder's model; the first call takes a while."""
        return _session(os.getpid(), self.folder / self.spec.model, self.threads)


def load_encoder(name_or_path: str | Path, threads: int = 1) -> Encoder:
    """Return the encoder of that name among the pretrained networks, or of that folder, its files' hashes checked.

    Raises ConfigError saying what to do if it is absent or damaged.
    """
    path = model_path(name_or_path)
    if path.suffix != ".onnx":
        raise ConfigError(f"{path} is no ONNX network")
    return Encoder(_verified(os.getpid(), path.parent), path.parent, threads)


def model_path(name_or_path: str | Path) -> Path:
    """Return the model file of the pretrained network of that name, or in that folder, all files' hashes checked.

    Raises ConfigError as `load_encoder` does.
    """
    folder, remedy = Path(name_or_path).resolve(), "bring it here again"
    if str(name_or_path) == Path(name_or_path).name:
        folder = (pretrained_folder() / name_or_path).resolve()
        remedy = f"make it with: model-trainer pretrained --only {name_or_path}"
    try:
        return folder / _verified(os.getpid(), folder).model
    except EncoderError as error:
        raise ConfigError(f"{error}\n{remedy}") from error


def export_encoder(encoder: Encoder, out: Path) -> Path:
    """Put a copy of `encoder` at `<out>/encoders/<sha256>/`, whole or not at all, and return that folder.

    A copy that this process made or checked before is not read again while its files' times and sizes stay.
    """
    key = (os.getpid(), encoder.folder, out.resolve())
    copy = _copies.get(key)
    if copy is None or copy[1] != _signature(copy[0]):
        folder = copy_encoder(encoder.folder, out / "encoders", encoder.spec)
        copy = _copies[key] = (folder, _signature(folder))
    return copy[0]


_copies: dict[tuple[int, Path, Path], tuple[Path, frozenset[tuple[str, int, int, int]]]] = {}


def _signature(folder: Path) -> frozenset[tuple[str, int, int, int]]:
    """Return name, inode, size and time of each file in a folder; nothing where it is gone."""
    try:
        found = [(item.name, item.stat()) for item in os.scandir(folder)]
    except OSError:
        return frozenset()
    return frozenset((name, status.st_ino, status.st_size, status.st_mtime_ns) for name, status in found)


def encode_cached(
    encoder: Encoder,
    samples: Sequence[Sample],
    keys: Sequence[str],
    prepare: Callable[[Sequence[Sample]], Sequence[Batch]],
    cache: FeatureCache | None = None,
    chunk: int = 512,
    on_done: Callable[[int], None] = lambda done: None,
) -> dict[str, NDArray[Any]]:
    """Return every output, name -> (len(samples), dimension) float32, computing only what `cache` does not hold.

    `keys` are the samples' content keys; equal ones are computed once, and kept after each `chunk`. `prepare` makes the
    encoder's inputs of a few samples, a batch of one for each; see `_batches` for how they run. `on_done` hears how
    many samples are finished.
    """
    known: dict[str, dict[str, NDArray[Any]]] = {}
    for output in encoder.spec.outputs:
        known[output] = cache.get_many(_spec_id(encoder.spec, output), keys) if cache else {}
    todo: dict[str, Sample] = {}
    for key, sample in zip(keys, samples, strict=True):
        if not all(key in rows for rows in known.values()):
            todo.setdefault(key, sample)
    waiting = list(todo)
    done = len(samples) - len(waiting)
    on_done(done)
    single = replace(encoder, threads=1)
    with ThreadPoolExecutor(encoder.threads) as pool:
        opening = pool.submit(single.open) if waiting and encoder.network is None else None
        for start in range(0, len(waiting), chunk):
            some = waiting[start : start + chunk]
            batches = _batches(encoder, prepare([todo[key] for key in some]))
            if opening is not None:
                opening.result()
            fresh: dict[str, dict[str, NDArray[Any]]] = {output: {} for output in encoder.spec.outputs}
            for (places, _), rows in zip(batches, pool.map(lambda batch: single.run(batch[1]), batches), strict=True):
                for output, new in fresh.items():
                    new.update((some[place], row) for place, row in zip(places, rows[output], strict=False))
                done += len(places)
                on_done(done)
            for output, new in fresh.items():
                known[output].update(new)
                if cache:
                    cache.put_many(_spec_id(encoder.spec, output), new)
    return {
        output: np.stack([known[output][key] for key in keys])
        if len(keys)
        else np.zeros((0, dimension), dtype=np.float32)
        for output, dimension in encoder.spec.outputs.items()
    }


def _batches(encoder: Encoder, rows: Sequence[Batch]) -> list[tuple[list[int], Batch]]:
    """Return batches of at most TOGETHER rows of equal shapes, each with the places of its rows; a lone row is doubled.

    Where one stands alone, ONNX Runtime adds up in another order than where it has company; which company makes no
    difference. So the same sample gets the same bytes beside any others, and a model can be made again. Nothing is
    padded, as that would change sums, too. An encoder whose inputs are one row long gets them one by one, and so does
    a `network` in the place of its model.
    """
    inputs = encoder.spec.inputs
    if encoder.network is not None or any(tensor.shape[0] == 1 for tensor in inputs.values()):
        return [([place], row) for place, row in enumerate(rows)]
    alike: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for place, row in enumerate(rows):
        alike.setdefault(tuple(row[name].shape for name in inputs), []).append(place)
    batches: list[tuple[list[int], Batch]] = []
    for places in alike.values():
        for start in range(0, len(places), TOGETHER):
            some = places[start : start + TOGETHER]
            filled = some if len(some) > 1 else some * 2
            batches.append((some, {name: np.concatenate([rows[k][name] for k in filled]) for name in inputs}))
    return batches


def _spec_id(spec: EncoderSpec, output: str) -> str:
    return f"{spec.sha256}/{output}"


def _check(what: str, array: NDArray[Any], expected: Tensor) -> None:
    fits = len(array.shape) == len(expected.shape) and all(
        isinstance(side, str) or side == length for side, length in zip(expected.shape, array.shape, strict=True)
    )
    if not fits or array.dtype != np.dtype(expected.dtype):
        shape = ", ".join(map(str, expected.shape))
        raise ValueError(f"{what} must be ({shape}) {expected.dtype}, not {array.shape} {array.dtype}")


@lru_cache(maxsize=32)
def _verified(process: int, folder: Path) -> EncoderSpec:
    return verify_encoder(folder)


@lru_cache(maxsize=16)
def _session(process: int, model: Path, threads: int) -> onnxruntime.InferenceSession:
    """Open the model once a process: a session's threads do not survive a fork."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
