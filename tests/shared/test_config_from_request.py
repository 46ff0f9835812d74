"""What an A3CP training request asks for becomes the trainer's own configuration, or is refused with what there is."""

from typing import Any

import pytest

from gesture_trainer.train import GestureConfig
from shared.config import TrainerConfig, config_from_request
from shared.errors import ConfigError
from shared.learning.classifiers import MLP, SVM, NearestNeighbors
from sound_trainer.train import SoundConfig


def test_a_request_becomes_one_candidate_and_all_else_stays() -> None:
    config = SoundConfig(seed=7)
    asked = {"model_type": "SVC", "hyperparameters": {"C": 3, "kernel": "linear"}, "feature_set": "spectral"}
    found = config_from_request(asked, config)
    (candidate,) = found.candidates
    assert candidate.features == ("spectral",)  # type: ignore[union-attr]
    assert candidate.classifier == SVM(C=3.0, kernel="linear")  # type: ignore[union-attr]
    assert found.seed == 7


def test_several_feature_sets_and_an_architecture() -> None:
    asked = {"model_type": "mlp", "architecture": [32, 16], "feature_set": ["hand_shape", "motion_statistics"]}
    (candidate,) = config_from_request(asked, GestureConfig()).candidates
    assert candidate.features == ("hand_shape", "motion_statistics")  # type: ignore[union-attr]
    assert candidate.classifier == MLP(hidden_layer_sizes=(32, 16))  # type: ignore[union-attr]


def test_without_a_feature_set_each_that_suits_is_tried() -> None:
    (candidate,) = config_from_request({"model_type": "k-nearest neighbors"}, GestureConfig()).candidates
    assert candidate.features is None  # type: ignore[union-attr]
    assert candidate.classifier == NearestNeighbors()  # type: ignore[union-attr]


def test_a_trainer_that_compares_fixed_candidates_takes_no_request_for_one() -> None:
    with pytest.raises(ConfigError, match=r"training_config: model_type: this trainer's candidates cannot be chosen"):
        config_from_request({"model_type": "svm"}, TrainerConfig())
    assert config_from_request({}, TrainerConfig()) == TrainerConfig()


@pytest.mark.parametrize("empty", [{}, {"model_type": None, "hyperparameters": {}, "feature_set": ""}])
def test_a_request_that_asks_for_nothing_changes_nothing(empty: dict[str, Any]) -> None:
    config = GestureConfig(seed=3)
    assert config_from_request(empty, config) is config


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"model_type": "transformer"}, "nearest_neighbors"),
        ({"model_type": "svm", "hyperparameters": {"c": 1}}, "training_config"),
        ({"model_type": "svm", "hyperparameters": {"C": -1}}, "training_config"),
        ({"model_type": "svm", "feature_set": "mfcc"}, "speech_embedding"),
        ({"model_type": "svm", "architecture": [3]}, "architecture"),
        ({"model_type": "mlp", "architecture": "resnet50"}, "training_config"),
        ({"feature_set": "spectral"}, "model_type"),
        ({"model_type": "svm", "epochs": 3}, "epochs"),
        ({"model_type": 3}, "model_type"),
        ({"model_type": "svm", "hyperparameters": [1]}, "hyperparameters"),
    ],
)
def test_what_there_is_not_is_refused_with_what_there_is(asked: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        config_from_request(asked, SoundConfig())
