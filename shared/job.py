"""What a training run is given, and what it says of its model: values that the steps of a recipe pass on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model_registry.location import WritableRegistry
from model_registry.promotion import PromotionPolicy
from model_registry.storage.entry import EncoderRef
from shared.data_loader import DataFormat
from shared.features.cache import FeatureCache
from shared.logs import RunLog
from shared.schema_utils import TrainingRequest
from shared.trainers import Cost


@dataclass(frozen=True)
class Job:
    """One model to train: whose, from which data, to where."""

    users: tuple[str, ...]
    data: Path
    out: Path
    run_id: str
    registry: WritableRegistry | None = None
    data_format: DataFormat = "auto"
    fingerprint: str = ""
    package: str = ""  # the trainer's, for the log: its code and what it requires
    cost: Cost = field(default_factory=lambda: Cost(0.0, 0.0))  # the trainer's, candidates aside
    promote: PromotionPolicy = "if-better"  # whether the new version becomes the active one
    cache: FeatureCache | None = None
    log: RunLog = field(default_factory=RunLog)
    request: TrainingRequest | None = None  # what asked for this training, for the log


@dataclass(frozen=True)
class ModelSpec:
    """What whoever runs the model must know beside its graph."""

    decode: Mapping[str, Any]  # how this project's `decode` makes the model's inputs of media
    normalisation_version: str
    preparation: Mapping[str, Any] = field(default_factory=dict)  # the same for whoever runs the model without it
    expected_frame_rate: float | None = None
    expected_length: int | None = None
    encoder_refs: tuple[EncoderRef, ...] = ()
    encoding: str = ""  # what `decode` makes of media, where A3CP has a name for it; else it is the data set's own
    notes: tuple[str, ...] = ()  # for the training log and the model card
    media: tuple[Mapping[str, Any], ...] = ()  # for the training log: how each sample was recorded
