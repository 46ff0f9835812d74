"""Pretrained networks that trainers expect: what each is called, which package carries it, and the sha256 of its files.

Each modality declares its networks as `Pretrained` values under the entry-point group `model_trainer.pretrained`.
`model-trainer pretrained` makes them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import shared
from model_registry.storage.encoders import EncoderError, EncoderSpec, Source, Tensor, verify_encoder
from shared.errors import ConfigError

GROUP = "model_trainer.pretrained"
_ROOT = Path(shared.__file__).resolve().parent.parent


@dataclass(frozen=True)
class Pretrained:
    """A network that arrives inside `package`; `files` are the sha256 of everything that is made of it, by name."""

    name: str
    package: str
    licence: str
    inputs: dict[str, Tensor]
    outputs: dict[str, int]
    files: dict[str, str]
    model: str = "model.onnx"

    def spec(self, version: str) -> EncoderSpec:
        """Return what stands in `encoder.json` when it is made from that version of the package."""
        return EncoderSpec(
            name=self.name,
            model=self.model,
            sha256=self.files[self.model],
            inputs=self.inputs,
            outputs=self.outputs,
            licence=self.licence,
            source=Source(package=self.package, version=version),
            files=dict(sorted(self.files.items())),
        )


def pretrained_folder() -> Path:
    """Return where the networks are kept.

    That is $MODEL_TRAINER_PRETRAINED; in a checkout `.pretrained` in its root; elsewhere the user's data folder, on
    Linux ~/.local/share/model-trainer/pretrained.
    """
    if named := os.environ.get("MODEL_TRAINER_PRETRAINED"):
        return Path(named)
    if (_ROOT / "pyproject.toml").is_file():
        return _ROOT / ".pretrained"
    from model_registry.folders import data_folder  # an image that only makes networks has this file without that one

    return data_folder() / "pretrained"


def declared(only: Iterable[str] = ()) -> list[Pretrained]:
    """Return the networks of all modalities installed here, or those named, in the order of their packages.

    Raises ConfigError for a name that no installed modality declares.
    """
    points = {point.name: point for point in entry_points(group=GROUP)}
    unknown = sorted(set(only) - set(points))
    if unknown:
        raise ConfigError(
            f"no pretrained network is called {', '.join(unknown)}; there are {', '.join(sorted(points))}"
        )
    found = [_load(points[name]) for name in (set(only) or points)]
    return sorted((p for p in found if p is not None), key=lambda p: (p.package, p.name))


def _load(point: EntryPoint) -> Pretrained | None:
    """Return what `point` declares; None where that trainer is not installed."""
    try:
        loaded = point.load()
    except ModuleNotFoundError as error:
        if error.name == point.module.split(".")[0]:
            return None
        raise
    assert isinstance(loaded, Pretrained)
    return loaded


def is_complete(network: Pretrained, out: Path) -> bool:
    """Return whether `out/<name>` is there, intact, and described as it is declared."""
    try:
        found = verify_encoder(out / network.name)
        return found == network.spec(found.source.version)
    except EncoderError:
        return False
