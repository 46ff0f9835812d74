"""The few array operations that features and heads need beyond the Array API standard.

A feature function is written once, against `xp = namespace(x)` and this module. Given NumPy arrays it
computes; given ndonnx arrays it is traced into an ONNX graph. Only this module and `shared.features.graph` know which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

_CONSTANTS: ContextVar[tuple[list[np.ndarray] | None, Iterator[Any] | None]] = ContextVar(
    "constants", default=(None, None)
)

Array = Any  # numpy.ndarray, or ndonnx.Array while tracing
Inputs = dict[str, Array]  # one sample's named tensors


END = 2**31 - 1  # a bound for `section` that lies beyond every end


def namespace(x: Array) -> Any:
    """Return the Array API namespace that `x` belongs to."""
    return x.__array_namespace__()


def tracing(x: Array) -> bool:
    """Whether operations on `x` build a graph instead of computing."""
    return hasattr(x, "unwrap_spox")


def const(value: Any, like: Array, dtype: Any = None) -> Array:
    """Return `value` in the namespace of `like`, with its dtype unless another NumPy `dtype` is named.

    Constants pass through here because a float64 constant would silently promote a float32 graph.
    """
    xp = namespace(like)
    target = like.dtype if dtype is None else getattr(xp, np.dtype(dtype).name)
    seen, instead = _CONSTANTS.get()
    if instead is not None and tracing(like):
        return next(instead)
    made = xp.asarray(np.asarray(value), dtype=target)
    if seen is not None:
        seen.append(made)
    return made


def half(value: np.ndarray, like: Array) -> Array:
    """Return float32 numbers that half precision holds, as `halved` makes them; in a graph they take half the room."""
    if not tracing(like) and _CONSTANTS.get()[0] is None:
        return value
    return namespace(like).astype(const(value, like, np.float16), namespace(like).float32)


def halved(value: np.ndarray) -> np.ndarray:
    """Return the nearest numbers that half precision holds, in float32, with which NumPy computes faster."""
    return value.astype(np.float16).astype(np.float32)


@contextmanager
def collected_constants() -> Iterator[list[np.ndarray]]:
    """Collect what `const` returns in this thread, in order, while NumPy computes."""
    found: list[np.ndarray] = []
    token = _CONSTANTS.set((found, None))
    try:
        yield found
    finally:
        _CONSTANTS.reset(token)


@contextmanager
def constants_from(placeholders: Sequence[Array]) -> Iterator[None]:
    """Let `const` return these in order while this thread traces. Raises ValueError if it is not asked for all."""
    waiting = iter(placeholders)
    token = _CONSTANTS.set((None, waiting))
    try:
        yield
    finally:
        _CONSTANTS.reset(token)
    if next(waiting, None) is not None:
        raise ValueError("tracing asks for fewer constants than computing")


def length(x: Array, axis: int = 0) -> Array:
    """Return the length of an axis as a 0-d int64 array, also where tracing does not know it."""
    if tracing(x):
        return x.dynamic_shape[axis]
    return np.asarray(x.shape[axis], dtype=np.int64)


def matmul(a: Array, b: Array) -> Array:
    """Return the matrix product as one MatMul node: ndonnx's own guards each product for empty operands."""
    if not tracing(a):
        return np.matmul(a, b)
    import ndonnx
    import spox.opset.ai.onnx.v21 as op

    return ndonnx.asarray(op.matmul(a.unwrap_spox(), b.unwrap_spox()))  # type: ignore[attr-defined]


def section(x: Array, start: Any, stop: Any, axis: int = 0) -> Array:
    """Return x from `start` to `stop` along `axis`; bounds are numbers or 0-d int64 arrays, negative ones from the end.

    One node and its bounds, where ndonnx's own slicing makes a hundred, most of them folded away again.
    """
    if not tracing(x):
        return x[(slice(None),) * axis + (slice(int(start), int(stop)),)]
    import ndonnx
    import spox.opset.ai.onnx.v21 as op

    def bound(value: Any) -> Any:
        if not tracing(value):
            return op.const(np.array([value], np.int64))
        return op.reshape(value.unwrap_spox(), op.const(np.array([1], np.int64)))

    where = op.const(np.array([axis], np.int64))
    return ndonnx.asarray(op.slice(x.unwrap_spox(), bound(start), bound(stop), where))  # type: ignore[attr-defined]


def floored(x: Array, lowest: float) -> Array:
    """Return max(x, lowest) elementwise."""
    return namespace(x).maximum(x, const(lowest, x))


def greatest(x: Array, axis: int | None = None, keepdims: bool = False) -> Array:
    """Return the greatest value along `axis`, or of all; x is not empty.

    One node, where ndonnx's own `max` guards against empty operands with a dozen.
    """
    if not tracing(x):
        return np.max(x, axis=axis, keepdims=keepdims)
    import ndonnx
    import spox.opset.ai.onnx.v21 as op

    axes = op.const(np.arange(len(x.shape)) if axis is None else np.array([axis]), np.int64)
    return ndonnx.asarray(op.reduce_max(x.unwrap_spox(), axes, keepdims=int(keepdims)))  # type: ignore[attr-defined]


def mean_and_deviation(x: Array) -> tuple[Array, Array]:
    """(n, d) float32 -> mean (d,) and population deviation (d,) over rows; n at least 1."""
    xp = namespace(x)
    mean = xp.mean(x, axis=0)
    off = x - mean
    return mean, xp.sqrt(xp.mean(off * off, axis=0))


def unit_rows(x: Array) -> Array:
    """(n, d) float32 -> rows of Euclidean length 1; a row of zeros stays zero."""
    xp = namespace(x)
    return x / xp.sqrt(floored(xp.sum(x * x, axis=-1, keepdims=True), 1e-12))


def sliding_rows(x: Array, size: int) -> Array:
    """(n, d) -> (n - size + 1, size * d): each row with the `size - 1` rows after it; n at least `size`."""
    xp = namespace(x)
    count = length(x) - (size - 1)
    return xp.concat([x[k : count + k, :] for k in range(size)], axis=1)


def inline(model: bytes, arguments: dict[str, Array]) -> dict[str, Array]:
    """Embed a serialised model into the graph that is being traced; return its outputs by name."""
    import ndonnx
    import onnx
    import spox

    outputs = spox.inline(onnx.load_from_string(model))(**{n: a.unwrap_spox() for n, a in arguments.items()})
    return {name: ndonnx.asarray(value) for name, value in outputs.items()}


def compute_or_inline(
    features: Array, compute: Callable[[Array], Array], model: Callable[[], bytes], output: str
) -> Array:
    """Return what `compute` makes of the features now, or `output` of the model that does the same while tracing."""
    return inline(model(), {"features": features})[output] if tracing(features) else compute(features)


def run_model(model: Path, inputs: dict[str, Array], output: str) -> Array:
    """Run a frozen ONNX model: through ONNX Runtime now, or inlined into the graph while tracing."""
    if not any(tracing(value) for value in inputs.values()):
        return _session(model).run([output], inputs)[0]
    return inline(model.read_bytes(), inputs)[output]


@lru_cache(maxsize=8)
def _session(model: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
