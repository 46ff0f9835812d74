"""Our estimators in scikit-learn's own tools."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV, LeaveOneGroupOut, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from model_trainer import ConfigError, DataError
from model_trainer.estimators import (
    CosineCentroidClassifier,
    KernelRidgeClassifier,
    PooledShrinkageLDA,
    SequenceFeatures,
)
from tests.model_trainer.labelled import WIDTH, labelled

FOUND = labelled(6)
UNEVEN = [sequence[: 3 + k % 4] for k, sequence in enumerate(FOUND.samples)]  # 3 to 6 frames
PARAMETERS: list[tuple[BaseEstimator, dict[str, list[Any]]]] = [
    (PooledShrinkageLDA(), {"shrinkage": ["auto", 0.2]}),
    (KernelRidgeClassifier(), {"kernel": ["linear", "rbf"], "alpha": [0.1, 1.0]}),
    (CosineCentroidClassifier(), {}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("classifier", "parameters"), PARAMETERS, ids=lambda value: type(value).__name__)
def test_they_work_in_a_pipeline_a_search_and_a_validation_by_session(
    classifier: BaseEstimator, parameters: dict[str, list[Any]]
) -> None:
    pipeline = make_pipeline(SequenceFeatures(), StandardScaler(), clone(classifier))
    grid = {f"{type(classifier).__name__.lower()}__{name}": values for name, values in parameters.items()}
    grid["sequencefeatures__features"] = ["motion_statistics", "resampled", "frame_mean"]
    search = GridSearchCV(pipeline, grid, cv=LeaveOneGroupOut(), error_score="raise")
    search.fit(UNEVEN, FOUND.labels, groups=FOUND.sessions)
    assert search.best_score_ > 0.9
    assert list(search.predict(UNEVEN[:3])) == FOUND.labels[:3]
    scores = cross_val_score(
        search.best_estimator_, UNEVEN, FOUND.labels, groups=FOUND.sessions, cv=LeaveOneGroupOut(), error_score="raise"
    )
    assert len(scores) == 3 and scores.mean() > 0.9


def test_the_features_are_those_of_the_trainers() -> None:
    features = SequenceFeatures("frame_mean").fit(UNEVEN).transform(UNEVEN)
    assert features.shape == (len(UNEVEN), WIDTH) and features.dtype == np.float32
    np.testing.assert_allclose(features[1], UNEVEN[1].mean(axis=0), rtol=1e-5)
    assert SequenceFeatures().fit(UNEVEN).transform(UNEVEN[:2]).shape == (2, 8 * WIDTH + 1)


def test_sequences_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match=r"^X\[1\]: features: 5 numbers a frame, but it was fitted on 24$"):
        SequenceFeatures().fit([UNEVEN[0], UNEVEN[1][:, :5]])
    with pytest.raises(DataError, match=r"^X\[0\]: features: 5 numbers a frame, but it was fitted on 24$"):
        SequenceFeatures().fit(UNEVEN).transform([UNEVEN[1][:, :5]])
    with pytest.raises(ConfigError, match="features: 'pitch': must be one of frame_mean"):
        SequenceFeatures("pitch").fit(UNEVEN)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="coordinates: 4: must be 0, 2 or 3"):
        SequenceFeatures(coordinates=4).fit(UNEVEN)
    with pytest.raises(ConfigError, match="coordinates: 5 numbers a frame are no points of 2"):
        SequenceFeatures(coordinates=2).fit([UNEVEN[0][:, :5]])


@pytest.mark.parametrize("features", ["motion_statistics", "resampled"])
def test_points_look_the_same_from_everywhere(features: Any) -> None:
    near = SequenceFeatures(features, coordinates=2).fit(UNEVEN)
    np.testing.assert_allclose(
        near.transform(UNEVEN), near.transform([3 * sequence + 20 for sequence in UNEVEN]), rtol=2e-3, atol=2e-3
    )
