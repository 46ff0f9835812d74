"""A tiny image encoder made in code, as somebody's own ONNX file and as a pretrained encoder's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from visual_environment_trainer.preprocessing.choosing import OwnEncoder, own_encoder

SIDE = 16
MEAN, DEVIATION = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)


def network(path: Path, layout: str = "nchw", batch: str | int = "n", opset: int = 17) -> Path:
    """Write pixels (n, 3, 16, 16) or (n, 16, 16, 3) -> maps (n, 8, 16, 16) and pooled (n, 8)."""
    rng = np.random.default_rng(0)
    weights = numpy_helper.from_array(rng.normal(size=(8, 3, 3, 3)).astype(np.float32), "weights")
    nodes = [helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2])] if layout == "nhwc" else []
    nodes += [
        helper.make_node("Conv", ["planes" if nodes else "pixels", "weights"], ["linear"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["linear"], ["maps"]),
        helper.make_node("GlobalAveragePool", ["maps"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["pooled"]),
    ]
    constants = [weights]
    if batch == 1:  # as exporters leave it behind that saw one image
        nodes[-1] = helper.make_node("Reshape", ["mean", "one"], ["pooled"])
        constants.append(numpy_helper.from_array(np.array([1, 8]), "one"))
    shape: list[Any] = [batch, 3, SIDE, SIDE] if layout == "nchw" else [batch, SIDE, SIDE, 3]
    outputs = [
        helper.make_tensor_value_info("pooled", TensorProto.FLOAT, [batch, 8]),
        helper.make_tensor_value_info("maps", TensorProto.FLOAT, [batch, 8, SIDE, SIDE]),
    ]
    inputs = [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape)]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(model)
    return path


def contract(path: Path, **changes: Any) -> dict[str, Any]:
    """What the configuration says of the network at `path`."""
    return {
        "path": str(path),
        "name": "tiny",
        "licence": "CC0-1.0",
        "input": "pixels",
        "side": SIDE,
        "mean": list(MEAN),
        "deviation": list(DEVIATION),
        "output": "pooled",
        "middle": "maps",
    } | changes


def pretrained(folder: Path, name: str) -> Path:
    """Make the network a pretrained encoder called `name` in `folder`."""
    own = OwnEncoder.model_validate(contract(network(folder / "tiny.onnx"), name=name))
    own_encoder(own, folder / "made").folder.rename(folder / name)
    return folder
