"""Trees answer in NumPy and in the graph as scikit-learn's do."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesClassifier

from shared.features.graph import TensorSpec, build, open_session
from shared.learning.heads import ABSENT
from shared.learning.trees import fit_trees


def _data(seed: int = 0, each: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Return points on three rings, which no line tells apart, and three numbers that say nothing."""
    rng = np.random.default_rng(seed)
    classes = np.repeat([0, 1, 3], each)
    angle, radius = rng.uniform(0, 7, 3 * each), classes + 1 + rng.normal(0, 0.1, 3 * each)
    rows = np.stack([radius * np.cos(angle), radius * np.sin(angle), *rng.normal(size=(3, 3 * each))], axis=1)
    return rows.astype(np.float32), classes


def test_trees_are_scikit_learns_to_the_last_comparison() -> None:
    (features, classes), (fresh, truth) = _data(), _data(1)
    theirs = ExtraTreesClassifier(50, max_leaf_nodes=128, class_weight="balanced", random_state=4)
    expected = theirs.fit(features, classes).predict_proba(fresh)
    logits = np.asarray(fit_trees(seed=4)(features, classes, 4)(fresh))
    chances = np.exp(logits[:, [0, 1, 3]])
    np.testing.assert_allclose(chances, expected, atol=0.005)
    assert (logits[:, 2] < ABSENT / 2).all()
    assert (logits.argmax(axis=1) == truth).mean() > 0.9


@pytest.mark.parametrize("count", [1, 7])
def test_the_graph_walks_the_same_way(count: int) -> None:
    features, classes = _data()
    head = fit_trees(trees=20, leaves=32)(features, classes, 4)
    argument = TensorSpec("features", "float32", (count, features.shape[1])).argument()
    model = build({"features": argument}, {"logits": head(argument)}, {})
    assert len(model) < 100_000
    session = open_session(model)
    for start in range(0, 140, count):
        rows = features[start : start + count]
        np.testing.assert_allclose(session.run(["logits"], {"features": rows})[0], head(rows), atol=1e-5)


@pytest.mark.parametrize("classes", [[0], [1, 1], [0, 1]])
def test_one_sample_makes_a_tree_too(classes: list[int]) -> None:
    features = np.ones((len(classes), 3), np.float32)
    assert np.isfinite(np.asarray(fit_trees(trees=5)(features, np.array(classes), 2)(features))).all()
