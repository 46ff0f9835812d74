"""A trainer's configuration: YAML and `--set` over a frozen pydantic schema that holds every default."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails
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
        lines = [f"{place}: {key}: {reason}" for key, reason in _faults(error, values)]
        raise ConfigError("\n".join(lines)) from None


def _faults(error: ValidationError, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the key and the reason of every fault; a value that none of several kinds takes is one fault.

    Where a key has a fault deeper down, what pydantic says of the key itself follows from that.
    """
    parts = error.errors(include_url=False)
    reasons: dict[tuple[int | str, ...], dict[str, None]] = {}
    for part in parts:
        if part["type"] != "too_short" or not _deeper(part["loc"], [other["loc"] for other in parts]):
            reasons.setdefault(_key(part, values), {})[_reason(part)] = None
    for key, found in reasons.items():
        if not _deeper(key, reasons):
            first, *others = found
            text = " or ".join([first, *(other.removeprefix("must be ") for other in others)])
            yield ".".join(map(str, key)) or "(whole)", text


def _deeper(key: tuple[int | str, ...], others: Iterable[tuple[int | str, ...]]) -> bool:
    return any(len(other) > len(key) and other[: len(key)] == key for other in others)


def _key(part: ErrorDetails, values: Any) -> tuple[int | str, ...]:
    """Return the keys of the configuration that a fault's location names; what else it names are a union's members."""
    key: list[int | str] = []
    for step in part["loc"]:
        items: Any = dict(enumerate(values)) if isinstance(values, list | tuple) else values
        if isinstance(items, Mapping) and step in items:
            values = items[step]
            key.append(step)
    if part["type"] == "missing":
        key.append(part["loc"][-1])
    if part["type"].startswith("union_tag"):
        key.append(part.get("ctx", {})["discriminator"].strip("'"))
    return tuple(key)


def _reason(part: ErrorDetails) -> str:
    context = part.get("ctx", {})
    match part["type"]:
        case "missing" | "union_tag_not_found":
            return "is missing"
        case "extra_forbidden":
            return "is not a known key"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "must be a mapping of keys to values"
        case "tuple_type":
            return "must be a list"
        case "too_short":
            return f"must be a list of at least {context['min_length']}"
        case "union_tag_invalid":
            return f"must be one of {context['expected_tags']}"
        case _:
            return part["msg"].removeprefix("Value error, ").replace("Input should be", "must be", 1)


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
