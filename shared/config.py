"""A trainer's configuration: YAML and `--set` over a frozen pydantic schema that holds every default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import Field, ValidationError
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

from shared.data_loader import DataFilter
from shared.errors import ConfigError
from shared.evaluation import EvaluationConfig
from shared.schema_utils import Schema

_LARGEST = 256 * 1024  # bytes of YAML


class GateConfig(Schema):
    """Below this nothing is published. It applies where sessions allow an estimate at all."""

    minimum_accuracy: float = Field(default=0.0, ge=0.0, le=1.0, description="least session-wise accuracy")
    beat_majority: bool = Field(default=True, description="be better than always answering the commonest label")


class TrainerConfig(Schema):
    """What every modality's configuration has."""

    seed: int = Field(default=0, ge=0, lt=2**32, description="decides every random choice")
    minimum_per_label: int = Field(default=2, ge=1, description="a label with fewer samples is an error")
    data: DataFilter = Field(default_factory=DataFilter, description="which examples are used")
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)
    gate: GateConfig = Field(default_factory=GateConfig)


AnyConfig = TypeVar("AnyConfig", bound=TrainerConfig)


def load_config(schema: type[AnyConfig], path: Path | None, settings: Sequence[str]) -> AnyConfig:
    """Return the configuration of a YAML file (or the defaults) with `key.sub=value` settings laid over it.

    Raises ConfigError with one line for every fault: file or --set, key, reason.
    """
    values = {} if path is None else _read(path)
    for setting in settings:
        _lay_over(values, setting)
    return parse_config(schema, values, str(path) if path else "configuration")


def parse_config(schema: type[AnyConfig], values: Mapping[str, Any], place: str) -> AnyConfig:
    """Return the configuration that `values` hold. Raises ConfigError with one line for every fault, naming `place`."""
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        lines = [f"{place}: {'.'.join(map(str, e['loc'])) or '(whole)'}: {e['msg']}" for e in error.errors()]
        raise ConfigError("\n".join(lines)) from None


MODEL_TYPES: Mapping[str, str] = {  # what others call a classifier -> its `type`
    "linear_discriminant_analysis": "lda",
    "logreg": "logistic_regression",
    "logistic": "logistic_regression",
    "svc": "svm",
    "support_vector_machine": "svm",
    "knn": "nearest_neighbors",
    "k_nearest_neighbors": "nearest_neighbors",
    "rf": "random_forest",
    "extremely_randomized_trees": "extra_trees",
    "gbm": "gradient_boosting",
    "multilayer_perceptron": "mlp",
}
_REQUEST_KEYS = ("model_type", "architecture", "hyperparameters", "feature_set")


def config_from_request(training_config: Mapping[str, Any], config: AnyConfig) -> AnyConfig:
    """Return `config` with the one candidate that an A3CP training request asks for.

    `model_type` names a classifier, `hyperparameters` are its parameters, `architecture` are the sizes of an MLP's
    hidden layers, and `feature_set` is one feature set or several. Without a feature set the classifier is tried with
    each that suits the data. Raises ConfigError for what there is not, naming what there is.
    """
    unknown = [key for key in training_config if key not in _REQUEST_KEYS]
    if unknown:
        raise ConfigError(f"training_config: {', '.join(unknown)}: unknown; known are {', '.join(_REQUEST_KEYS)}")
    asked = {key: value for key, value in training_config.items() if value not in (None, "", {}, [])}
    if not asked:
        return config
    kind = asked.get("model_type")
    if not isinstance(kind, str):
        raise ConfigError(f"training_config: model_type: is needed beside {', '.join(asked)}, as text, such as svm")
    parameters = asked.get("hyperparameters", {})
    if not isinstance(parameters, Mapping):
        raise ConfigError("training_config: hyperparameters: must be a mapping of names to values")
    name = kind.strip().lower().replace("-", "_").replace(" ", "_")
    classifier = {"type": MODEL_TYPES.get(name, name), **parameters}
    if "architecture" in asked:
        if classifier["type"] != "mlp" or "hidden_layer_sizes" in classifier:
            raise ConfigError(f"training_config: architecture: a {kind} has none beside its hyperparameters")
        classifier["hidden_layer_sizes"] = asked["architecture"]
    candidate = {"classifier": classifier, "features": asked.get("feature_set")}
    return parse_config(type(config), config.model_dump() | {"candidates": [candidate]}, "training_config")


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"{path}: (whole): {error.strerror or error}") from None
    if len(text) > _LARGEST:
        raise ConfigError(f"{path}: (whole): larger than {_LARGEST // 1024} KiB")
    return _mapping(text, str(path))


def _lay_over(values: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"--set {setting}: write it as key.sub=value")
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {setting}: {parent} is a value, not a section")
    values[last] = _parse(text, f"--set {setting}")


def _mapping(text: bytes, place: str) -> dict[str, Any]:
    parsed = _parse(text, place)
    if parsed is None:
        return {}
    if not isinstance(parsed, dict):
        raise ConfigError(f"{place}: (whole): must be a mapping of keys to values")
    return parsed


def _parse(text: bytes | str, place: str) -> Any:
    try:
        return yaml.load(text, _PlainLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{place}{line}: (whole): {getattr(error, 'problem', None) or 'not YAML'}") from None
    except (RecursionError, ValueError) as error:
        raise ConfigError(f"{place}: (whole): {error}") from None


class _PlainLoader(yaml.SafeLoader):
    """SafeLoader without aliases, which can make a small file huge, and without duplicate keys."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise ComposerError(None, None, "aliases are not allowed", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise ConstructorError(None, None, f"duplicate key {key!r}", node.start_mark)
        return super().construct_mapping(node, deep)
