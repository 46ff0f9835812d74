"""A model says itself what an integrator needs: its inputs and outputs, how inputs are made, and its thresholds."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from model_registry.names import Modality
from model_registry.store import Registry
from sound_trainer.preprocessing.spectral import RATE
from tests.published_models import PublishedModels
from tests.trainer_runs import PACKAGES, USER

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("published_models")]
DTYPES = {"float": "float32", "int32": "int32", "int64": "int64", "uint8": "uint8", "bool": "bool"}


@pytest.fixture(params=PACKAGES)
def modality(request: pytest.FixtureRequest) -> Modality:
    return str(request.param)


def described(path: Path) -> tuple[dict[str, Any], list[str], onnxruntime.InferenceSession]:
    """Return a model's `spec` and `labels`, and a session on it."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    return json.loads(metadata["spec"]), json.loads(metadata["labels"]), session


def tensors(values: list[Any]) -> dict[str, tuple[str, list[Any]]]:
    return {v.name: (DTYPES[v.type.removeprefix("tensor(").rstrip(")")], list(v.shape)) for v in values}


def test_a_model_and_its_portable_file_describe_the_inputs_and_outputs_that_they_have(
    published_models: PublishedModels, modality: Modality
) -> None:
    with Registry(published_models.registry).open_version(USER, modality) as version:
        for path in (version.files["model"], published_models.portable[modality]):
            spec, _, session = described(path)
            for key, values in (("inputs", session.get_inputs()), ("outputs", session.get_outputs())):
                assert {t["name"]: (t["dtype"], t["shape"]) for t in spec[key]} == tensors(values)
                assert [tensor["name"] for tensor in spec[key] if not tensor["meaning"]] == []


def test_model_and_registry_entry_agree_on_inputs_preparation_and_thresholds(
    published_models: PublishedModels, modality: Modality
) -> None:
    with Registry(published_models.registry).open_version(USER, modality) as version:
        spec, labels, _ = described(version.files["model"])
        entry = json.loads(version.entry.to_json())
        for key in ("inputs", "preparation", "set_threshold", "rejection_threshold", "expected_frame_rate"):
            assert entry[key] == spec[key], key
        assert spec["preparation"]["steps"] and entry["labels"] == labels
        assert (spec["unknown"], spec["set_level"], spec["spec_version"]) == ("unknown", 0.9, "1.1.0")
        for role, key in (("model", "artifact_hash"), ("label_map", "label_map_hash")):
            assert entry[key] == "sha256:" + hashlib.sha256(version.files[role].read_bytes()).hexdigest()
        encoder = hashlib.sha256(version.files["label_encoder"].read_bytes()).hexdigest()
        assert entry["label_encoder_hash"] == f"sha256:{encoder}"  # A3CP's encoder_ref.hash


def test_each_modality_says_what_its_numbers_are(published_models: PublishedModels) -> None:
    prepared = {modality: described(path)[0]["preparation"] for modality, path in published_models.portable.items()}
    assert (prepared["sound"]["sample_rate"], prepared["sound"]["channels"]) == (RATE, 1)
    assert (prepared["gesture"]["numbers_per_frame"], prepared["gesture"]["frames_per_second"]) == (214, 15.0)
    assert prepared["gesture"]["encoding"] == "mediapipe_tasks_video_xy_v1"
    assert (prepared["visual_environment"]["side"], prepared["visual_environment"]["colours"]) == (260, "RGB")
    assert set(prepared["speech"]["tokenizers"]) == {"minilm", "use"}
    sound = described(published_models.portable["sound"])[0]
    assert f"{RATE} Hz" in sound["inputs"][0]["meaning"]
