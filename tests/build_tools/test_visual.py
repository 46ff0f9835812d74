from __future__ import annotations

import hashlib
import io
import math
import pickle
import pickletools
import struct
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from build_tools.onnx_builder import Network, network_bytes
from build_tools.visual import efficientnet_lite
from build_tools.visual.layers import WEIGHT_STEPS, Convolution, Int8Layers
from build_tools.visual.torch_file import MAGIC, TorchFileError, read_torch_file
from shared.features.encoders import load_encoder
from shared.features.pretrained import Pretrained, is_complete, pretrained_folder
from visual_environment_trainer.preprocessing.pretrained import LITE0, LITE0_INT8, LITE2, LITE2_INT8

F32 = NDArray[np.float32]


# A writer of the legacy format, in pickle operations.
def _text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def _integers(*values: int) -> bytes:
    return b"(" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"t"


def _tensor(
    key: str, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], kind: str = "FloatStorage"
) -> bytes:
    storage = b"(" + _text("storage") + f"ctorch\n{kind}\n".encode() + _text(key) + _text("cpu") + b"K\x00NtQ"
    hooks = b"ccollections\nOrderedDict\n)R"
    arguments = (
        b"("
        + storage
        + b"J"
        + struct.pack("<i", offset)
        + _integers(*shape)
        + _integers(*strides)
        + b"\x89"
        + hooks
        + b"t"
    )
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R"


def _file(tensors: dict[str, bytes], storages: dict[str, NDArray[Any]], magic: int = MAGIC) -> io.BytesIO:
    state = b"\x80\x02ccollections\nOrderedDict\n)Rq\x00(" + b"".join(_text(k) + v for k, v in tensors.items())
    state += b"u}" + _text("_metadata") + b"ccollections\nOrderedDict\n)Rsb."
    parts = [pickle.dumps(magic, 2), pickle.dumps(1001, 2), pickle.dumps({"little_endian": True}, 2), state]
    parts.append(pickle.dumps(list(storages), 2))
    parts += [struct.pack("<q", values.size) + values.tobytes() for values in storages.values()]
    return io.BytesIO(b"".join(parts))


def test_tensors_are_read_with_offset_and_strides() -> None:
    numbers = np.arange(24, dtype=np.float32)
    counts = np.asarray([7, 9], np.int64)
    found = read_torch_file(
        _file(
            {
                "plain": _tensor("1", 0, (2, 3), (3, 1)),
                "transposed": _tensor("1", 4, (3, 2), (1, 3)),
                "spread": _tensor("1", 1, (4,), (0,)),
                "scalar": _tensor("2", 1, (), (), "LongStorage"),
                "none": _tensor("1", 0, (0, 3), (3, 1)),
            },
            {"1": numbers, "2": counts},
        )
    )
    np.testing.assert_array_equal(found["plain"], numbers[:6].reshape(2, 3))
    np.testing.assert_array_equal(found["transposed"], numbers[4:10].reshape(2, 3).T)
    assert found["transposed"].flags.c_contiguous
    np.testing.assert_array_equal(found["spread"], [1, 1, 1, 1])
    assert found["scalar"] == 9
    assert found["scalar"].dtype == np.int64
    assert found["none"].shape == (0, 3)


WHOLE = _file({"w": _tensor("1", 0, (2,), (1,))}, {"1": np.zeros(2, np.float32)}).getvalue()
BAD = {
    "beyond its storage": _file({"w": _tensor("1", 20, (2, 3), (3, 1))}, {"1": np.zeros(24, np.float32)}),
    "larger than its storage": _file({"w": _tensor("1", 0, (10**9, 1000), (0, 0))}, {"1": np.zeros(24, np.float32)}),
    "non-negative integers": _file({"w": _tensor("1", 0, (-2, 3), (3, 1))}, {"1": np.zeros(24, np.float32)}),
    "not a PyTorch file": _file({}, {}, magic=7),
    "more than tensors": _file({"w": _text("words")}, {}),
    "storages are not those": _file({"w": _tensor("1", 0, (2,), (1,))}, {"2": np.zeros(24, np.float32)}),
    "names posix system": _file({"w": b"cposix\nsystem\n(" + _text("true") + b"tR"}, {}),
    "something else than a tensor": _file({"w": b"ctorch._utils\n_rebuild_tensor_v2\n(" + _text("true") + b"tR"}, {}),
    "unknown way": _file({"w": b"(" + _text("module") + b"NNNNtQ"}, {}),
    "uses STACK_GLOBAL": _file({"w": _text("posix") + _text("system") + b"\x93"}, {}),
    "uses INST": _file({"w": b"(" + _text("true") + b"iposix\nsystem\n"}, {}),
    "malformed": _file({"w": b"h\x63"}, {}),
    "ends within a storage": io.BytesIO(
        _file({"w": _tensor("1", 0, (2,), (1,))}, {"1": np.zeros(24, np.float32)}).getvalue()[:-1]
    ),
}


@pytest.mark.parametrize("reason", BAD)
def test_anything_but_a_state_dict_of_tensors_is_refused(reason: str) -> None:
    BAD[reason].seek(0)
    with pytest.raises(TorchFileError, match=reason):
        read_torch_file(BAD[reason])


def test_a_file_cut_short_anywhere_is_refused() -> None:
    assert read_torch_file(io.BytesIO(WHOLE))["w"].shape == (2,)
    for end in range(len(WHOLE)):
        with pytest.raises(TorchFileError):
            read_torch_file(io.BytesIO(WHOLE[:end]))


def test_the_writer_above_writes_what_pickle_understands() -> None:
    names = [op.name for op, _, _ in pickletools.genops(_tensor("1", 0, (2,), (1,)) + b".")]
    assert {"GLOBAL", "BINPERSID", "REDUCE"} <= set(names)


# A small EfficientNet-Lite with a width of its own in each stage, and NumPy's answer to it.
WIDTHS = (4, 6, 8, 10, 12, 14, 16)
REPEATS = (1, 2, 1, 1, 2, 1, 1)
STRIDES = (1, 2, 2, 2, 1, 2, 1)
KERNELS = (3, 3, 5, 3, 5, 5, 3)


def _small_state() -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(7)
    state: dict[str, NDArray[Any]] = {}

    def numbers(low: float, high: float, *shape: int) -> F32:
        """Evenly spread, of integers and IEEE arithmetic alone, so the same on every machine."""
        return (low + random.integers(0, 1025, shape) / 1024 * (high - low)).astype(np.float32)

    def layer(weight: str, norm: str, out: int, into: int, kernel: int) -> None:
        reach = math.sqrt(3 / into) / kernel
        state[f"{weight}.weight"] = numbers(-reach, reach, out, into, kernel, kernel)
        state[f"{norm}.weight"] = numbers(0.5, 1.5, out)
        state[f"{norm}.bias"] = numbers(-0.8, 0.8, out)
        state[f"{norm}.running_mean"] = numbers(-0.3, 0.3, out)
        state[f"{norm}.running_var"] = numbers(0.2, 1, out)

    layer("_conv_stem", "_bn0", 4, 3, 3)
    into, number = 4, 0
    for out, repeats, kernel in zip(WIDTHS, REPEATS, KERNELS, strict=True):
        for _ in range(repeats):
            block, wide = f"_blocks.{number}.", into * (2 if number else 1)
            if number:
                layer(f"{block}_expand_conv", f"{block}_bn0", wide, into, 1)
            layer(f"{block}_depthwise_conv", f"{block}_bn1", wide, 1, kernel)
            layer(f"{block}_project_conv", f"{block}_bn2", out, wide, 1)
            into, number = out, number + 1
    layer("_conv_head", "_bn1", 1280, into, 1)
    return state


def _numpy_efficientnet(state: dict[str, NDArray[Any]], images: NDArray[np.uint8]) -> tuple[F32, F32]:
    """embedding and mid of NHWC images: every layer as its own step, TensorFlow's SAME padding."""

    def conv(x: F32, weight: str, norm: str, stride: int = 1, relu6: bool = True) -> F32:
        kernel = state[f"{weight}.weight"]
        pads = [(0, 0), (0, 0)]
        for side in x.shape[2:]:
            total = max((-(-side // stride) - 1) * stride + kernel.shape[2] - side, 0)
            pads.append((total // 2, total - total // 2))
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, pads), kernel.shape[2:], axis=(2, 3))
        windows = windows[:, :, ::stride, ::stride]
        if kernel.shape[1] == 1 and x.shape[1] > 1:
            y = np.einsum("nchwij,cij->nchw", windows, kernel[:, 0])
        else:
            y = np.einsum("nchwij,ocij->nohw", windows, kernel)
        mean, scale = state[f"{norm}.running_mean"], np.sqrt(state[f"{norm}.running_var"] + 1e-3)
        y = (y - mean[:, None, None]) / scale[:, None, None]
        y = y * state[f"{norm}.weight"][:, None, None] + state[f"{norm}.bias"][:, None, None]
        return np.clip(y, 0, 6) if relu6 else y

    x = (images.astype(np.float32).transpose(0, 3, 1, 2) - 127) / 128
    x = conv(x, "_conv_stem", "_bn0", 2)
    number = 0
    for stage, repeats in enumerate(REPEATS):
        for repeat in range(repeats):
            block = f"_blocks.{number}."
            y = conv(x, f"{block}_expand_conv", f"{block}_bn0") if number else x
            y = conv(y, f"{block}_depthwise_conv", f"{block}_bn1", STRIDES[stage] if repeat == 0 else 1)
            y = conv(y, f"{block}_project_conv", f"{block}_bn2", relu6=False)
            x = x + y if repeat else y
            number += 1
        if stage == 4:
            mid = x.mean((2, 3))
    return conv(x, "_conv_head", "_bn1").mean((2, 3)), mid


@pytest.mark.parametrize("side", [64, 52])  # 52: odd sides on the way, where SAME padding is lopsided elsewhere
def test_the_graph_answers_as_numpy_does(side: int) -> None:
    state = _small_state()
    images = np.random.default_rng(1).integers(0, 256, (3, side, side, 3), dtype=np.uint8)
    session = onnxruntime.InferenceSession(network_bytes(efficientnet_lite(state, side)))
    embedding, mid = session.run(["embedding", "mid"], {"image": images})
    expected, expected_mid = _numpy_efficientnet(state, images)
    assert embedding.shape == (3, 1280)
    assert mid.shape == (3, 12)
    assert expected.std() > 0.05
    np.testing.assert_allclose(embedding, expected, atol=2e-4)
    np.testing.assert_allclose(mid, expected_mid, atol=2e-4)


@pytest.mark.parametrize(
    ("int8", "digest"),
    [
        (False, "f15b23f15f980dc1275d4595f4ccddb45c6793d64ed9255f6a54f671df81e4a5"),
        (True, "85d03fa6a5620033317514952d0970b0e3826e5c2bee19c864e650e7207919af"),
    ],
)
def test_the_same_weights_give_the_same_bytes(int8: bool, digest: str) -> None:
    """Recorded on Linux x86-64: the identity of an encoder must not depend on where it was made."""
    raw = network_bytes(efficientnet_lite(_small_state(), 64, int8))
    assert raw == network_bytes(efficientnet_lite(_small_state(), 64, int8))
    assert hashlib.sha256(raw).hexdigest() == digest


def _one_convolution(stride: int = 1, relu6: bool = False) -> tuple[Convolution, NDArray[Any]]:
    """A convolution of 3 channels to 5, its normalisation's statistics those of what it makes of the images."""
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (4, 3, 16, 16)).astype(np.float32)
    kernel = (rng.normal(size=(5, 3, 3, 3)) * 0.3).astype(np.float32)
    kernel[4] = 0  # a channel without weights, of which the normalisation leaves a constant
    net = Network()
    net.add("Conv", "x", net.const(kernel), pads=[1] * 4, name="y")
    raw = network_bytes(net.model("c", {"x": ("float32", ["n", 3, 16, 16])}, {"y": ["n", 5, 16, 16]}))
    (made,) = onnxruntime.InferenceSession(raw).run(None, {"x": images})
    state = {
        "c.weight": kernel,
        "n.weight": np.linspace(0.5, 2, 5),
        "n.bias": np.linspace(-1, 2, 5),
        "n.running_mean": made.mean((0, 2, 3)),
        "n.running_var": made.var((0, 2, 3)),
    }
    return Convolution.folded(state, "c", "n", stride, 16, relu6), images


@pytest.mark.parametrize("relu6", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_in_integers_is_off_by_a_few_steps_at_most(stride: int, relu6: bool) -> None:
    convolution, images = _one_convolution(stride, relu6)
    net, plain = Network(), Network()
    layers = Int8Layers(net)
    levels = layers.conv(layers.entrance("x", -1.0, 1.0), convolution)
    twice = layers.sum(levels, levels)
    net.add("Identity", layers.exit(levels), name="y")
    net.add("Identity", layers.exit(twice), name="z")
    y = plain.add("Conv", "x", plain.const(convolution.kernel), plain.const(convolution.bias), **convolution.attributes)
    plain.add("Clip", y, plain.const(0.0), plain.const(6.0), name="y") if relu6 else plain.add("Identity", y, name="y")
    side, entry = 16 // stride, {"x": ("float32", ["n", 3, 16, 16])}
    small = net.model("q", entry, {"y": ["n", 5, side, side], "z": ["n", 5, side, side]})
    large = plain.model("f", entry, {"y": ["n", 5, side, side]})
    found, sums = onnxruntime.InferenceSession(network_bytes(small)).run(None, {"x": images})
    (expected,) = onnxruntime.InferenceSession(network_bytes(large)).run(None, {"x": images})
    assert expected.std() > 0.5
    assert np.abs(found - expected).max() < 6 * levels.step
    np.testing.assert_allclose(found[:, 4], expected[:, 4], atol=levels.step)
    reach = (np.array([0, 255]) - twice.zero) * twice.step
    assert np.abs(sums - np.clip(2 * found, *reach)).max() <= twice.step
    weights = [onnx.numpy_helper.to_array(t) for t in small.graph.initializer if t.data_type == onnx.TensorProto.INT8]
    assert max(int(np.abs(w.astype(int)).max()) for w in weights) == WEIGHT_STEPS, "more would saturate without VNNI"


def _is_made(*networks: Pretrained) -> pytest.MarkDecorator:
    missing = [network.name for network in networks if not is_complete(network, pretrained_folder())]
    return pytest.mark.skipif(bool(missing), reason=f"not made: {missing}; run: python -m build_tools")


@pytest.mark.parametrize(
    ("plain", "small"),
    [
        pytest.param(LITE0, LITE0_INT8, marks=_is_made(LITE0, LITE0_INT8), id="lite0"),
        pytest.param(LITE2, LITE2_INT8, marks=_is_made(LITE2, LITE2_INT8), id="lite2"),
    ],
)
def test_integers_see_what_floats_see_in_a_third_of_the_room(plain: Pretrained, small: Pretrained) -> None:
    one, other = load_encoder(plain.name), load_encoder(small.name)
    side = int(plain.inputs["image"].shape[1])
    rng = np.random.default_rng(0)
    rows, columns = np.indices((side, side)) / side
    pictures = []
    for _ in range(4):  # stripes and blobs of colour, with some noise
        colour, wave = rng.uniform(0, 255, (2, 3)), rng.uniform(3, 30, 2)
        share = 0.5 + 0.5 * np.sin(wave[0] * rows + wave[1] * columns**2)
        pictures.append(share[..., None] * colour[0] + (1 - share[..., None]) * colour[1])
    images = np.clip(np.stack(pictures) + rng.normal(size=(4, side, side, 3)) * 5, 0, 255).astype(np.uint8)
    expected, found = one.run({"image": images}), other.run({"image": images})
    for name in ("embedding", "mid"):
        a, b = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (expected[name], found[name]))
        assert np.sum(a * b, axis=1).min() > 0.9
    alone = np.concatenate([other.run({"image": images[k : k + 1]})["embedding"] for k in range(4)])
    np.testing.assert_allclose(alone, found["embedding"], rtol=1e-5)
    assert 3 * (other.folder / "model.onnx").stat().st_size < (one.folder / "model.onnx").stat().st_size


@pytest.mark.skipif(not is_complete(LITE0, pretrained_folder()), reason="lite0 is not made; run: python -m build_tools")
def test_lite0_tells_pictures_apart_and_mostly_ignores_contrast() -> None:
    encoder = load_encoder("lite0")
    ramp = np.linspace(0, 255, 224, dtype=np.uint8)
    sky = np.broadcast_to(ramp[:, None, None], (224, 224, 3))
    board = np.broadcast_to((np.indices((224, 224)).sum(0) // 28 % 2 * 255).astype(np.uint8)[..., None], (224, 224, 3))
    images = np.ascontiguousarray(np.stack([sky, board, board // 2 + 60]))
    embedding = encoder.run({"image": images})["embedding"]
    assert embedding.shape == (3, 1280)
    assert embedding.min() >= 0
    unit = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    assert unit[1] @ unit[2] > unit[0] @ unit[1] + 0.2
    alone = np.concatenate([encoder.run({"image": images[k : k + 1]})["embedding"] for k in range(3)])
    np.testing.assert_allclose(alone, embedding, atol=1e-4)
