"""Learning from few samples as training does it: candidates chosen and calibrated on those samples alone."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.data_loader import DataFilter, Dataset, load_dataset
from shared.evaluation import EvaluationConfig, validate_by_session
from shared.features.cache import FeatureCache
from shared.job import Job
from shared.learning.candidates import Candidate, PrecomputedFeatures, Rows, fit_candidate
from shared.logs import RunLog
from shared.report.intervals import wilson

Numbers = NDArray[np.int64]
Row = tuple[str, float, float, float, float | None]  # name, figure, its interval, and the bar
DRAWS = 10


@dataclass(frozen=True)
class Answers:
    """What a model says of some samples: classes (n,), probabilities (n, K), accepted (n,) and score (n,)."""

    classes: Numbers
    probabilities: NDArray[np.float32]
    accepted: NDArray[np.bool_]
    score: NDArray[np.float32]


def quiet_job(user: str, root: Path) -> Job:
    """Return a job that keeps features in the user's cache and logs nothing."""
    return Job((user,), root, root, "accuracy", cache=FeatureCache(), log=RunLog(io.StringIO()))


def load_all(root: Path, user: str, modality: str) -> Dataset:
    """Return everything that a data root holds of a user's modality."""
    return load_dataset(root, (user,), modality, DataFilter())


def learn(
    candidates: Sequence[Candidate], classes: Numbers, sessions: Sequence[str], train: Numbers, test: Numbers
) -> Answers:
    """Choose, calibrate and fit on the samples `train`; return the answers to `test`, in all labels' numbers."""
    present, own = np.unique(classes[train], return_inverse=True)
    few = [replace(c, source=_only(c, train)) for c in candidates]
    config = EvaluationConfig(random_split=False, unknown=False)
    found = validate_by_session(few, own, [sessions[k] for k in train], train.tolist(), config, 0)
    fitted = fit_candidate(found.winner, own, np.arange(len(train)), len(present))
    whole = next(c for c in candidates if c.name == found.winner.name).source.rows(train).base
    label, chances, accepted, score = found.rule(*fitted(whole[test]))
    return Answers(present[label], np.asarray(chances), np.asarray(accepted), np.asarray(score))


def drawn(classes: Numbers, pool: Numbers, each: int, seed: int) -> Numbers:
    """Return `each` samples of every class, drawn from `pool`."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.choice(pool[classes[pool] == k], each, replace=False) for k in np.unique(classes[pool])])


def row(name: str, figure: float, samples: int, bar: float | None) -> Row:
    """Return a row of the table, with Wilson's interval over `samples`."""
    low, high = wilson(figure * samples, samples)
    return name, figure, low, high, bar


def _only(candidate: Candidate, train: Numbers) -> PrecomputedFeatures:
    source: Any = candidate.source
    rows: Rows = source.computed
    owned = np.flatnonzero(np.isin(rows.owner, train))
    order = np.argsort(train)
    owner = order[np.searchsorted(train[order], rows.owner[owned])]
    return PrecomputedFeatures(source.traced, Rows(rows.base[train], rows.copies[owned], owner))
