"""What the comparison with others trains on: the same samples, no session on both sides."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import peer_tasks


@pytest.mark.parametrize(("informative", "least", "most"), [(True, 1.0, 1.0), (False, 0.0, 0.6)])
def test_a_peer_is_tested_on_sessions_that_it_was_not_trained_on(
    informative: bool, least: float, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Samples of a session are copies of each other, so a split across sessions would be right every time."""
    random = np.random.default_rng(0)
    sessions, labels = np.repeat(np.arange(8), 10), np.tile(np.arange(2), 40)
    copies = random.normal(size=(8, 2, 5))[sessions, labels]
    samples = labels[:, None] + 0.01 * copies if informative else copies
    monkeypatch.setattr(peer_tasks, "TREES", 10)
    accuracy = peer_tasks.signs({"samples": samples, "labels": labels, "sessions": sessions})["accuracy"]
    assert least <= accuracy <= most
