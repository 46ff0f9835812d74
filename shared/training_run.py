"""A training run whose model is finished: the one value that its log, its card and its bundle are made of."""

from __future__ import annotations

from dataclasses import dataclass

from shared.config import TrainerConfig
from shared.data_loader import Dataset
from shared.evaluation import Validation
from shared.features.graph import FeatureGraph
from shared.job import Job, ModelSpec
from shared.learning.candidates import FittedModel
from shared.learning.heads import Features
from shared.packaging.export import Exported, Replay
from shared.report.audit import Audit
from shared.report.metrics import Report


@dataclass(frozen=True)
class TrainedModel:
    """The selected candidate fitted on every sample: the graph of its features, these (n, D) float32, and the head."""

    graph: FeatureGraph
    features: Features
    fitted: FittedModel


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
