"""Every classifier in every trainer: trained, calibrated, rejecting, exported, replayed, and the same again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest

from model_registry.names import Modality
from shared.features.graph import nodes
from shared.features.pretrained import pretrained_folder
from shared.learning.classifiers import Classifier
from shared.trainers import find_trainer, modality_names
from tests.paths import ROOT
from tests.trainer_runs import copy_some, runs_of

FEATURES: Mapping[Modality, str] = {
    "gesture": "body_motion",
    "sound": "cepstra",
    "speech": "minilm",
    "visual_environment": "embedding",
}
ENCODERS = {"minilm": "minilm", "embedding": "lite2_int8"}
SMALLER: Mapping[str, dict[str, Any]] = {  # of what takes long by default, less
    "random_forest": {"n_estimators": 30},
    "extra_trees": {"n_estimators": 30},
    "gradient_boosting": {"n_estimators": 10, "max_features": "sqrt"},
    "mlp": {"hidden_layer_sizes": [16], "solver": "lbfgs"},
}
TYPES = tuple(member.model_fields["type"].default for member in get_args(get_args(Classifier)[0]))
EACH = 5  # samples of each label in each of three sessions
QUICK = tuple(f"--set=evaluation.{key}=false" for key in ("random_split", "learning_curve", "unknown"))


@pytest.fixture(scope="module")
def roots(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Modality, Path]:
    folder = tmp_path_factory.mktemp("some")
    return {modality: copy_some(demo_data, modality, folder / modality, EACH) for modality in modality_names()}


def test_the_types_are_all_there_are() -> None:
    assert len(TYPES) == 11 and set(SMALLER) < set(TYPES)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("modality", modality_names())
@pytest.mark.slow
def test_a_classifier_is_trained_calibrated_exported_and_replayed(
    modality: Modality,
    kind: str,
    roots: Mapping[Modality, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    features = FEATURES[modality]
    if features in ENCODERS and not (pretrained_folder() / ENCODERS[features] / "encoder.json").is_file():
        pytest.skip(f"{ENCODERS[features]} is not made; run: python -m build_tools")
    candidate = {"features": features, "classifier": {"type": kind} | SMALLER.get(kind, {})}
    train = runs_of(find_trainer(modality), tmp_path / "out", capsys)
    runs = [train(roots[modality], *QUICK, "--set", f"candidates={json.dumps([candidate])}") for _ in range(2)]
    assert [run.code for run in runs] == [0, 0], runs[0].complaints[-2000:]
    entry = runs[0].entry

    assert list(entry["metrics"]["candidates"]) == [entry["metrics"]["chosen"]]
    assert entry["metrics"]["chosen"].startswith(f"{features}: {kind}")
    assert entry["training_metrics"]["accuracy"] > entry["training_metrics"]["majority_baseline"] + 0.15
    assert 0 < entry["metrics"]["temperature"] < np.inf and np.isfinite(entry["metrics"]["rejection_threshold"])
    assert 0 <= entry["training_metrics"]["false_rejection_rate"] < 0.5
    assert entry["training_metrics"]["ece"] < 0.5

    replay = entry["replay"]
    assert replay["whole"] + replay["head_graph"] == entry["sample_count"] == 3 * EACH * len(entry["labels"])
    assert replay["largest_difference"] <= 1e-4
    model = onnx.load_from_string(runs[0].model)
    assert {node.domain for node in nodes(model.graph)} <= {"", "ai.onnx.ml"}
    assert {opset.domain for opset in model.opset_import} <= {"", "ai.onnx.ml"}
    assert len(runs[0].model) < 4_000_000
    assert runs[0].model == runs[1].model, "the same data, configuration and seed"


@pytest.mark.slow
def test_what_scikit_learn_warns_of_is_not_among_a_trainers_log_lines(
    roots: Mapping[Modality, Path], tmp_path: Path
) -> None:
    """Searches that do not end, a feature that does not vary, attributes that will go: the figures say what matters."""
    kinds: list[dict[str, Any]] = [
        {"type": "svm"},
        {"type": "nearest_centroid"},
        {"type": "mlp", "hidden_layer_sizes": [4], "max_iter": 2},
        {"type": "logistic_regression", "max_iter": 1},
    ]
    for kind in kinds:  # a process each, as a warning is shown once in a process
        candidates = json.dumps([{"features": "body_motion", "classifier": kind}])
        words = ["--user", "ana", "--data", str(roots["gesture"]), "--out", str(tmp_path / "out"), "--demo-data"]
        command = [sys.executable, "-m", "gesture_trainer.train", *words, *QUICK, "--set", f"candidates={candidates}"]
        command += ["--set", "gate.beat_majority=false"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert [line for line in done.stderr.splitlines() if not line.startswith("{")] == [], kind
