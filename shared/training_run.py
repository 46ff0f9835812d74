"""The values that a training run consists of: its metrics, its audit, its model, and the run as a whole.

`TrainingRun` is what the log, the model card and the bundle are made of. `shared.report` and `shared.packaging` compute
these values and write them; neither knows the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from shared.config import TrainerConfig
from shared.data_loader import Dataset
from shared.evaluation import Validation
from shared.features.graph import FeatureGraph
from shared.job import Job, ModelSpec
from shared.learning.candidates import FittedModel
from shared.learning.folds import Indices
from shared.learning.heads import Features

Unit = Literal["session", "person"]  # what is held out as a whole
RecordPair = tuple[str, str]  # record ids


@dataclass(frozen=True)
class LabelReport:
    """One label's precision, recall and F1 with their intervals, and its support, among held-out predictions."""

    label: str
    precision: float
    recall: float
    recall_low: float
    recall_high: float
    f1: float
    support: int
    sessions: int
    within_session: bool
    precision_low: float = 0.0
    precision_high: float = 1.0
    f1_low: float = 0.0
    f1_high: float = 1.0
    open_set_auroc: float | None = None  # of known samples against this label's, where it was held out of training


@dataclass(frozen=True)
class Confusion:
    """How many samples of a label were predicted as another, of how many, with the interval of that share."""

    label: str
    predicted: str
    count: int
    support: int
    low: float
    high: float


@dataclass(frozen=True)
class ProbeReport:
    """How many probes of one kind there were, and how many of them the model accepted."""

    kind: str
    count: int
    accepted: int


@dataclass(frozen=True)
class Report:
    """All metrics of a validation: `metrics` are floats only, as A3CP requires."""

    metrics: dict[str, float]
    labels: tuple[LabelReport, ...]
    confusion_matrix: Indices  # (K, K), rows are true labels, columns predicted ones
    reliability: tuple[tuple[float, float, int], ...]  # mean confidence, accuracy, samples, a bin each
    scheme: str
    verdict: str
    reasons: tuple[str, ...]
    learning_curve: tuple[tuple[int, float], ...] = ()  # samples trained on, out-of-fold accuracy
    accuracy_by_coverage: tuple[tuple[float, float], ...] = ()  # share accepted, accuracy among those
    confusions: tuple[Confusion, ...] = ()  # the most frequent first
    unit: Unit = "session"
    probes: tuple[ProbeReport, ...] = ()


@dataclass(frozen=True)
class Audit:
    """What was found. `duplicates_across_folds` counts pairs that validation had on both sides of a split."""

    identical: tuple[RecordPair, ...]
    near_identical: tuple[RecordPair, ...]
    duplicates_across_folds: int
    session_skill: float | None  # how well the features predict the session: 0 by chance, 1 always; None with one
    label_skill: float | None
    suspected_labels: tuple[dict[str, str | float], ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class TrainedModel:
    """The selected candidate fitted on every sample: the graph of its features, these (n, D) float32, and the head."""

    graph: FeatureGraph
    features: Features
    fitted: FittedModel


@dataclass(frozen=True)
class Exported:
    """A model's bytes and those of its part after the features."""

    model: bytes
    head_graph: bytes


@dataclass(frozen=True)
class Replay:
    """How a replay went: samples through the whole graph, others through its head graph, and the largest difference."""

    whole: int
    head_graph: int
    largest_difference: float


@dataclass(frozen=True)
class TrainingRun:
    """What a run was given, what its validation and audit say, and the model that came out of it."""

    job: Job
    config: TrainerConfig
    dataset: Dataset
    spec: ModelSpec
    validation: Validation
    report: Report
    audit: Audit
    model: TrainedModel
    exported: Exported
    replay: Replay

    @property
    def encoding(self) -> str:
        """What the samples' numbers are, in A3CP's words, or the types of their media."""
        return self.spec.encoding or self.dataset.encoding
