"""Writing an ONNX graph node by node, so that the same weights give the same bytes everywhere.

Names are counted, nothing of the machine or the time goes in, and the opset is fixed: a network's sha256 is
its identity, and two set-ups must agree on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, DTypeLike
from onnx import TensorProto, helper, numpy_helper

OPSET = 21  # what ndonnx traces to, so that a network can be inlined into a traced graph
IR_VERSION = 10
Shape = Sequence[int | str]

_ELEMENT = {"uint8": TensorProto.UINT8, "int64": TensorProto.INT64, "float32": TensorProto.FLOAT}


class Network:
    """A graph under construction. `add` and `const` return the name of the new value."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def add(self, op: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Append one node with one output, called `name` or counted."""
        name = name or f"t{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, inputs, [name], **attributes))
        return name

    def const(self, value: ArrayLike, dtype: DTypeLike = np.float32) -> str:
        """Append a constant, float32 unless told."""
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype=dtype), name))
        return name

    def integers(self, *values: int) -> str:
        """Append a 1-D int64 constant: axes, shapes, bounds."""
        return self.const(values, np.int64)

    def inline(self, model: onnx.ModelProto, prefix: str, *inputs: str) -> str:
        """Append a whole one-output model, brought to this opset, fed with `inputs`."""
        model = onnx.version_converter.convert_version(model, OPSET)
        graph = onnx.compose.add_prefix_graph(model.graph, prefix)
        constant = {tensor.name for tensor in graph.initializer}
        entries = [value.name for value in graph.input if value.name not in constant]
        renamed = dict(zip(entries, inputs, strict=True))
        for node in graph.node:
            for place, name in enumerate(node.input):
                node.input[place] = renamed.get(name, name)
            self._nodes.append(node)
        self._constants.extend(graph.initializer)
        (output,) = graph.output
        return str(output.name)

    def model(
        self, name: str, inputs: Mapping[str, tuple[str, Shape]], outputs: Mapping[str, Shape]
    ) -> onnx.ModelProto:
        """Return the checked model; inputs are name -> (dtype, shape), outputs (all float32) name -> shape."""
        entries = [helper.make_tensor_value_info(k, _ELEMENT[dtype], shape) for k, (dtype, shape) in inputs.items()]
        exits = [helper.make_tensor_value_info(k, TensorProto.FLOAT, shape) for k, shape in outputs.items()]
        graph = helper.make_graph(self._nodes, name, entries, exits, self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        onnx.checker.check_model(model, full_check=True)
        return model


def network_bytes(model: onnx.ModelProto) -> bytes:
    """Return the model's bytes, the same for the same model."""
    return bytes(model.SerializeToString(deterministic=True))
