"""Whether the long variants of some tests are wanted: `make soak`."""

from __future__ import annotations

import os

SOAK = bool(os.environ.get("MODEL_TRAINER_SOAK"))
