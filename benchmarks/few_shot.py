"""Few-shot training as the recipes do it: candidates are selected and calibrated on the few samples alone."""

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
from shared.features.arrays import Inputs
from shared.features.cache import FeatureCache
from shared.job import Job
from shared.learning.candidates import Candidate, PrecomputedFeatures, Rows, fit_candidate
from shared.logs import RunLog
from shared.report.intervals import wilson

Numbers = NDArray[np.int64]
Row = tuple[str, float, float, float, float | None]  # name, figure, lower and upper limit of its interval, target
DRAWS = 10


@dataclass(frozen=True)
class Predictions:
    """A model's output for n samples of K labels: classes (n,), probabilities (n, K), accepted (n,) and score (n,)."""

    classes: Numbers
    probabilities: NDArray[np.float32]
    accepted: NDArray[np.bool_]
    score: NDArray[np.float32]


def quiet_job(user: str, root: Path) -> Job:
    """Return a job that uses the feature cache and logs nothing."""
    return Job((user,), root, root, "accuracy", cache=FeatureCache(), log=RunLog(io.StringIO()))


def load_all(root: Path, user: str, modality: str) -> Dataset:
    """Return all of a user's samples of a modality in a data root."""
    return load_dataset(root, (user,), modality, DataFilter())


def fit_and_predict(
    candidates: Sequence[Candidate], classes: Numbers, sessions: Sequence[str], train: Numbers, test: Numbers
) -> Predictions:
    """Select, calibrate and fit on the samples `train`; return the predictions for `test`, indexed by all labels."""
    return predict_after_fit(candidates, classes, sessions, train, test)[0]


def predict_after_fit(
    candidates: Sequence[Candidate],
    classes: Numbers,
    sessions: Sequence[str],
    train: Numbers,
    test: Numbers,
    probes: Sequence[Inputs] = (),
) -> tuple[Predictions, NDArray[np.bool_]]:
    """Return what `fit_and_predict` does, and which of the `probes` the model accepts."""
    present, own = np.unique(classes[train], return_inverse=True)
    few = [replace(c, source=_restricted(c, train)) for c in candidates]
    config = EvaluationConfig(random_split=False, learning_curve=False)
    validation = validate_by_session(few, own, np.asarray(sessions)[train].tolist(), train.tolist(), config, 0)
    fitted = fit_candidate(validation.winner, own, np.arange(len(train)), len(present))
    source = next(c for c in candidates if c.name == validation.winner.name).source
    label, probabilities, accepted, score = validation.rule(*fitted(source.rows(train).base[test]))
    rows = list(source.graph(train).run(list(probes)))
    hits = validation.rule(*fitted(np.stack(rows)))[2] if rows else np.zeros(0, np.bool_)
    predictions = Predictions(present[label], np.asarray(probabilities), np.asarray(accepted), np.asarray(score))
    return predictions, np.asarray(hits)


def draw_per_class(classes: Numbers, pool: Numbers, count: int, seed: int) -> Numbers:
    """Return the indices of `count` samples of every class, drawn from the indices `pool`."""
    rng = np.random.default_rng(seed)
    return np.concatenate(
        [rng.choice(pool[classes[pool] == k], count, replace=False) for k in np.unique(classes[pool])]
    )


def wilson_row(name: str, figure: float, samples: int, target: float | None) -> Row:
    """Return a row of the table, with Wilson's interval over `samples`."""
    low, high = wilson(figure * samples, samples)
    return name, figure, low, high, target


def _restricted(candidate: Candidate, train: Numbers) -> PrecomputedFeatures:
    """Return the candidate's features of the samples `train` alone, with their copies."""
    source: Any = candidate.source
    rows: Rows = source.computed
    owned = np.flatnonzero(np.isin(rows.owner, train))
    order = np.argsort(train)
    owner = order[np.searchsorted(train[order], rows.owner[owned])]
    return PrecomputedFeatures(source.traced, Rows(rows.base[train], rows.copies[owned], owner, rows.background))
