"""The Python API: train a model from samples in memory or in files, and use a published one.

Example:
    >>> from model_trainer import load, train
    >>> result = train("speech", texts, labels, sessions=sessions, user_id="ana", consent=True)
    >>> result.metrics["accuracy"], result.verdict
    >>> result.publish("models")
    >>> load("models", user_id="ana", modality="speech").predict("what is for dinner?").label
"""

from model_registry.errors import RegistryError
from model_trainer.model import Model, load
from model_trainer.training import Published, TrainingResult, train
from shared.errors import ConfigError, DataError, Fault, QualityGateError, TrainerError
from shared.prediction import Prediction

__all__ = [
    "ConfigError",
    "DataError",
    "Fault",
    "Model",
    "Prediction",
    "Published",
    "QualityGateError",
    "RegistryError",
    "TrainerError",
    "TrainingResult",
    "load",
    "train",
]
