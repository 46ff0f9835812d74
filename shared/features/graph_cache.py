"""Traced graphs kept between runs: tracing features takes longer than training a small model.

A graph follows from code and configuration, never from a person's data. It is known by the sources of `shared` and of
the package that its function is from, the function's fields, the contents of the files that these name, and the
versions of the libraries that the package requires: if any of them differs, it is traced again. What is kept is as
trustworthy as the features beside it, and as the code: the file is its owner's alone. That model and training agree is
proved by replay.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from model_registry.storage.durable import file_sha256
from shared.features.cache import FeatureCache
from shared.features.graph import FeatureFunction, FeatureGraph, TensorSpec, is_value
from shared.fingerprint import code_fingerprint, library_versions, newest_source

_SPEC = "graphs"  # what graphs are filed under among the features
_LOADED = time.time()  # about when this process read the sources
_SETTLED = 5.0  # seconds by which sources must be older, to be those that this process read
_MOST_HEAD_GRAPHS = 64
_HEAD_GRAPHS: dict[str, bytes] = {}  # of this process
_DIGEST = 32  # bytes before a graph: its sha256, for a file that was damaged


def recall(graph: FeatureGraph, kept_in: FeatureCache | None) -> None:
    """Spare `graph` its tracing where an earlier run kept what came of it; keep it otherwise."""
    if kept_in is None or not is_value(graph.function):
        return
    known = _recalled(graph.contract, graph.function, kept_in)
    if known is not None:
        graph.remember(known)


@contextmanager
def recalled_meanwhile(graphs: Sequence[FeatureGraph], kept_in: FeatureCache | None) -> Iterator[None]:
    """Recall `graphs` on a thread of its own, beside networks that run without Python; on leaving, wait for it."""
    with ThreadPoolExecutor(1) as pool:
        pending = [pool.submit(_known, graph, kept_in) for graph in graphs]
        yield
        for future in pending:
            future.result()


def _known(graph: FeatureGraph, kept_in: FeatureCache | None) -> bytes:
    recall(graph, kept_in)
    return graph.model


def recall_head_graph(
    contract: tuple[TensorSpec, ...],
    parts: tuple[object, ...],
    trace: Callable[[], bytes],
    kept_in: FeatureCache | None,
) -> bytes:
    """Return the head graph that `trace` gives for `parts` (head, familiarity, decision rule), or gave for such parts.

    Learnt numbers enter through the `contract`, so arrays and fractions tell nothing apart; all else does.
    """
    key = _key(contract, parts, learnt=True)
    if key is None:
        return trace()
    model = _HEAD_GRAPHS.get(key) or _kept(key, trace, kept_in)
    if len(_HEAD_GRAPHS) > _MOST_HEAD_GRAPHS:
        _HEAD_GRAPHS.clear()
    return _HEAD_GRAPHS.setdefault(key, model)


def graph_key(contract: tuple[TensorSpec, ...], function: FeatureFunction) -> str | None:
    """Return a hash of all that a graph follows from, None where that cannot be told."""
    return _key(contract, (function,), learnt=False)


def _key(contract: tuple[TensorSpec, ...], parts: tuple[object, ...], learnt: bool) -> str | None:
    packages: set[str] = set()
    try:
        described = [*_described(contract, packages, False), *_described(parts, packages, learnt)]
        if max(map(newest_source, packages)) > _LOADED - _SETTLED:
            return None  # the hash would name other code than that which traces
        code = [f"{name} {code_fingerprint(name)} {library_versions(name)}" for name in sorted(packages)]
    except (TypeError, ModuleNotFoundError):
        return None
    return hashlib.sha256("\n".join([*code, *described]).encode()).hexdigest()


@lru_cache(maxsize=64)
def _recalled(contract: tuple[TensorSpec, ...], function: FeatureFunction, kept_in: FeatureCache) -> bytes | None:
    key = graph_key(contract, function)
    return None if key is None else _kept(key, lambda: FeatureGraph("", contract, function).model, kept_in)


def _kept(key: str, trace: Callable[[], bytes], kept_in: FeatureCache | None) -> bytes:
    if kept_in is None:
        return trace()
    kept = kept_in.get_many(_SPEC, [key]).get(key)
    if kept is not None and kept.dtype == np.uint8:
        digest, model = kept[:_DIGEST].tobytes(), kept[_DIGEST:].tobytes()
        if hashlib.sha256(model).digest() == digest:
            return model
    model = trace()
    kept_in.put_many(_SPEC, {key: np.frombuffer(hashlib.sha256(model).digest() + model, np.uint8)})
    return model


def _described(value: Any, packages: set[str], learnt: bool) -> Iterator[str]:
    """Yield a text for each part of a value and note the packages that these are from.

    Raises TypeError for what a text does not tell apart; with `learnt`, arrays and fractions are passed over instead.
    """
    if is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        packages.add(kind.__module__.partition(".")[0])
        yield f"{kind.__module__}.{kind.__qualname__}"
        for field in fields(value):
            yield field.name
            yield from _described(getattr(value, field.name), packages, learnt)
    elif isinstance(value, tuple):
        yield f"tuple of {len(value)}"
        for part in value:
            yield from _described(part, packages, learnt)
    elif isinstance(value, Path):
        yield file_sha256(value)
    elif learnt and isinstance(value, float | np.floating | np.ndarray):
        yield "learnt"
    elif value is None or isinstance(value, str | int | float):
        yield repr(value)
    else:
        raise TypeError(f"a {type(value).__name__} may hide anything")
