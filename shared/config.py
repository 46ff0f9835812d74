"""A trainer's configuration: YAML and `--set` over a frozen pydantic schema that holds every default."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import Field, ValidationError
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

from model_registry.languages import Language
from shared.data.files import reason_of
from shared.data_loader import DataFilter
from shared.errors import ConfigError, Fault
from shared.evaluation import EvaluationConfig
from shared.learning.cost import AUTO_BUDGET, AUTO_BUDGET_BELOW
from shared.schema_faults import Key, key_text, problems_of
from shared.schema_utils import Schema

Values = Mapping[str, Any]
Place = tuple[str, int | None]  # a file, setting or option; a line of the file
Places = dict[Key, Place]

_T = TypeVar("_T")
_LARGEST = 256 * 1024  # bytes of YAML


class GateConfig(Schema):
    """Below this nothing is published. It applies where sessions allow an estimate at all."""

    minimum_accuracy: float = Field(default=0.0, ge=0.0, le=1.0, description="least session-wise accuracy")
    beat_majority: bool = Field(default=True, description="be better than always predicting the most frequent label")


class TrainerConfig(Schema):
    """What every modality's configuration has."""

    seed: int = Field(default=0, ge=0, lt=2**32, description="decides every random choice")
    lang: Language = Field(default="en", description="language of the model card: English, German or Spanish")
    minimum_per_label: int = Field(default=2, ge=1, description="a label with fewer samples is an error")
    data: DataFilter = Field(default_factory=DataFilter, description="which examples are used")
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)
    budget_seconds: Literal["auto"] | Annotated[float, Field(gt=0.0)] | None = Field(
        default="auto",
        description="candidates that would make the estimated training longer are left out, never all; "
        f"auto: {AUTO_BUDGET:.0f} for fewer than {AUTO_BUDGET_BELOW:,} samples, else no limit",
    )
    gate: GateConfig = Field(default_factory=GateConfig)


AnyConfig = TypeVar("AnyConfig", bound=TrainerConfig)


def load_config(
    schema: type[AnyConfig],
    path: Path | None,
    settings: Sequence[str],
    options: Mapping[str, Values] | None = None,
) -> AnyConfig:
    """Return the configuration of a YAML file (or the defaults) with `key.sub=value` settings laid over it.

    `options` are values that options of their own give: option -> section, laid over last. Raises ConfigError with a
    line for every fault: file and line, setting or option, then key and reason.
    """
    values, places = ({}, {}) if path is None else _read(path)
    places[()] = (str(path) if path else "configuration", None)
    faults: list[Fault] = []
    for setting in settings:
        try:
            _lay_over(values, _parsed_setting(setting), (f"--set {setting}", None), places)
        except ConfigError as error:
            faults += error.faults
    for option, section in (options or {}).items():
        _lay_over(values, section, (option, None), places)
    return _validated(schema, values, places, faults)


def parse_config(schema: type[AnyConfig], values: Values, place: str) -> AnyConfig:
    """Return the configuration that `values` hold. Raises ConfigError with a line for every fault, naming `place`."""
    return _validated(schema, values, {(): (place, None)}, [])


def _validated(schema: type[AnyConfig], values: Values, places: Places, faults: list[Fault]) -> AnyConfig:
    try:
        config = schema.model_validate(values)
        if not faults:
            return config
    except ValidationError as error:
        for problem in problems_of(error, schema):
            nearest = next(problem.key[:n] for n in range(len(problem.key), -1, -1) if problem.key[:n] in places)
            faults.append(Fault(*places[nearest], key_text(problem.key) or "(whole)", problem.reason))
    raise ConfigError(faults)


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
    if "candidates" not in type(config).model_fields:
        raise ConfigError(f"training_config: {', '.join(asked)}: this trainer's candidates cannot be chosen")
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


def _lay_over(values: dict[str, Any], section: Values, place: Place, places: Places, key: Key = ()) -> None:
    """Merge a section into the `values` under `key`, and note where each of its keys was given."""
    for name, value in section.items():
        below = (*key, name)
        if isinstance(value, Mapping) and value:
            if not isinstance(values.get(name), dict):
                values[name], places[below] = {}, place
            _lay_over(values[name], value, place, places, below)
        else:
            for known in [known for known in places if known[: len(below)] == below]:
                del places[known]
            values[name], places[below] = value, place


def _parsed_setting(setting: str) -> dict[str, Any]:
    """Return the section that `key.sub=value` stands for."""
    key, equals, text = setting.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError([Fault(f"--set {setting}", None, "(whole)", "must be written as key.sub=value")])
    value = _parsed(text, f"--set {setting}", lambda loader: _construct(loader, loader.get_single_node()))
    for name in reversed(key.split(".")):
        value = {name: value}
    section: dict[str, Any] = value
    return section


def _read(path: Path) -> tuple[dict[str, Any], Places]:
    """Return what a YAML file holds, and the line of each key."""
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST + 1)
    except IsADirectoryError:
        raise ConfigError([Fault(str(path), None, "(whole)", "is a folder; name a YAML file")]) from None
    except OSError as error:
        raise ConfigError([Fault(str(path), None, "(whole)", reason_of(error))]) from None
    if len(text) > _LARGEST:
        raise ConfigError([Fault(str(path), None, "(whole)", f"is larger than {_LARGEST // 1024} KiB")])

    def load(loader: _PlainLoader) -> tuple[Any, Places]:
        node = loader.get_single_node()
        lines: Places = {key: (str(path), line) for key, line in _lines(node)}
        return _construct(loader, node), lines

    values, places = _parsed(text, str(path), load)
    if values is not None and not isinstance(values, dict):
        raise ConfigError([Fault(str(path), None, "(whole)", "must be a mapping of keys to values")])
    return values or {}, places


def _construct(loader: _PlainLoader, node: yaml.Node | None) -> Any:
    return None if node is None else loader.construct_document(node)


def _lines(node: yaml.Node | None, key: Key = ()) -> Iterator[tuple[Key, int]]:
    """Yield the line, counted from 1, of every key in a mapping and of every item in a list."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            yield (*key, str(name.value)), name.start_mark.line + 1
            yield from _lines(value, (*key, str(name.value)))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*key, index), value.start_mark.line + 1
            yield from _lines(value, (*key, index))


def _parsed(text: bytes | str, place: str, load: Callable[[_PlainLoader], _T]) -> _T:
    """Return what `load` makes of YAML. Raises ConfigError for text that is not YAML, or hostile."""
    line = None
    try:
        loader = _PlainLoader(text)
        try:
            return load(loader)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else None
        reason = str(getattr(error, "problem", None) or "is not YAML")
    except (RecursionError, ValueError) as error:
        reason = "is nested too deeply" if isinstance(error, RecursionError) else str(error)
    raise ConfigError([Fault(place, line, "(whole)", reason)]) from None


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
