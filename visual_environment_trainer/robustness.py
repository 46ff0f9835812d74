"""Blurred copies in training: kept where they help with blurred images of sessions that were not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from shared.config import TrainerConfig
from shared.evaluation import Candidate, PrecomputedFeatures
from shared.learning.folds import session_folds
from shared.learning.heads import Classes


def with_helpful_copies(
    candidates: Sequence[Candidate], classes: Classes, sessions: Sequence[str], config: TrainerConfig
) -> tuple[list[Candidate], str]:
    """Return the candidates whose copies help, each followed by itself without copies, and what to tell of it.

    So copies stay out where they do not help, and validation drops them where they cost more than one standard error
    of the accuracy on images as they are.
    """
    kept: list[Candidate] = []
    told = []
    for candidate in candidates:
        plain = _without_copies(candidate)
        before, after = (_on_copies(c, candidate, classes, sessions, config) for c in (plain, candidate))
        helps = after > before
        told.append(f"{candidate.name} {before:.0%} to {after:.0%}")
        kept += [replace(candidate, name=f"{candidate.name}_blurred"), plain] if helps else [plain]
    copied = [c.name for c in kept if c.name.endswith("_blurred")]
    verdict = f"tried in {' and '.join(copied)}" if copied else "left out"
    return kept, f"blurred copies in training, right on blurred images of other sessions: {', '.join(told)}; {verdict}"


def _without_copies(candidate: Candidate) -> Candidate:
    source = candidate.source
    assert isinstance(source, PrecomputedFeatures)
    rows = replace(source.computed, copies=source.computed.copies[:0], owner=source.computed.owner[:0])
    return replace(candidate, source=PrecomputedFeatures(source.traced, rows))


def _on_copies(
    candidate: Candidate, copied: Candidate, classes: Classes, sessions: Sequence[str], config: TrainerConfig
) -> float:
    """Return how much of the copies of held-out samples is recognised, by session."""
    folds = session_folds(classes, sessions, range(len(classes)), config.evaluation.folds, config.seed)
    count = int(classes.max()) + 1
    hits, total = 0, 0
    everything = np.arange(len(classes))
    tested = copied.source.rows(everything)
    for fold in folds.outer:
        train = folds.outside(fold)
        head = candidate.fit(*candidate.source.rows(train).training(train, classes), count)
        own = np.flatnonzero(np.isin(tested.owner, folds.inside(fold)))
        hits += int((np.asarray(head(tested.copies[own])).argmax(axis=1) == classes[tested.owner[own]]).sum())
        total += len(own)
    return hits / max(total, 1)
