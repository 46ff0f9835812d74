from __future__ import annotations

import hashlib

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from build_tools.onnx_builder import network_bytes
from build_tools.sound import speech_embedding
from shared.features.encoders import load_encoder
from shared.features.pretrained import is_complete, pretrained_folder
from sound_trainer.preprocessing.pretrained import SPEECH_EMBEDDING

F32 = NDArray[np.float32]
MEL = np.random.default_rng(0).integers(-64, 65, (32, 1, 512)).astype(np.float32) / 2**18
PLACES = np.random.default_rng(1).integers(-64, 65, (76 * 32, 96)).astype(np.float32) / 1024


def _networks() -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Two networks shaped like the package's, in its old opset: filters every 160 samples, windows every 8 frames."""
    value = helper.make_tensor_value_info
    mel = helper.make_graph(
        [
            helper.make_node("Unsqueeze", ["wave", "one"], ["rows"]),
            helper.make_node("Conv", ["rows", "filters"], ["bands"], strides=[160]),
            helper.make_node("Transpose", ["bands"], ["turned"], perm=[2, 0, 1]),
            helper.make_node("Unsqueeze", ["turned", "one"], ["frames"]),
        ],
        "mel",
        [value("wave", TensorProto.FLOAT, ["n", "samples"])],
        [value("frames", TensorProto.FLOAT, ["time", 1, "n", 32])],
        [numpy_helper.from_array(MEL, "filters"), numpy_helper.from_array(np.asarray([1]), "one")],
    )
    embedding = helper.make_graph(
        [
            helper.make_node("Reshape", ["windows", "flat"], ["rows"]),
            helper.make_node("Conv", ["rows", "places"], ["products"], strides=[8, 1]),
            helper.make_node("Reshape", ["products", "out"], ["embedding"]),
        ],
        "embedding",
        [value("windows", TensorProto.FLOAT, ["n", 76, 32, 1])],
        [value("embedding", TensorProto.FLOAT, ["n", 1, 1, 96])],
        [
            numpy_helper.from_array(PLACES.T.reshape(96, 1, 76, 32), "places"),
            numpy_helper.from_array(np.asarray([-1, 1, 76, 32]), "flat"),
            numpy_helper.from_array(np.asarray([-1, 1, 1, 96]), "out"),
        ],
    )
    old = [helper.make_opsetid("", 13)]
    return helper.make_model(mel, opset_imports=old), helper.make_model(embedding, opset_imports=old)


def _numpy_embedding(wave: F32) -> F32:
    wave = np.pad(wave, (0, max(0, 12_512 - len(wave)))) * np.float32(32_768)
    frames = np.stack([MEL[:, 0] @ wave[i : i + 512] for i in range(0, len(wave) - 511, 160)]) / 10 + 2
    return np.stack([frames[i : i + 76].ravel() @ PLACES for i in range(0, len(frames) - 75, 8)])


@pytest.mark.parametrize(("samples", "windows"), [(0, 1), (300, 1), (12_512, 1), (13_791, 1), (13_792, 2), (24_001, 9)])
def test_the_joined_graph_windows_as_numpy_does(samples: int, windows: int) -> None:
    session = onnxruntime.InferenceSession(network_bytes(speech_embedding(*_networks())))
    wave = np.random.default_rng(2).uniform(-1, 1, samples).astype(np.float32)
    (found,) = session.run(["embedding"], {"wave": wave})
    assert found.shape == (windows, 96)
    np.testing.assert_allclose(found, _numpy_embedding(wave), rtol=1e-3, atol=1e-3)


def test_the_same_networks_give_the_same_bytes() -> None:
    raw = network_bytes(speech_embedding(*_networks()))
    assert hashlib.sha256(raw).hexdigest() == "33218fd805a2f40928a0dbaa96aa90838b26650806e225c67f94aaef05712c4b"


@pytest.mark.skipif(
    not is_complete(SPEECH_EMBEDDING, pretrained_folder()), reason="not made; run: python -m build_tools"
)
def test_loudness_changes_the_embedding_of_a_tone_less_than_pitch_does() -> None:
    encoder = load_encoder("speech_embedding")
    time = np.arange(16_000) / 16_000

    def tone(pitch: float, gain: float) -> F32:
        harmonics = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 6))
        return encoder.run({"wave": (gain * harmonics / 2).astype(np.float32)})["embedding"].mean(0)

    low, quiet, high = tone(150, 0.8), tone(150, 0.4), tone(400, 0.8)
    assert low.shape == (96,)
    assert np.linalg.norm(low - quiet) < 0.7 * np.linalg.norm(low - high)
