"""Familiarity tells what a model was trained on from what is new to it."""

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from shared.learning import familiarity
from shared.learning.classifiers import LDA, NearestCentroid
from shared.learning.familiarity import (
    NearestFamiliarity,
    centroid_familiarity,
    cosine_familiarity,
    subspace_familiarity,
    whitened_familiarity,
)
from shared.learning.heads import Classes, Features, Head, fitter
from tests.shared.learning.clusters import clusters

Fit = Callable[[Head, Features, Classes], NearestFamiliarity]
FITS: tuple[Fit, ...] = (subspace_familiarity, cosine_familiarity, whitened_familiarity, centroid_familiarity)


@pytest.mark.parametrize("fit", FITS, ids=lambda fit: fit.__name__)
def test_a_new_class_is_less_familiar_than_new_samples_of_known_ones(fit: Fit) -> None:
    x, y = clusters(0)
    known = y != 3
    familiarity = fit(fitter(LDA())(x[known], y[known], 3), x[known], y[known])
    fresh, truth = clusters(5)
    assert roc_auc_score(truth != 3, familiarity(fresh)) > 0.9


def test_the_discriminant_subspace_is_whitened() -> None:
    x, y = clusters(0, per_class=400)
    familiarity = subspace_familiarity(fitter(LDA())(x, y, 4), x, y)
    assert familiarity.projection is not None
    place = (x - familiarity.centre) @ familiarity.projection
    within = np.concatenate([place[y == k] - place[y == k].mean(axis=0) for k in range(4)])
    np.testing.assert_allclose(np.cov(within.T), np.eye(3), atol=0.15)


@pytest.mark.parametrize("classes", [[0], [0, 0], [0, 1], [0, 0, 1]])
@pytest.mark.parametrize("equal", [True, False])
def test_one_sample_or_equal_ones_make_a_familiarity_too(classes: list[int], equal: bool) -> None:
    """Inner folds of few samples leave as little to fit on."""
    features = np.random.default_rng(0).normal(size=(len(classes), 7)).astype(np.float32)
    if equal:
        features[:] = features[0]
    truth = np.array(classes)
    for classifier in (LDA(), NearestCentroid(metric="cosine")):
        head = fitter(classifier)(features, truth, 3)
        assert np.isfinite(np.asarray(head(features))).all()
        for fit in (whitened_familiarity, cosine_familiarity, centroid_familiarity):
            found = np.asarray(fit(head, features, truth)(features))
            assert found.shape == (len(classes),) and np.isfinite(found).all()


@pytest.mark.parametrize("fit", FITS, ids=lambda fit: fit.__name__)
def test_many_samples_are_looked_up_a_few_at_a_time(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand samples and as many references were 1.2 GB of distances."""
    x, y = clusters(0, per_class=100)
    found = fit(fitter(LDA())(x, y, 4), x, y)
    whole, sizes = np.asarray(found(x)), []
    monkeypatch.setattr(familiarity, "_AT_ONCE", 30 * len(found.references))
    monkeypatch.setattr(familiarity, "namespace", lambda rows: sizes.append(len(rows)) or np)
    np.testing.assert_allclose(found(x), whole, rtol=1e-5, atol=1e-6)
    assert max(sizes) == 30 and len(x) > 300
