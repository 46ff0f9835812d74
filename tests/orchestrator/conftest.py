"""A fresh place for each test, with fake trainers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from shared.trainers import modality_names
from tests.orchestrator.orchestrated import FAKE, Place


@pytest.fixture(scope="session")
def onnx_bytes() -> bytes:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "fake", [value], [output])
    return helper.make_model(graph).SerializeToString()


@pytest.fixture
def place(tmp_path: Path, onnx_bytes: bytes) -> Place:
    (tmp_path / "model.onnx").write_bytes(onnx_bytes)
    (tmp_path / "data").mkdir()
    commands = {modality: [sys.executable, str(FAKE), modality] for modality in modality_names()}
    (tmp_path / "commands.json").write_text(json.dumps(commands))
    place = Place(tmp_path)
    place.set_behaviours({})
    return place
