"""A feature function means the same computed by NumPy and traced into a graph."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as any_array

from shared.features.arrays import (
    Array,
    Inputs,
    const,
    floored,
    greatest,
    length,
    matmul,
    mean_and_deviation,
    namespace,
    sliding_rows,
    unit_rows,
)
from shared.features.graph import FeatureGraph, TensorSpec, build, joined, nodes

CONTRACT = (TensorSpec("x", "float32", ("n", 3)),)
FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "mean_and_deviation": lambda x: namespace(x).concat(list(mean_and_deviation(x)), axis=0),
    "unit_rows": lambda x: namespace(x).max(unit_rows(x), axis=0),
    "floored": lambda x: namespace(x).sum(floored(x, 0.25), axis=0),
    "greatest": lambda x: greatest(x, axis=0) + greatest(x, axis=1, keepdims=True)[0, :],
    "matmul": lambda x: namespace(x).sum(matmul(x, const(np.arange(6.0).reshape(3, 2), x)), axis=0),
    "length": lambda x: namespace(x).sum(x, axis=0) / namespace(x).astype(length(x), x.dtype),
    "sliding_rows": lambda x: namespace(x).sum(sliding_rows(namespace(x).concat([x, x], axis=0), 2), axis=0),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@given(x=any_array(np.float32, st.tuples(st.integers(1, 9), st.just(3)), elements=st.floats(-8, 8, width=16)))
def test_numpy_and_graph_agree(name: str, x: np.ndarray) -> None:
    function = FUNCTIONS[name]
    graph = _graph(name)
    (row,) = graph.run([{"x": x}])
    np.testing.assert_allclose(row, function(x), rtol=1e-4, atol=1e-5)
    assert row.dtype == np.float32


_GRAPHS: dict[str, FeatureGraph] = {}


def _graph(name: str) -> FeatureGraph:
    if name not in _GRAPHS:
        _GRAPHS[name] = FeatureGraph(name, CONTRACT, lambda inputs: FUNCTIONS[name](inputs["x"]))
    return _GRAPHS[name]


def _scaled(by: float) -> Callable[[Inputs], Array]:
    return lambda inputs: namespace(inputs["x"]).sum(inputs["x"], axis=0) * by


def test_the_same_function_gives_the_same_identity_and_a_changed_constant_another() -> None:
    first, second, other = (FeatureGraph("f", CONTRACT, _scaled(by)) for by in (2.0, 2.0, 3.0))
    assert first.model == second.model
    assert first.spec_id == second.spec_id != other.spec_id


@dataclass(frozen=True)
class _Counting:
    by: float
    traced: list[float] = field(compare=False)

    def __call__(self, inputs: Inputs) -> Array:
        self.traced.append(self.by)
        return namespace(inputs["x"]).sum(inputs["x"], axis=0) * self.by


def test_equal_functions_are_traced_once_for_all_jobs_of_a_process() -> None:
    traced: list[float] = []
    models = [FeatureGraph("f", CONTRACT, _Counting(by, traced)).model for by in (2.5, 2.5, 3.5)]
    assert models[0] == models[1] != models[2]
    both = [joined("j", [FeatureGraph("f", CONTRACT, _Counting(2.5, traced))]).model for _ in range(2)]
    assert both[0] == both[1]
    assert traced == [2.5, 3.5]


def test_nothing_to_compute_needs_no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.features.graph.open_session", None)
    assert list(_graph("floored").run([])) == []


def test_a_joined_graph_holds_its_blocks_one_after_another() -> None:
    blocks = [FeatureGraph("a", CONTRACT, _scaled(1.0)), FeatureGraph("b", CONTRACT, _scaled(-1.0))]
    graph = joined("both", blocks)
    x = np.ones((2, 3), np.float32)
    (row,) = graph.run([{"x": x}])
    np.testing.assert_array_equal(row, [2, 2, 2, -2, -2, -2])
    np.testing.assert_array_equal(graph.function({"x": x})[0], row)


def test_graphs_use_only_standard_operators() -> None:
    domains = {node.domain for name in FUNCTIONS for node in nodes(onnx.load_from_string(_graph(name).model).graph)}
    assert domains == {""}


def test_build_refuses_foreign_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    x = CONTRACT[0].argument()
    monkeypatch.setattr("shared.features.graph.OPSET_DOMAINS", ("ai.onnx.ml",))
    with pytest.raises(ValueError, match="graph uses operators"):
        build({"x": x}, {"y": x + 1.0}, {})


@pytest.mark.parametrize("value", [np.zeros((2, 4), np.float32), np.zeros((2, 3)), np.zeros(3, np.float32)])
def test_a_tensor_that_breaks_the_contract_is_refused(value: np.ndarray) -> None:
    with pytest.raises(ValueError, match="x: "):
        CONTRACT[0].check(value)
