"""Versions taken out of the registry: as a tar, and as one ONNX file joined with the encoders."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from model_registry.errors import ConflictError
from model_registry.storage.encoders import EncoderSpec, Source, Tensor
from model_registry.storage.portable import join
from model_registry.store import Registry
from tests.model_registry.bundles import make_bundle, make_encoder, write_encoder

RNG = np.random.default_rng(0)
PICTURE = RNG.normal(size=(4, 3)).astype(np.float32)
WEIGHTS = RNG.normal(size=(5, 2)).astype(np.float32)


def model(graph: onnx.GraphProto, opset: int = 21, ir_version: int = 10) -> bytes:
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    onnx.checker.check_model(made, full_check=True)
    return bytes(made.SerializeToString())


def tensor(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def encoder_network(opset: int = 21) -> bytes:
    """image (n, 4) -> embedding (n, 3), mid (n, 4): names of its values are common ones."""
    nodes = [
        helper.make_node("MatMul", ["image", "weights"], ["embedding"], name="product"),
        helper.make_node("Neg", ["image"], ["mid"], name="negated"),
    ]
    weights = numpy_helper.from_array(PICTURE, "weights")
    exits = [tensor("embedding", ["n", 3]), tensor("mid", ["n", 4])]
    return model(helper.make_graph(nodes, "encoder", [tensor("image", ["n", 4])], exits, [weights]), opset)


def head_network(rank: int = 1, mid: bool = False) -> bytes:
    """lite0 (3,) or (views, 3), points (2,) [, lite0_mid (4,)] -> probabilities (2,)."""
    entries = [tensor("lite0", [3] if rank == 1 else ["views", 3]), tensor("points", [2])]
    nodes = []
    parts = ["lite0", "points"]
    if rank == 2:
        nodes.append(helper.make_node("ReduceMean", ["lite0", "axis"], ["mean"], keepdims=0, name="mean"))
        parts[0] = "mean"
    rows = 5
    if mid:
        entries.append(tensor("lite0_mid", [4]))
        nodes.append(helper.make_node("ReduceSum", ["lite0_mid", "axis"], ["sum"], keepdims=1, name="sum"))
        parts.append("sum")
        rows = 6
    weights = numpy_helper.from_array(np.resize(WEIGHTS, (rows, 2)), "weights")
    axis = numpy_helper.from_array(np.array([0], np.int64), "axis")
    nodes += [
        helper.make_node("Concat", parts, ["features"], axis=0, name="features"),
        helper.make_node("MatMul", ["features", "weights"], ["logits"], name="product"),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=0, name="softmax"),
    ]
    return model(helper.make_graph(nodes, "head", entries, [tensor("probabilities", [2])], [weights, axis]))


def encoder_spec(network: bytes, file: str = "model.onnx") -> EncoderSpec:
    sha256 = hashlib.sha256(network).hexdigest()
    return EncoderSpec(
        name="lite0",
        model=file,
        sha256=sha256,
        inputs={"image": Tensor(dtype="float32", shape=("n", 4), meaning="made up")},
        outputs={"embedding": 3, "mid": 4},
        licence="Apache-2.0",
        source=Source(package="made-up", version="1.0"),
        files={file: sha256},
    )


def publish(tmp_path: Path, head: bytes, network: bytes, file: str = "model.onnx") -> Registry:
    ref = write_encoder(tmp_path, encoder_spec(network, file), {file: network})
    store = Registry(tmp_path / "registry")
    store.publish(make_bundle(tmp_path, modality="visual_environment", model=head, encoder_refs=[ref]))
    return store


def run(network: bytes | Path, inputs: dict[str, np.ndarray], *outputs: str) -> list[np.ndarray]:
    content = network.read_bytes() if isinstance(network, Path) else network
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(list(outputs) or None, inputs)


@pytest.mark.parametrize(("rank", "mid", "opset"), [(1, False, 21), (2, False, 21), (1, True, 21), (1, False, 18)])
def test_the_portable_file_answers_as_encoder_and_model_do(tmp_path: Path, rank: int, mid: bool, opset: int) -> None:
    network, head = encoder_network(opset), head_network(rank, mid)
    store = publish(tmp_path, head, network)
    store.export("user123", "visual_environment", tmp_path / "portable.onnx", form="onnx")
    image = RNG.normal(size=(1 if rank == 1 else 3, 4)).astype(np.float32)
    points = np.array([0.5, -1.0], np.float32)
    embedding, middle = run(network, {"image": image}, "embedding", "mid")
    inputs = {"lite0": embedding if rank == 2 else embedding[0], "points": points}
    if mid:
        inputs["lite0_mid"] = middle[0]
    (expected,) = run(head, inputs)
    found = run(tmp_path / "portable.onnx", {"lite0_image": image, "points": points})
    assert len(found) == 1
    np.testing.assert_allclose(found[0], expected, atol=1e-6)
    joined = onnx.load(tmp_path / "portable.onnx")
    assert [value.name for value in joined.graph.output] == ["probabilities"]
    described = {prop.key: json.loads(prop.value) for prop in joined.metadata_props}
    assert described["encoders"] == {"lite0": hashlib.sha256(network).hexdigest()}
    assert described["encoder_files"] == {"lite0": {"encoder.json": encoder_spec(network).text()}}


def test_the_portable_file_describes_its_own_inputs_and_names_each_operator_set_once(tmp_path: Path) -> None:
    own = {"name": "points", "dtype": "float32", "shape": [2], "meaning": "two points"}
    for rank, count in ((1, 1), (2, "lite0_n")):
        head = onnx.load_model_from_string(head_network(rank))
        spec = {"k": 1, "inputs": [{"name": "lite0", "dtype": "float32", "shape": [3], "meaning": "embedding"}, own]}
        onnx.helper.set_model_props(head, {"spec": json.dumps(spec)})
        store = publish(tmp_path / str(rank), head.SerializeToString(), encoder_network())
        store.export("user123", "visual_environment", tmp_path / "portable.onnx", form="onnx")
        joined = onnx.load(tmp_path / "portable.onnx")
        described = next(json.loads(prop.value) for prop in joined.metadata_props if prop.key == "spec")
        image = {"name": "lite0_image", "dtype": "float32", "shape": [count, 4], "meaning": "made up"}
        assert described == {"k": 1, "inputs": [image, own]}
        assert [imported.domain for imported in joined.opset_import] == [""]


def test_lengths_that_two_encoders_call_the_same_may_differ(tmp_path: Path) -> None:
    network = encoder_network()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.onnx").write_bytes(network)
    entries = [tensor(name, ["views", 3]) for name in ("one", "two")]
    nodes = [helper.make_node("Concat", ["one", "two"], ["both"], axis=0, name="both")]
    head = onnx.load_model_from_string(model(helper.make_graph(nodes, "head", entries, [tensor("both", ["all", 3])])))
    for name in ("one", "two"):
        head = join(encoder_spec(network), tmp_path / name, name, head)
    inputs = {f"{name}_image": np.ones((rows, 4), np.float32) for name, rows in (("one", 2), ("two", 5))}
    (found,) = run(head.SerializeToString(), inputs)
    assert found.shape == (7, 3)
    shapes = [next(dim.dim_param for dim in value.type.tensor_type.shape.dim) for value in head.graph.input]
    assert len(set(shapes)) == 2


def test_the_same_version_gives_the_same_file(tmp_path: Path) -> None:
    store = publish(tmp_path, head_network(), encoder_network())
    for form in ("tar", "onnx"):
        for name in ("one", "two"):
            store.export("user123", "visual_environment", tmp_path / f"{name}.{form}", version="v1", form=form)  # type: ignore[arg-type]
        assert (tmp_path / f"one.{form}").read_bytes() == (tmp_path / f"two.{form}").read_bytes()
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_model_without_encoder_is_portable_as_it_is(tmp_path: Path) -> None:
    store = Registry(tmp_path / "registry")
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", [tensor("x", [1])], [tensor("y", [1])])
    store.publish(make_bundle(tmp_path, model=model(graph)))
    store.export("user123", "gesture", tmp_path / "out.onnx", form="onnx")
    assert run(tmp_path / "out.onnx", {"x": np.ones(1, np.float32)})[0] == [-1.0]


def test_what_cannot_be_joined_is_said(tmp_path: Path) -> None:
    store = publish(tmp_path / "a", head_network(), b"arrays", file="weights.npz")
    with pytest.raises(ConflictError, match="export a tar instead"):
        store.export("user123", "visual_environment", tmp_path / "out.onnx", form="onnx")
    store = publish(tmp_path / "c", b"no network", encoder_network())
    with pytest.raises(ConflictError, match="the model is no ONNX network"):
        store.export("user123", "visual_environment", tmp_path / "out.onnx", form="onnx")
    store = Registry(tmp_path / "b/registry")
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", [tensor("x", [1])], [tensor("y", [1])])
    network = encoder_network()
    ref = write_encoder(tmp_path / "b", encoder_spec(network), {"model.onnx": network})
    store.publish(make_bundle(tmp_path / "b", model=model(graph), encoder_refs=[ref]))
    with pytest.raises(ConflictError, match="named after encoder lite0"):
        store.export("user123", "gesture", tmp_path / "out.onnx", form="onnx")
    odd = head_network(mid=True).replace(b"lite0_mid", b"lite0_odd")
    store = publish(tmp_path / "d", odd, encoder_network())
    with pytest.raises(ConflictError, match=r"takes lite0_odd, which encoder lite0 does not provide.*tar"):
        store.export("user123", "visual_environment", tmp_path / "out.onnx", form="onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_a_tar_holds_every_file_and_the_encoders(tmp_path: Path) -> None:
    ref = make_encoder(tmp_path)
    store = Registry(tmp_path / "registry")
    done = store.publish(make_bundle(tmp_path, modality="speech", encoder_refs=[ref]))
    store.export("user123", "speech", tmp_path / "out.tar", form="tar")
    with tarfile.open(tmp_path / "out.tar") as tar:
        names = {name.removeprefix("user123_speech_v1/") for name in tar.getnames()}
        tar.extractall(tmp_path / "unpacked", filter="data")
    encoders = {f"encoders/{ref['sha256']}/{name}" for name in ("model.onnx", "encoder.json", "tokenizer.json")}
    folder = store.root / done.entry.folder
    assert names == {path.name for path in folder.iterdir()} | encoders
    unpacked = tmp_path / "unpacked/user123_speech_v1"
    assert all(
        (unpacked / path.name).read_bytes() == path.read_bytes() for path in (store.root / done.entry.folder).iterdir()
    )
