"""MediaPipe's hand and pose landmarkers as `.task` files, from the last package that carries their models.

A `.task` file is an uncompressed zip of TFLite models. MediaPipe 0.10.21 kept the pose models' input range in
its own graphs; the Tasks API reads it from the models' metadata, so it is written there. No face landmarker
can be made this way: of the package's face models one fails in the Tasks API, the other gives wrong points.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import flatbuffers
import numpy as np

from build_tools.make import Build

_METADATA = "TFLITE_METADATA"
_HEADER, _EXTRA_HEADER, _ALIGNED = 30, 4, 16  # bytes: a zip member's header, an extra field's, models' places
_PADDING = 0xD935  # the extra field that Android's zipalign uses
Range = tuple[float, float]  # mean and deviation of an input: it expects (value - mean) / deviation

_HAND: Mapping[str, tuple[str, Range | None]] = {
    "hand_detector.tflite": ("palm_detection/palm_detection_full.tflite", None),
    "hand_landmarks_detector.tflite": ("hand_landmark/hand_landmark_full.tflite", None),
}
_POSE: Mapping[str, tuple[str, Range | None]] = {
    "pose_detector.tflite": ("pose_detection/pose_detection.tflite", (127.5, 127.5)),  # -1 to 1
    "pose_landmarks_detector.tflite": ("pose_landmark/pose_landmark_full.tflite", (0.0, 255.0)),  # 0 to 1
}


def task_bytes(models: Mapping[str, bytes]) -> bytes:
    """Return a `.task` file of the models, name -> TFLite: the same bytes for the same models.

    Each model starts at a multiple of 16 bytes, as in MediaPipe's own files, so that TFLite need not copy it.
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as task:
        for name, content in models.items():
            entry = zipfile.ZipInfo(name)  # dated 1980, not now
            entry.create_system = 3
            gap = -(packed.tell() + _HEADER + len(name) + _EXTRA_HEADER) % _ALIGNED
            entry.extra = struct.pack("<HH", _PADDING, gap) + bytes(gap)
            task.writestr(entry, content)
    return packed.getvalue()


def with_input_range(model: bytes, mean: float, deviation: float) -> bytes:
    """Return the TFLite model with metadata that says: an RGB image goes in as (value - mean) / deviation."""
    from mediapipe.tasks.metadata import metadata_schema_py_generated as metadata  # slow to import, needed here only
    from mediapipe.tasks.metadata import schema_py_generated as tflite

    network: Any = tflite.ModelT.InitFromObj(tflite.Model.GetRootAsModel(model, 0))

    normalisation = metadata.NormalizationOptionsT()
    normalisation.mean, normalisation.std = [mean], [deviation]
    step = metadata.ProcessUnitT()
    step.optionsType, step.options = metadata.ProcessUnitOptions.NormalizationOptions, normalisation
    image = metadata.ImagePropertiesT()
    image.colorSpace = metadata.ColorSpaceType.RGB
    content = metadata.ContentT()
    content.contentPropertiesType, content.contentProperties = metadata.ContentProperties.ImageProperties, image
    entry = metadata.TensorMetadataT()
    entry.name, entry.content, entry.processUnits = "image", content, [step]
    exits = []
    for number in range(len(network.subgraphs[0].outputs)):
        tensor = metadata.TensorMetadataT()
        tensor.name = f"output{number}"
        exits.append(tensor)
    graph = metadata.SubGraphMetadataT()
    graph.inputTensorMetadata, graph.outputTensorMetadata = [entry], exits
    description = metadata.ModelMetadataT()
    description.subgraphMetadata = [graph]

    others = [m for m in network.metadata or [] if m.name not in (_METADATA, _METADATA.encode())]
    buffer: Any = tflite.BufferT()
    buffer.data = np.frombuffer(_flat(description, b"M001"), np.uint8)
    network.buffers.append(buffer)
    pointer = tflite.MetadataT()
    pointer.name, pointer.buffer = _METADATA, len(network.buffers) - 1
    network.metadata = [*others, pointer]
    return _flat(network, b"TFL3")


def _flat(table: Any, identifier: bytes) -> bytes:
    builder = flatbuffers.Builder(0)
    builder.Finish(table.Pack(builder), identifier)
    return bytes(builder.Output())


def _builder(file_name: str, members: Mapping[str, tuple[str, Range | None]]) -> Build:
    def build(wheel: zipfile.ZipFile) -> dict[str, bytes]:
        models = {}
        for name, (source, given) in members.items():
            model = wheel.read(f"mediapipe/modules/{source}")
            models[name] = model if given is None else with_input_range(model, *given)
        return {file_name: task_bytes(models)}

    return build


BUILDERS = {
    "hand_landmarker": _builder("hand_landmarker.task", _HAND),
    "pose_landmarker": _builder("pose_landmarker.task", _POSE),
}
