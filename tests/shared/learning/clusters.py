"""Classes that are clouds around centres of their own."""

import numpy as np

Clusters = tuple[np.ndarray, np.ndarray]  # features (n, D) float32 and classes (n,)


def clusters(seed: int, classes: int = 4, width: int = 10, per_class: int = 40) -> Clusters:
    """Return samples of the same classes; other seeds draw other samples."""
    centres = np.random.default_rng(1).normal(size=(classes, width)) * 2
    y = np.arange(classes * per_class) % classes
    x = centres[y] + np.random.default_rng(seed).normal(size=(len(y), width))
    return x.astype(np.float32), y
