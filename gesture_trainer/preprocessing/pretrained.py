"""The landmarkers of the gesture trainer."""

from __future__ import annotations

from model_registry.storage.encoders import Tensor
from shared.features.pretrained import Pretrained

_PACKAGE = "mediapipe"
_IMAGE = {"image": Tensor(dtype="uint8", shape=("height", "width", 3), meaning="RGB, rows first")}

HAND_LANDMARKER = Pretrained(
    name="hand_landmarker",
    package=_PACKAGE,
    licence="Apache-2.0",
    inputs=_IMAGE,
    outputs={"landmarks": 21 * 3, "world_landmarks": 21 * 3},
    files={"hand_landmarker.task": "8e141b849a3281c6ca73bd2cba5f9a0871ec6f2e38b2fad092e8f0f1d6fbf793"},
    model="hand_landmarker.task",
)
POSE_LANDMARKER = Pretrained(
    name="pose_landmarker",
    package=_PACKAGE,
    licence="Apache-2.0",
    inputs=_IMAGE,
    outputs={"landmarks": 33 * 3, "world_landmarks": 33 * 3},
    files={"pose_landmarker.task": "85735ea27756da928e37150522b44fcc99ece0d25af64feb74e6ac3b41b299ab"},
    model="pose_landmarker.task",
)
