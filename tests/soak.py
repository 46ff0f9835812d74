"""Whether the long variants of some tests are wanted, `make soak`, and what such tests count for its last line."""

from __future__ import annotations

import os
from collections.abc import Callable

SOAK = bool(os.environ.get("MODEL_TRAINER_SOAK"))
Tally = Callable[[str, int], None]  # what was tried, and how often
TALLY = "tally "  # before the names of the properties of a test that hold its counts
