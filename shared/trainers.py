"""The installed trainers as they declare themselves, found through entry points; no recipe is imported."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType

from model_registry.messages import printable
from model_registry.names import InvalidNameError, Modality, is_modality, parse_modality
from shared.errors import ConfigError

GROUP = "model_trainer.trainers"  # entry points such as sound = "sound_trainer.modality:TRAINER"


@dataclass(frozen=True)
class Cost:
    """What one training run takes, nothing cached, apart from comparing candidates.

    `memory_bytes` is a container's limit. Seconds are of a processor core. The planner of a batch takes them until runs
    were measured.
    """

    start_seconds: float
    seconds_per_sample: float
    memory_bytes: int = 4 << 30
    start_memory_bytes: int = 270 << 20  # of the process with its imports and networks


@dataclass(frozen=True)
class Command:
    """A command that a trainer adds to `model-trainer`: a click command at `module:attribute`, imported to run."""

    place: str
    summary: str


@dataclass(frozen=True)
class Trainer:
    """All that is known of a modality without importing its recipe, which is `RECIPE` in the module `<package>.train`.

    That module is also what `python -m <package>.train` runs, as `console_script` does.
    """

    modality: Modality
    title: str  # what people call it, in the plural: the heading of a model card
    package: str
    console_script: str
    image: str  # that the Docker backend runs
    cost: Cost
    accepts: frozenset[str] = frozenset(["audio", "image", "video", "text", "features"])  # what its samples may be
    extracts: bool = False  # features of an encoding from recordings, which may be mixed with ready-made ones
    commands: Mapping[str, Command] = field(default_factory=dict)
    check_file: str = ""  # of media: the function at `module:attribute` that decodes one, a `CheckFile`
    a3cp_name: str = ""  # what A3CP's messages call it, where that is not the modality; `parse_modality` knows it, too

    @property
    def message_name(self) -> str:
        """The modality in A3CP's messages."""
        return self.a3cp_name or self.modality


def modality_names() -> tuple[Modality, ...]:
    """Return the modalities that installed distributions have a trainer for, sorted; nothing is imported."""
    return tuple(_entry_points())


def parse_known_modality(text: str) -> Modality:
    """Return the modality that `text` names. Raises InvalidNameError where no installed trainer is for it."""
    with contextlib.suppress(InvalidNameError):
        modality = parse_modality(text)
        if modality in _entry_points():
            return modality
    raise InvalidNameError(
        f"modality {printable(text)}: must be one of {', '.join(_entry_points()) or '(none is installed)'}"
    )


def find_trainer(modality: Modality) -> Trainer:
    """Return the trainer of a modality. Raises ConfigError where none is installed, or it is declared wrongly."""
    point = _entry_points().get(modality)
    trainer = None if point is None else _declared(point)
    if trainer is None:
        others = ", ".join(all_trainers()) or "none"
        raise ConfigError(f"modality {printable(modality)}: no trainer is installed; there are {others}")
    return trainer


def missing_package(trainer: Trainer, error: ModuleNotFoundError) -> ConfigError:
    """Return the error that says which package a trainer lacks."""
    return ConfigError(f"the {trainer.modality} trainer needs the package {error.name}, which is not installed")


@functools.cache
def all_trainers() -> Mapping[Modality, Trainer]:
    """Return the trainers whose packages are here, by modality. Raises ConfigError where one is declared wrongly."""
    found = {modality: _declared(point) for modality, point in _entry_points().items()}
    return MappingProxyType({modality: trainer for modality, trainer in found.items() if trainer is not None})


def title_of(modality: Modality) -> str:
    """Return what people call a modality; its plain name where no trainer of it is here."""
    trainer = all_trainers().get(modality)
    return modality if trainer is None else trainer.title


@functools.cache
def _entry_points() -> Mapping[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        if not is_modality(point.name):
            raise ConfigError(f"entry point {point.name!a} of {GROUP}: is no name of a modality")
        if found.setdefault(point.name, point).value != point.value:
            raise ConfigError(f"modality {point.name}: has two trainers, {found[point.name].value} and {point.value}")
    return MappingProxyType(found)


def _declared(point: EntryPoint) -> Trainer | None:
    """Return what an entry point declares, None where its package is not here, as in another trainer's image."""
    try:
        trainer = point.load()
    except ModuleNotFoundError as error:
        if error.name is not None and point.module.startswith(error.name):
            return None
        raise ConfigError(f"the trainer of {point.name}: {point.value} needs the package {error.name}") from error
    except AttributeError as error:
        raise ConfigError(f"the trainer of {point.name}: {point.value}: {error}") from error
    if not isinstance(trainer, Trainer) or trainer.modality != point.name:
        raise ConfigError(f"the trainer of {point.name}: {point.value} is no Trainer of this modality")
    return trainer
