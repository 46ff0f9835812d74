"""The synthetic samples on which growth is measured."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest

from benchmarks.growth import GROWTH, START, Size, synthetic


@pytest.mark.parametrize("size", [Size(), Size(samples=60, labels=3, width=4, length=7, sessions=2)])
def test_samples_have_the_size_asked_for_and_a_signal(size: Size) -> None:
    samples, labels, sessions = synthetic(size)
    assert len(samples) == len(labels) == len(sessions) == size.samples
    assert {frames.shape for frames in samples} == {(size.width,) if size.length == 1 else (size.length, size.width)}
    assert {frames.dtype for frames in samples} == {np.dtype(np.float32)}
    counts = Counter(zip(labels, sessions, strict=True))
    assert len(counts) == size.labels * size.sessions and max(counts.values()) - min(counts.values()) <= 1
    first = np.stack([frames.ravel() for frames, label in zip(samples, labels, strict=True) if label == "label0"])
    other = np.stack([frames.ravel() for frames, label in zip(samples, labels, strict=True) if label == "label1"])
    assert np.linalg.norm(first.mean(axis=0) - other.mean(axis=0)) > 1


@pytest.mark.parametrize("name", GROWTH)
def test_every_label_has_two_sessions_at_every_size(name: str) -> None:
    for value in GROWTH[name][:-1]:
        _, labels, sessions = synthetic(Size(**{**vars(START.get(name, Size())), name: value, "width": 2, "length": 1}))
        of_label = defaultdict(set)
        for label, session in zip(labels, sessions, strict=True):
            of_label[label].add(session)
        assert min(map(len, of_label.values())) >= 2, (name, value)
