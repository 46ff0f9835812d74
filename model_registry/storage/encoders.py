"""Encoders: frozen networks that all users share, each a folder with `encoder.json`, the network and its other files.

An encoder's identity is the sha256 of its network. Bundles and the registry keep it once, in a folder of that name, and
a version only names it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from model_registry.errors import RegistryError
from model_registry.storage.durable import file_sha256, path_errors, staged_folder

SPEC_FILE = "encoder.json"
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$")]


class EncoderError(RegistryError, ValueError):
    """An encoder's folder is missing, incomplete or not what its `encoder.json` says."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Tensor(_Frozen):
    """An input of an encoder; a letter in `shape` is a length that may vary, `n` the number of samples."""

    dtype: Literal["uint8", "int64", "float32"]
    shape: tuple[int | str, ...]
    meaning: str


class Source(_Frozen):
    """The package that contains the weights."""

    package: str
    version: str


class EncoderSpec(_Frozen):
    """`encoder.json`: an encoder's inputs, outputs, licence, source and files."""

    format: Literal[1] = 1
    name: FileName
    model: FileName = "model.onnx"
    sha256: Sha256
    inputs: dict[str, Tensor]
    outputs: dict[str, Annotated[int, Field(gt=0)]]  # name -> length of a row
    licence: str
    source: Source
    files: dict[FileName, Sha256]

    @model_validator(mode="after")
    def _names_its_model(self) -> EncoderSpec:
        if self.files.get(self.model) != self.sha256:
            raise ValueError("sha256 is not that of the model named in files")
        if SPEC_FILE in self.files:
            raise ValueError(f"files must not name {SPEC_FILE}")
        return self

    def text(self) -> str:
        """Return the text of `encoder.json`: the same for the same encoder, whoever writes it."""
        return self.model_dump_json(indent=2) + "\n"


def read_encoder(folder: Path) -> EncoderSpec:
    """Return the contents of `encoder.json` in `folder`, without reading the network.

    Raises EncoderError if there is no readable, valid `encoder.json`.
    """
    path = folder / SPEC_FILE
    try:
        return EncoderSpec.model_validate_json(path.read_bytes())
    except OSError as error:
        raise EncoderError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        reasons = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'encoder'}: {e['msg']}" for e in error.errors())
        raise EncoderError(f"{path}: {reasons}") from error


def verify_encoder(folder: Path) -> EncoderSpec:
    """Return the spec of `folder` after hashing every file that it names; raises EncoderError with all that differ."""
    spec = read_encoder(folder)
    faults = []
    for name, digest in sorted(spec.files.items()):
        try:
            sha256 = file_sha256(folder / name)
        except OSError as error:
            faults.append(f"{folder / name}: cannot be read: {error.strerror}")
            continue
        if sha256 != digest:
            faults.append(f"{folder / name}: sha256 is {sha256}, encoder.json says {digest}")
    if faults:
        raise EncoderError("\n".join(faults))
    return spec


def copy_encoder(folder: Path, root: Path, verified: EncoderSpec | None = None) -> Path:
    """Put the encoder of `folder` into `root/<sha256>`, whole or not at all, and return that folder.

    `verified`, what `verify_encoder` returned for `folder` just before, saves hashing its files again. Files are hard
    links where the file system allows, else copies. An intact encoder that is there already is left as it is; a damaged
    one is replaced. Raises EncoderError if `folder` is not intact, or if `root` holds the same network with other files
    beside it, and UnusablePathError where `root` cannot be written.
    """
    spec = verified or verify_encoder(folder)
    target = root / spec.sha256
    present = _intact(target, folder)
    if present is not None:
        if present.files != spec.files:
            raise EncoderError(f"{target}: holds the same network with other files beside it than {folder}")
        return target
    with path_errors(root), staged_folder(target, needed=lambda: _intact(target, folder) is None) as stage:
        for name in spec.files:
            try:
                os.link(folder / name, stage / name)
            except OSError:
                shutil.copyfile(folder / name, stage / name)
        (stage / SPEC_FILE).write_text(spec.text(), encoding="utf-8")
    return target


def _intact(folder: Path, source: Path) -> EncoderSpec | None:
    """Return the spec of `folder` if its files are as it says; hard links to the files of `source` are intact."""
    try:
        spec = read_encoder(folder)
        if all((folder / name).samefile(source / name) for name in spec.files):
            return spec
        return verify_encoder(folder)
    except (EncoderError, OSError):
        return None
