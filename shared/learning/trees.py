"""Extremely randomised trees as arrays, so that one function walks them in NumPy and in the graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.features.arrays import Array, const, namespace
from shared.learning.heads import ABSENT, Classes, Features, Fitter, Head

_SURE = 1e-3  # the least probability of a class, so that logits stay finite


@dataclass(frozen=True)
class Trees:
    """Log of the mean of the leaves' class shares over all trees, whose nodes (N,) stand one after another.

    At a leaf both children are the leaf itself, so every walk may take as many steps as the deepest tree has.
    """

    roots: NDArray[np.int64]  # (trees,)
    feature: NDArray[np.int32]
    threshold: Features
    children: NDArray[np.int32]  # (N, 2): where the feature is at most the threshold, and where it is above
    shares: NDArray[np.float16]  # (N, K), zero but at leaves
    depth: int
    present: NDArray[np.bool_]  # (K,)

    def __call__(self, features: Array) -> Array:
        xp = namespace(features)
        rows, width, trees = features.shape[0], features.shape[1], len(self.roots)
        flat = xp.reshape(features, (-1,))
        first = const(np.repeat(np.arange(rows) * width, trees), features, np.int64)
        node = const(np.tile(self.roots, rows), features, np.int64)
        asked, limit = const(self.feature, features, np.int32), const(self.threshold, features)
        child = const(self.children.reshape(-1), features, np.int32)
        for _ in range(self.depth):
            value = xp.take(flat, first + xp.astype(xp.take(asked, node, axis=0), xp.int64), axis=0)
            above = xp.astype(value > xp.take(limit, node, axis=0), xp.int64)
            node = xp.astype(xp.take(child, node * 2 + above, axis=0), xp.int64)
        leaves = xp.take(const(self.shares, features, np.float16), node, axis=0)
        mean = xp.mean(xp.reshape(xp.astype(leaves, xp.float32), (rows, trees, -1)), axis=1)
        absent = const(np.where(self.present, 0.0, ABSENT), features)
        return xp.log(mean * (1 - _SURE * len(self.present)) + _SURE) + absent


def fit_trees(trees: int = 50, leaves: int = 128, seed: int = 0) -> Fitter:
    """Extremely randomised trees (Geurts, Ernst and Wehenkel 2006), classes weighted equally."""

    def fit(features: Features, classes: Classes, count: int) -> Head:
        from sklearn.ensemble import ExtraTreesClassifier  # takes a second to import, and not every recipe needs it

        model = ExtraTreesClassifier(trees, max_leaf_nodes=leaves, class_weight="balanced", random_state=seed)
        grown = [estimator.tree_ for estimator in model.fit(features, classes).estimators_]
        starts = np.cumsum([0, *(tree.node_count for tree in grown)])
        own = np.arange(starts[-1])
        start = np.repeat(starts[:-1], np.diff(starts))
        sides = [np.concatenate([getattr(tree, f"children_{side}") for tree in grown]) for side in ("left", "right")]
        leaf = sides[0] < 0
        children = np.stack([np.where(leaf, own, side + start) for side in sides], axis=1)
        limits = np.concatenate([tree.threshold for tree in grown])
        single = limits.astype(np.float32)
        # The largest float32 that is not above: for float32 features the comparison comes out the same.
        single = np.where(single > limits, np.nextafter(single, np.float32(-np.inf)), single)
        values = np.concatenate([tree.value[:, 0, :] for tree in grown]) * leaf[:, None]
        shares = np.zeros((len(own), count), np.float16)
        shares[:, np.unique(classes)] = values / np.maximum(values.sum(axis=1, keepdims=True), 1e-12)
        return Trees(
            roots=starts[:-1].astype(np.int64),
            feature=np.maximum(np.concatenate([tree.feature for tree in grown]), 0).astype(np.int32),
            threshold=single.astype(np.float32),
            children=children.astype(np.int32),
            shares=shares,
            depth=max(tree.max_depth for tree in grown),
            present=np.isin(np.arange(count), classes),
        )

    return fit
