"""What a training run is estimated to take, from counts, widths and configuration alone.

No clock is read, so what is left out for `budget_seconds` is the same on every machine. Seconds are those of one
processor core. `python -m benchmarks.cost` checks the estimates against measured runs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from shared.evaluation import EvaluationConfig, validation_fits
from shared.learning import classifiers
from shared.learning.candidates import CandidateConfig, candidate_name
from shared.learning.classifiers import ClassifierConfig
from shared.trainers import Cost

Budget = Literal["auto"] | float | None
AUTO_BUDGET = 30.0  # seconds, where samples are fewer than
AUTO_BUDGET_BELOW = 1000

_FIT = 0.002  # seconds that every fit takes at least
_WHITENING = 0.2e-9  # seconds for one multiplication of a singular value decomposition
_REJECTION = 1.5e-6  # seconds to score a sample for a label in decision rule, metrics and report
_VALUES = 36  # bytes for each number of the features: as float32, and in double precision while fitting
_HELD_OUT = 1200  # bytes for each sample and label: logits of every fold, probabilities, the report's tables


@dataclass(frozen=True)
class SampleCounts:
    """What is counted of a data set; `groups` are sessions or people that no split divides."""

    samples: int
    labels: int
    groups: int
    largest_label: int  # samples of the label that has most


@dataclass(frozen=True)
class PlannedCandidate:
    """A candidate before its features are computed: `width` of a row, altered copies of a sample.

    `whitened` is whether its familiarity takes a singular value decomposition, `refitting` how many seconds a sample
    takes in each fit, where features are fitted as well.
    """

    config: CandidateConfig[Any]
    width: int
    copies: int = 0
    whitened: bool = False
    refitting: float = 0.0

    @property
    def name(self) -> str:
        """The name that the training log has for it."""
        return candidate_name(self.config)


@dataclass(frozen=True)
class CandidateCost:
    """Seconds to compare a candidate, and more seconds if it is chosen."""

    candidate: PlannedCandidate
    seconds: float
    seconds_if_chosen: float

    @property
    def total_seconds(self) -> float:
        """Seconds of a training that compares this candidate alone, on top of what every training takes."""
        return self.seconds + self.seconds_if_chosen


@dataclass(frozen=True)
class TrainingPlan:
    """The candidates that are compared, those that the budget leaves out, and what the run takes at most."""

    compared: tuple[CandidateCost, ...]
    left_out: tuple[CandidateCost, ...]
    budget_seconds: float | None
    seconds: float
    memory_bytes: int

    def left_out_names(self) -> list[dict[str, Any]]:
        """Return the names of the candidates that are left out, with the seconds that each would add."""
        return [{"name": one.candidate.name, "seconds": round(one.total_seconds, 1)} for one in self.left_out]


def plan_training(
    planned: Sequence[PlannedCandidate],
    counts: SampleCounts,
    evaluation: EvaluationConfig,
    budget: Budget,
    cost: Cost,
) -> TrainingPlan:
    """Return which candidates are compared within the budget, in their order, and the estimate of the run.

    A candidate with which the run would take longer than the budget is left out. Where that is each of them, the
    cheapest is kept.
    """
    limit = budget_seconds(budget, counts.samples)
    base = cost.start_seconds + cost.seconds_per_sample * counts.samples + _REJECTION * counts.samples * counts.labels
    costs = [candidate_cost(candidate, counts, evaluation) for candidate in planned]
    compared: list[CandidateCost] = []
    for one in costs:
        if limit is None or base + _seconds([*compared, one]) <= limit:
            compared.append(one)
    if not compared and costs:
        compared = [min(costs, key=lambda one: one.total_seconds)]
    return TrainingPlan(
        tuple(compared),
        tuple(one for one in costs if one not in compared),
        limit,
        base + _seconds(compared),
        cost.start_memory_bytes + _memory([one.candidate for one in compared], counts),
    )


def budget_seconds(budget: Budget, samples: int) -> float | None:
    """Return the seconds that a configured budget stands for; None where there is no limit."""
    if budget == "auto":
        return AUTO_BUDGET if samples < AUTO_BUDGET_BELOW else None
    return budget


def candidate_cost(candidate: PlannedCandidate, counts: SampleCounts, evaluation: EvaluationConfig) -> CandidateCost:
    """Return what comparing a candidate takes, and what it takes more if it is chosen.

    With altered copies it is compared without and with them.
    """
    fits = validation_fits(counts.groups, counts.labels, counts.largest_label, evaluation)
    trained_on = max(counts.samples * (1 - 1.5 / min(max(counts.groups, 2), evaluation.folds)), counts.samples / 2)
    sizes = [trained_on, trained_on * (1 + candidate.copies)] if candidate.copies else [trained_on]
    again = candidate.refitting * counts.samples
    heads = [again + fit_seconds(candidate.config.classifier, n, candidate.width, counts.labels) for n in sizes]
    familiarity = _FIT
    if candidate.whitened:
        familiarity += _WHITENING * trained_on * candidate.width * min(trained_on, candidate.width)
    if_chosen = fits.familiarities * familiarity + fits.left_out * (max(heads) + familiarity) + fits.heads * max(heads)
    return CandidateCost(candidate, fits.compared * sum(heads), if_chosen)


def fit_seconds(config: ClassifierConfig, samples: float, width: int, labels: int) -> float:
    """Return the seconds that one fit on features (samples, width) of so many labels takes, with its predictions."""
    return _FIT + _FIT_SECONDS[type(config)](config, samples, width, labels)


def _lda(config: Any, n: float, d: int, k: int) -> float:
    rank = min(n, d)
    return 0.07e-9 * (n * d * rank + rank**3 / 3 + n * d * k)


def _logistic_regression(config: Any, n: float, d: int, k: int) -> float:
    width = min(n, d) if config.isotropic else d
    return 0.07e-9 * n * width * k * min(int(config.max_iter), 60)


def _ridge(config: Any, n: float, d: int, k: int) -> float:
    rank = min(n, d)
    return (0.15e-9 if config.alpha == "auto" else 0.05e-9) * (n * d * rank + rank**3 + n * d * k)


def _kernel_ridge(config: Any, n: float, d: int, k: int) -> float:
    return 0.05e-9 * (n * n * (d / 15 if config.isotropic else d) + n**3 / 3 + n * n * k)


def _svm(config: Any, n: float, d: int, k: int) -> float:
    return 0.2e-9 * n * n * d + 8e-6 * k * k  # a machine for each pair of labels


def _nearest_neighbors(config: Any, n: float, d: int, k: int) -> float:
    return 0.03e-9 * n * n * d


def _nearest_centroid(config: Any, n: float, d: int, k: int) -> float:
    return 10e-9 * n * d


def _random_forest(config: Any, n: float, d: int, k: int) -> float:
    per_tree = 1.2e-3 + 19e-9 * n * math.log2(n + 1) * _features_tried(config.max_features, d) * (1 + k / 8)
    return float(config.n_estimators * per_tree)


def _extra_trees(config: Any, n: float, d: int, k: int) -> float:
    nodes = min(2 * n, 2 * (config.max_leaf_nodes or n))
    per_tree = 0.6e-3 + 13e-9 * (n * math.log2(n + 1) + nodes * k / 10) * _features_tried(config.max_features, d)
    return float(config.n_estimators * per_tree)


def _gradient_boosting(config: Any, n: float, d: int, k: int) -> float:
    depth = (config.max_depth or math.log2(n + 1)) / 3
    tried = _features_tried(config.max_features, d)
    return float(config.n_estimators * k * (1e-3 + 17e-9 * n * math.log2(n + 1) * tried * depth))


def _mlp(config: Any, n: float, d: int, k: int) -> float:
    layers = [d, *config.hidden_layer_sizes, k]
    weights = sum(before * after for before, after in itertools.pairwise(layers))
    return float(config.max_iter * (0.5e-3 * (1 + n / 200) + 0.15e-9 * n * weights))


def _features_tried(configured: str | float | None, width: int) -> float:
    """Return how many features a tree looks at for each split, as scikit-learn counts them."""
    match configured:
        case "sqrt":
            return math.sqrt(width)
        case "log2":
            return math.log2(width + 1)
        case int():
            return float(configured)
        case float():
            return configured * width
    return float(width)


# Seconds of one fit: (config, samples, width, labels) -> seconds.
_FIT_SECONDS: Mapping[type[ClassifierConfig], Callable[[Any, float, int, int], float]] = {
    classifiers.LDA: _lda,
    classifiers.LogisticRegression: _logistic_regression,
    classifiers.Ridge: _ridge,
    classifiers.KernelRidge: _kernel_ridge,
    classifiers.SVM: _svm,
    classifiers.NearestNeighbors: _nearest_neighbors,
    classifiers.NearestCentroid: _nearest_centroid,
    classifiers.RandomForest: _random_forest,
    classifiers.ExtraTrees: _extra_trees,
    classifiers.GradientBoosting: _gradient_boosting,
    classifiers.MLP: _mlp,
}


def _seconds(costs: Sequence[CandidateCost]) -> float:
    """Return what comparing takes, with the candidate chosen that is dearest to choose."""
    return sum(one.seconds for one in costs) + max((one.seconds_if_chosen for one in costs), default=0.0)


def _memory(candidates: Sequence[PlannedCandidate], counts: SampleCounts) -> int:
    numbers = sum(candidate.width * (1 + candidate.copies) for candidate in candidates) * counts.samples
    return _VALUES * numbers + _HELD_OUT * counts.samples * counts.labels
