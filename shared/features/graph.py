"""Feature functions as ONNX graphs: traced once, run through ONNX Runtime by training and by the model alike."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, is_dataclass
from functools import cached_property, lru_cache
from typing import Any, Protocol

import numpy as np

from model_registry.storage.external_data import external_data_fault
from shared.errors import DataError, Fault
from shared.features.arrays import Array, Inputs, inline, namespace, tracing

FeatureFunction = Callable[[Inputs], Array]  # one sample's named tensors -> (D,) float32
OPSET_DOMAINS = ("", "ai.onnx.ml")


class Samples(Protocol):
    """Samples by number: a list, or something that reads them when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Inputs: ...


@dataclass(frozen=True)
class TensorSpec:
    """One named input of a model: dtype, shape, where a name stands for a length that varies, and meaning."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    meaning: str = ""  # unit, range and order of the numbers, for whoever runs the model

    def check(self, value: np.ndarray) -> None:
        """Raise ValueError if `value` does not fit."""
        fits = value.dtype == np.dtype(self.dtype) and len(value.shape) == len(self.shape)
        if not fits or any(isinstance(n, int) and n != m for n, m in zip(self.shape, value.shape, strict=True)):
            raise ValueError(f"{self.name}: {value.dtype} {value.shape} is not {self.dtype} {self.shape}")

    def argument(self) -> Array:
        """Return a placeholder of this dtype and shape to trace with."""
        import ndonnx

        return ndonnx.argument(shape=self.shape, dtype=getattr(ndonnx, self.dtype))


@dataclass(frozen=True)
class FeatureGraph:
    """A feature function over a contract of inputs, as the graph that computes it."""

    name: str
    contract: tuple[TensorSpec, ...]
    function: FeatureFunction

    @cached_property
    def model(self) -> bytes:
        """The serialised ONNX model: the contract's inputs -> `features` (1, D) float32."""
        return (_remembered if is_value(self.function) else _traced)(self.contract, self.function)

    def remember(self, model: bytes) -> None:
        """Take `model`, which tracing the same function in an earlier run gave, instead of tracing."""
        self.__dict__["model"] = model  # where cached_property looks first

    @cached_property
    def spec_id(self) -> str:
        """Name and hash of the traced graph: changes with every change of code, constant or inlined network."""
        return f"{self.name}-{hashlib.sha256(self.model).hexdigest()[:16]}"

    def run(self, samples: Samples, which: Sequence[int] | None = None, threads: int = 2) -> Iterator[np.ndarray]:
        """Yield the (D,) float32 features of the samples, or of those numbered `which`, in order, by ONNX Runtime.

        A sample is asked for where it is needed, on the thread that computes it.
        """
        numbers = range(len(samples)) if which is None else which
        if not len(numbers):
            return  # opening a session on a large graph takes a while
        session = open_session(self.model)

        def one(number: int) -> np.ndarray:
            sample = samples[number]
            row: np.ndarray = session.run(["features"], {s.name: sample[s.name] for s in self.contract})[0][0]
            return row

        with ThreadPoolExecutor(threads) as pool:
            yield from pool.map(one, numbers)


def _traced(contract: tuple[TensorSpec, ...], function: FeatureFunction) -> bytes:
    arguments = {spec.name: spec.argument() for spec in contract}
    return build(arguments, {"features": features_row(function, arguments)}, {})


_remembered = lru_cache(maxsize=64)(_traced)  # tracing takes longer than training a small model


def is_value(function: object) -> bool:
    """Whether a function equals another of the same fields, so that its graph can be looked up."""
    if not is_dataclass(function):
        return False
    try:
        hash(function)
    except TypeError:
        return False
    return True


def joined(name: str, blocks: Sequence[FeatureGraph]) -> FeatureGraph:
    """Return the graph whose features are those of `blocks` one after another, each block's graph embedded as it is.

    The contracts of the blocks are merged; tensors of the same name must agree.
    """
    contract = {spec.name: spec for block in blocks for spec in block.contract}
    return FeatureGraph(name, tuple(contract.values()), _Joined(tuple(blocks)))


@dataclass(frozen=True)
class _Joined:
    blocks: tuple[FeatureGraph, ...]

    def __call__(self, sample: Inputs) -> Array:
        rows = [_embedded(block, sample) for block in self.blocks]
        return namespace(rows[0]).concat(rows, axis=1)


def _embedded(block: FeatureGraph, sample: Inputs) -> Array:
    own = {spec.name: sample[spec.name] for spec in block.contract}
    if not any(tracing(value) for value in own.values()):
        return features_row(block.function, own)
    return inline(block.model, own)["features"]


def features_row(function: FeatureFunction, sample: Inputs) -> Array:
    """One sample's named tensors -> (1, D) float32 features."""
    features = function(sample)
    return namespace(features).reshape(features, (1, -1))


def build(arguments: dict[str, Array], outputs: dict[str, Array], properties: dict[str, str]) -> bytes:
    """Return the checked, deterministic bytes of the graph from traced `arguments` to `outputs`.

    Raises ValueError if the graph needs an operator outside of `OPSET_DOMAINS`.
    """
    import ndonnx

    return _checked(ndonnx.build(arguments, outputs), properties)


def bind_inputs(model: bytes, values: Mapping[str, np.ndarray]) -> bytes:
    """Return the graph with the inputs named in `values` fixed to these."""
    import onnx

    found = onnx.load_from_string(model)
    rest = [value for value in found.graph.input if value.name not in values]
    del found.graph.input[:]
    found.graph.input.extend(rest)
    found.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in values.items())
    return bytes(found.SerializeToString(deterministic=True))


def merge_graphs(model: bytes, head_graph: bytes, properties: dict[str, str]) -> bytes:
    """Return the checked bytes of a graph with a single output followed by `head_graph`, which takes that output.

    Raises ValueError if the graph needs an operator outside of `OPSET_DOMAINS`.
    """
    import onnx
    from onnx import compose

    first = onnx.load_from_string(model)
    second = compose.add_prefix(onnx.load_from_string(head_graph), "head_", rename_outputs=False)
    output, entrance = first.graph.output[0].name, second.graph.input[0].name
    both = compose.merge_models(first, second, io_map=[(output, entrance)])
    imports = {imported.domain: imported.version for imported in both.opset_import}
    del both.opset_import[:]
    both.opset_import.extend(onnx.helper.make_opsetid(domain, number) for domain, number in imports.items())
    return _checked(both, properties)


def _checked(model: Any, properties: dict[str, str]) -> bytes:
    import onnx

    onnx.helper.set_model_props(model, properties)
    onnx.checker.check_model(model, full_check=True)
    foreign = {node.domain for node in nodes(model.graph)} - set(OPSET_DOMAINS)
    if foreign:
        raise ValueError(f"graph uses operators of {sorted(foreign)}")
    return bytes(model.SerializeToString(deterministic=True))


def nodes(graph: Any) -> Iterator[Any]:
    """Yield every node of an ONNX graph, those of its subgraphs included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nodes(attribute.g)


def open_session(model: bytes) -> Any:
    """Return an ONNX Runtime session on one thread, so that results do not depend on the number of cores.

    Raises DataError for a model that refers to files: they would be loaded from the current folder.
    """
    import onnxruntime

    fault = external_data_fault(model)
    if fault is not None:
        raise DataError([Fault("model", None, "external data", fault)])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
