"""The page of configuration keys, written from the schemas: `python -m docs.generate` writes docs/configuration.md."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator, Set
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from shared.config import TrainerConfig
from shared.learning.candidates import CandidateConfig
from shared.learning.classifiers import Classifier, ClassifierConfig
from shared.recipe import load_recipe
from shared.trainers import all_trainers

INTRODUCTION = """# Configuration

<!-- Written by `python -m docs.generate` from the configuration's schemas. -->
A trainer takes a YAML file with `--config` and single keys with `--set key.sub=value`. Every key is optional. The files
in `<trainer>/configs/` are commented examples; `default.yaml` has every default written out.

```bash
sound-train --user ana --data data --out bundles --config sound_trainer/configs/without_network.yaml
gesture-train --user ana --data data --out bundles --set evaluation.false_rejection=0.02 \\
    --set 'candidates=[{features: motion_statistics, classifier: {type: svm, C: 10}}]'
```

## Candidates

A candidate is one feature set, or several that are joined, and a classifier. All candidates are compared by session;
the first that is within one standard error of the best wins, so list the preferred first. `candidates: auto` compares
what suits the data. A candidate that names no features stands for one with each of the feature sets that suit the data.

```yaml
candidates:
  - features: hand_shape
    classifier: {type: lda}
  - features: [hand_shape, motion_statistics]
    classifier: {type: svm, kernel: rbf, C: 10, gamma: scale}
  - classifier: {type: mlp, hidden_layer_sizes: [64], alpha: 0.001}
```

## Budget

`--dry-run` estimates what a training takes from its counts (samples, labels, sessions), the widths of the features and
the configuration, as seconds of one processor core and as memory. `budget_seconds` bounds that estimate: candidates are
taken in their order, and one with which the training would take longer is left out. Where that holds for each of them,
the cheapest is kept. No clock is read: the same data and configuration leave out the same candidates on every machine.
Training log, model card and the command's output name them. Extracting landmarks from clips is estimated, but does not
count: no candidate saves it.

The estimate is a sum: what every training of the modality takes (`cost` in `<trainer>/modality.py`), the fits of each
candidate, and those that follow for the one that is chosen, taken to be the dearest. `shared/learning/cost.py` has the
seconds of one fit for each classifier. `python -m benchmarks.cost` compares it with measured runs
([results](results.md#training-time)).

## Classifiers

The same in all four trainers. Parameters have scikit-learn's names and defaults; where a default differs, the meaning
says why. Every classifier also has `scaler`: `standard` (the default) standardises each feature first, `none` takes it
as it is.
"""


def configuration_page() -> str:
    """Return the page: every key, its type, default, allowed values and meaning."""
    parts = [INTRODUCTION]
    for schema in _members(Classifier):
        description = (schema.__doc__ or "").strip().replace("\n    ", "\n")
        parts.append(
            f"### `{schema.model_fields['type'].default}`\n\n{description}\n\n{_table(schema, classifier=True)}"
        )
    common = set(TrainerConfig.model_fields)
    parts.append(f"## Keys of every trainer\n\n{_table(TrainerConfig)}")
    for name, trainer in all_trainers().items():
        parts.append(f"## Keys of the {name} trainer\n\n{_table(load_recipe(trainer).config, without=common)}")
    return "\n".join(parts)


def _table(schema: type[BaseModel], *, without: Set[str] = frozenset(), classifier: bool = False) -> str:
    rows = ["| key | values | default | meaning |", "|---|---|---|---|"]
    for key, field, value in _keys(schema, ""):
        if key.split(".")[0] in without or (classifier and key in ("type", "scaler")):
            continue
        meaning = (field.description or "").replace("|", "\\|")
        default = "required" if field.is_required() else f"`{_plain(field.get_default(call_default_factory=True))}`"
        rows.append(f"| `{key}` | {value} | {default} | {meaning} |")
    return "\n".join(rows) + "\n" if len(rows) > 2 else "No parameters.\n"


def _keys(schema: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo, str]]:
    """Yield (dotted key, field, allowed values) of every value that can be set."""
    for name, field in schema.model_fields.items():
        key = f"{prefix}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _keys(field.annotation, f"{key}.")
        else:
            yield key, field, _values(field.annotation, field.metadata)


def _values(annotation: Any, metadata: list[Any]) -> str:
    """Return in words what a key may be."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *more = get_args(annotation)
        own = [item for m in more for item in (m.metadata if isinstance(m, FieldInfo) else [m])]
        return _values(inner, [*metadata, *own])
    if origin is Literal:
        return ", ".join(f"`{_plain(value)}`" for value in get_args(annotation))
    if origin in (Union, types.UnionType):
        members = [member for member in get_args(annotation) if member is not type(None)]
        words = [_values(member, metadata) for member in members]
        return ", or ".join([*words, "`null`"] if type(None) in get_args(annotation) else words)
    if origin is tuple:
        member = get_args(annotation)[0]
        least = "at least one " if any(isinstance(m, annotated_types.MinLen) for m in metadata) else ""
        return f"list of {least}{_values(member, [])}"
    if origin is dict:
        return "mapping of names to " + _values(get_args(annotation)[1], [])
    if isinstance(annotation, type) and issubclass(annotation, CandidateConfig):
        features = get_args(get_args(annotation.model_fields["features"].annotation)[0])[0]
        return f"candidates with the features {_values(get_args(features)[0], []) if get_args(features) else ''}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping with the keys " + ", ".join(f"`{name}`" for name in annotation.model_fields)
    words = {bool: "true or false", int: "whole number", float: "number", str: "text"}
    return words.get(annotation, str(getattr(annotation, "__name__", annotation))) + _bounds(metadata)


def _bounds(metadata: list[Any]) -> str:
    words = []
    for item in metadata:
        for kind, name in ((annotated_types.Ge, ">="), (annotated_types.Gt, ">")):
            if isinstance(item, kind):
                words.append(f"{name} {_plain(getattr(item, 'ge' if kind is annotated_types.Ge else 'gt'))}")
        for kind, name in ((annotated_types.Le, "<="), (annotated_types.Lt, "<")):
            if isinstance(item, kind):
                words.append(f"{name} {_plain(getattr(item, 'le' if kind is annotated_types.Le else 'lt'))}")
    return f" ({', '.join(words)})" if words else ""


def _members(union: Any) -> tuple[type[ClassifierConfig], ...]:
    found: tuple[type[ClassifierConfig], ...] = get_args(get_args(union)[0])
    return found


def _plain(value: Any) -> str:
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)
