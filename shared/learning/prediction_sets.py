"""Prediction sets: the labels that cannot be excluded at 90 %, by conformal prediction across sessions.

A label is in the set where its probability reaches a threshold that nine in ten true labels of held-out samples reach
(Sadinle, Lei and Wasserman 2019, "Least ambiguous set-valued classifiers"), every session weighing the same (after
Dunn, Wasserman and Ramdas 2022, "Distribution-free prediction sets for two-layer hierarchical models"). The most
probable label is always in it, so that somebody can be asked.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shared.learning.folds import Indices
from shared.learning.heads import Classes, Features

LEVEL = 0.9


def fit_set_threshold(probabilities: Features, classes: Classes, groups: Indices) -> float:
    """Return the threshold for held-out probabilities (n, K) of samples of `classes` (n,) in sessions `groups` (n,).

    The sample to come counts as one that no threshold but 0 covers. Samples of labels that one session only has are
    left out, where others have more: the model that they were held out from did not know their label.
    """
    kept = _in_several(classes, groups)
    if kept.any():
        probabilities, classes, groups = probabilities[kept], classes[kept], groups[kept]
    true = probabilities[np.arange(len(classes)), classes].astype(np.float64)
    _, session, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    weight = 1.0 / sizes[session]
    order = np.argsort(true)
    missed = np.cumsum(weight[order]) - weight[order] + 1.0 / np.max(sizes)  # by a threshold just above each
    allowed = np.flatnonzero(missed <= (1 - LEVEL) * weight.sum())
    return float(true[order][allowed[-1]]) if len(allowed) else 0.0


def _in_several(classes: Classes, groups: Indices) -> NDArray[np.bool_]:
    """Return (n,) whether each sample's label occurs in several sessions."""
    names, member = np.unique(groups, return_inverse=True)
    occurs = np.zeros((int(classes.max()) + 1, len(names)), np.bool_)
    occurs[classes, member] = True
    return np.asarray(occurs.sum(axis=1)[classes] > 1)


def prediction_sets(probabilities: Features, threshold: float) -> NDArray[np.bool_]:
    """Probabilities (n, K) -> (n, K) whether each label is in the set."""
    return np.asarray((probabilities >= threshold) | (probabilities == probabilities.max(axis=1, keepdims=True)))


def held_out_sets(probabilities: Features, classes: Classes, groups: Indices) -> NDArray[np.bool_]:
    """Return the sets (n, K) of held-out samples, each by the threshold of the other sessions.

    With one session every second sample stands for another session.
    """
    member = np.unique(groups, return_inverse=True)[1]
    if not member.any():
        member = np.arange(len(classes)) % 2
    sets = np.zeros(probabilities.shape, np.bool_)
    for session in np.unique(member):
        others = member != session
        threshold = fit_set_threshold(probabilities[others], classes[others], member[others])
        sets[~others] = prediction_sets(probabilities[~others], threshold)
    return sets
