"""Which unlabelled samples are worth a label first: Cluster-Margin, from a model's probabilities alone.

Margin sampling takes the samples with the smallest difference between their two most probable labels (Scheffer,
Decomain and Wrobel 2001, "Active hidden Markov models for information extraction"). So that near-copies are not chosen
together, samples are clustered first and one of each cluster is taken in turn (Citovsky et al. 2021, "Batch active
learning at scale"). There the smallest clusters come first; here the smallest margins do, and clusters are those of
log probabilities, which every model has. docs/decisions/proposals.md says what that gains.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from shared.learning.folds import Indices
from shared.learning.heads import Features

CRITERION = "cluster-margin"
_APART = 1.0  # distance of log probabilities: clusters are at least so far apart on average
_MOST = 2000  # samples that are clustered: memory grows with the square
_LEAST = 1e-4  # probability; what is less probable is no further away


def margins(probabilities: Features) -> NDArray[np.float64]:
    """Probabilities (n, K) -> (n,) float64, the difference between the two largest of each row."""
    ordered = np.sort(np.asarray(probabilities, np.float64), axis=1)
    return np.asarray(ordered[:, -1] - ordered[:, -2])


def propose(probabilities: Features, count: int) -> Indices:
    """Return (at most count,) int64: the rows of probabilities (n, K) to label, the most helpful first."""
    from scipy.cluster.hierarchy import fcluster, linkage  # slow to import

    pool = np.argsort(margins(probabilities), kind="stable")[: max(_MOST, count)]
    if len(pool) < 2:
        return pool[:count]
    position = np.log(np.asarray(probabilities, np.float64)[pool] + _LEAST)
    clusters = fcluster(linkage(position, "average"), _APART, "distance")
    taken: Counter[int] = Counter()
    turns = []  # of each sample: how many of its cluster come before it
    for cluster in clusters.tolist():
        turns.append(taken[cluster])
        taken[cluster] += 1
    return pool[np.argsort(turns, kind="stable")[:count]]
