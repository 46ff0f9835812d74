"""A model that needs a file beside it is neither published nor used: nothing hashes that file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from model_registry.errors import CorruptError, RefusedBundleError
from model_registry.storage import publication
from model_registry.storage.external_data import external_data_fault
from model_registry.store import Registry
from shared.errors import DataError
from shared.features.graph import open_session
from tests.model_registry.bundles import make_bundle


def model(location: str | None, within: str = "graph") -> bytes:
    """Return a model that adds two numbers, which lie in a file where `location` names one."""
    weights = numpy_helper.from_array(np.ones(2, np.float32), "weights")
    if location is not None:
        weights.ClearField("raw_data")
        weights.data_location = TensorProto.EXTERNAL
        weights.external_data.add(key="location", value=location)
        weights.external_data.add(key="length", value="8")
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy")
    node = helper.make_node("Add", ["x", "weights"], ["y"])
    if within == "graph":
        graph = helper.make_graph([node], "g", [x], [y], [weights])
    else:  # in the branch of a condition
        branch = helper.make_graph([node], "b", [], [y], [weights])
        flag = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True)))
        choice = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
        graph = helper.make_graph([flag, choice], "g", [x], [y])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return bytes(made.SerializeToString())


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current folder that holds the file which such a model names."""
    folder = tmp_path / "current"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(np.full(2, 7, np.float32).tobytes())
    monkeypatch.chdir(folder)
    yield folder


@pytest.mark.parametrize("within", ["graph", "branch"])
def test_a_model_with_data_in_a_file_is_refused_by_whoever_meets_it(
    outside: Path, tmp_path: Path, within: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = model("weights.bin", within)
    assert "weights.bin" in str(external_data_fault(content))
    store, bundle = Registry(tmp_path / "registry"), make_bundle(tmp_path, model=content)
    with pytest.raises(RefusedBundleError, match="needs the file 'weights"):
        store.publish(bundle)
    with monkeypatch.context() as patch:  # as a release that did not look
        patch.setattr(publication, "external_data_fault", lambda model: None)
        store.publish(bundle)
    for act in (lambda: store.resolve("user123", "gesture"), lambda: store.verify("user123", "gesture", 1)):
        with pytest.raises(CorruptError, match="needs the file"):
            act()
    with pytest.raises(DataError, match="needs the file"):
        open_session(content)


def test_a_model_that_holds_its_data_is_welcome(tmp_path: Path) -> None:
    described = onnx.ModelProto(doc_string="location").SerializeToString()
    for content in (model(None), model(None, "branch"), b"no model, but a location", described):
        assert external_data_fault(content) is None
    assert open_session(model(None)).run(None, {"x": np.zeros(2, np.float32)})[0].tolist() == [1, 1]
    assert Registry(tmp_path / "registry").publish(make_bundle(tmp_path, model=model(None))).version == 1
