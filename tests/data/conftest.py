"""What the tests of data in share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_DEFAULT = Path(__file__).resolve().parents[2].parent / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets, or a skip with the reason."""
    folder = Path(os.environ.get("MODEL_TRAINER_DATA", _DEFAULT))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; name their folder in MODEL_TRAINER_DATA")
    return folder
