"""Blurred copies in training: kept where they help with blurred images of sessions that were not seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shared.config import TrainerConfig
from shared.learning.candidates import Candidate, PrecomputedFeatures
from shared.learning.folds import session_folds
from shared.learning.heads import Classes


def keep_helpful_copies(
    candidates: Sequence[Candidate], classes: Classes, sessions: Sequence[str], config: TrainerConfig
) -> tuple[list[Candidate], str]:
    """Return the candidates without copies, each preceded by itself with copies if these help, and a note on it.

    So copies stay out where they do not help, and validation drops them where they cost more than one standard error
    of the accuracy on images as they are.
    """
    kept: list[Candidate] = []
    tried, findings = [], []
    for plain in (candidate for candidate in candidates if not _has_copies(candidate)):
        for copied in candidates:
            if _has_copies(copied) and (copied.features, copied.classifier) == (plain.features, plain.classifier):
                before, after = (_on_copies(c, copied, classes, sessions, config) for c in (plain, copied))
                findings.append(f"{plain.name} {before:.0%} to {after:.0%}")
                if after > before:
                    kept.append(copied)
                    tried.append(plain.name)
        kept.append(plain)
    verdict = f"tried in {' and '.join(tried)}" if tried else "left out"
    return kept, f"accuracy on blurred images of other sessions with blurred copies: {', '.join(findings)}; {verdict}"


def _has_copies(candidate: Candidate) -> bool:
    return isinstance(candidate.source, PrecomputedFeatures) and len(candidate.source.computed.copies) > 0


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
