from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from typing import Any

import flatbuffers
import numpy as np
import pytest
from mediapipe.tasks.metadata import metadata_schema_py_generated as metadata
from mediapipe.tasks.metadata import schema_py_generated as tflite

from build_tools.gesture import task_bytes, with_input_range
from gesture_trainer.preprocessing.pretrained import HAND_LANDMARKER, POSE_LANDMARKER
from shared.errors import ConfigError
from shared.features.encoders import load_encoder, model_path
from shared.features.pretrained import is_complete, pretrained_folder

MODELS = {"first.tflite": b"\x01" * 1_001, "second_longer_name.tflite": b"\x02" * 77, "third.tflite": b""}


def test_a_task_file_holds_its_models_uncompressed_and_aligned() -> None:
    raw = task_bytes(MODELS)
    with zipfile.ZipFile(io.BytesIO(raw)) as task:
        assert {name: task.read(name) for name in task.namelist()} == MODELS
        for entry in task.infolist():
            assert entry.compress_type == zipfile.ZIP_STORED
            assert entry.date_time == (1980, 1, 1, 0, 0, 0)
    assert [raw.index(content) % 16 for content in (b"\x01" * 1_001, b"\x02" * 77)] == [0, 0]
    assert task_bytes(MODELS) == raw


def _tiny_model() -> bytes:
    """One input, two outputs, one buffer with numbers in it."""
    model, graph, buffer = tflite.ModelT(), tflite.SubGraphT(), tflite.BufferT()
    tensors = []
    for name, shape in (("in", [1, 4, 4, 3]), ("a", [1, 2]), ("b", [1])):
        tensor = tflite.TensorT()
        tensor.name, tensor.shape, tensor.buffer = name, np.asarray(shape, np.int32), 0
        tensors.append(tensor)
    graph.tensors, graph.inputs, graph.outputs = tensors, np.asarray([0], np.int32), np.asarray([1, 2], np.int32)
    graph.operators = []
    buffer.data = np.arange(9, dtype=np.uint8)
    model.version, model.subgraphs, model.buffers = 3, [graph], [buffer]
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _described(model: bytes) -> tuple[Any, list[Any]]:
    network = tflite.ModelT.InitFromObj(tflite.Model.GetRootAsModel(model, 0))
    found = []
    for entry in network.metadata:
        raw = bytes(np.asarray(network.buffers[entry.buffer].data, np.uint8))
        found.append(metadata.ModelMetadataT.InitFromObj(metadata.ModelMetadata.GetRootAsModelMetadata(raw, 0)))
    return network, found


def test_the_input_range_is_written_into_the_model_and_nothing_else_changes() -> None:
    changed = with_input_range(_tiny_model(), 127.5, 63.75)
    assert changed[4:8] == b"TFL3"
    network, (description,) = _described(changed)
    (graph,) = description.subgraphMetadata
    (entry,) = graph.inputTensorMetadata
    assert [tensor.name for tensor in graph.outputTensorMetadata] == [b"output0", b"output1"]
    (step,) = entry.processUnits
    assert (list(step.options.mean), list(step.options.std)) == ([127.5], [63.75])
    assert entry.content.contentProperties.colorSpace == metadata.ColorSpaceType.RGB
    assert [tensor.name for tensor in network.subgraphs[0].tensors] == [b"in", b"a", b"b"]
    np.testing.assert_array_equal(network.buffers[0].data, np.arange(9))
    assert with_input_range(_tiny_model(), 127.5, 63.75) == changed


def test_a_range_written_again_replaces_the_first() -> None:
    twice = with_input_range(with_input_range(_tiny_model(), 1, 2), 0, 255)
    _, (description,) = _described(twice)
    assert list(description.subgraphMetadata[0].inputTensorMetadata[0].processUnits[0].options.std) == [255]


# In a process of its own: a landmarker that fails inside MediaPipe may never come back.
LANDMARKERS = """
import json, sys
import mediapipe as mp, numpy as np
from mediapipe.tasks.python import BaseOptions, vision
image = mp.Image(image_format=mp.ImageFormat.SRGB, data=np.full((64, 48, 3), 90, np.uint8))
found = []
for kind, options, path in (
    (vision.HandLandmarker, vision.HandLandmarkerOptions, sys.argv[1]),
    (vision.PoseLandmarker, vision.PoseLandmarkerOptions, sys.argv[2]),
):
    with kind.create_from_options(options(base_options=BaseOptions(model_asset_path=path))) as landmarker:
        answer = landmarker.detect(image)
        found.append(len(getattr(answer, "hand_landmarks", None) or getattr(answer, "pose_landmarks", None) or []))
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not all(is_complete(task, pretrained_folder()) for task in (HAND_LANDMARKER, POSE_LANDMARKER)),
    reason="not made; run: python -m build_tools",
)
def test_mediapipe_opens_both_tasks_and_sees_nobody_in_an_empty_picture() -> None:
    paths = [model_path("hand_landmarker"), model_path("pose_landmarker")]
    with pytest.raises(ConfigError, match="no ONNX network"):
        load_encoder("hand_landmarker")
    done = subprocess.run([sys.executable, "-c", LANDMARKERS, *paths], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [0, 0]
    assert "unaligned" not in done.stderr
