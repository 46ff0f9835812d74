"""Stands in for the landmarkers: what a clip does is its first line."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gesture_trainer.preprocessing.sandbox import UnusableItemError
from shared.errors import ConfigError


def answer(request: Mapping[str, Any]) -> np.ndarray:
    """Return what the clip at `path` says: landmarks that move with its seed, none, or no answer at all."""
    word, _, number = Path(request["path"]).read_text().partition(" ")
    match word:
        case "hang":
            time.sleep(600)
        case "crash":
            os.abort()
        case "refuse":
            raise UnusableItemError("is refused")
        case "break":
            raise RuntimeError("a library failed")
        case "misconfigured":
            raise ConfigError("nothing can be loaded")
        case "empty":
            return np.zeros((5, 214))
    Path(request["path"]).with_suffix(".looked").open("a").write("x")
    direction, seed = number.split()
    rng = np.random.default_rng(int(seed))
    points = np.tile(np.linspace(0.2, 0.8, 214, dtype=np.float32), (20, 1)) + 0.005 * rng.normal(size=(20, 214))
    points[:, 30:33:2] += float(direction) * np.linspace(0, 0.3, 20)[:, None]  # a wrist goes left or right
    points[0] = 0
    return points
