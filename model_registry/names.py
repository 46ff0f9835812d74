"""User ids, modalities, versions and file names: parsed once, refused when bad.

Everything that becomes part of a path passes through here first, so no other module needs to think of
`..`, NUL bytes, separators, look-alike letters or names too long for a file system.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import TypeAlias

from model_registry.errors import InvalidNameError as InvalidNameError
from model_registry.messages import printable

Modality: TypeAlias = str  # a name that `parse_modality` returned; which ones have a trainer is known elsewhere
MODALITY_PATTERN = r"[a-z](?:[a-z0-9_]{0,62}[a-z0-9])?"
REASON_LIMIT = 500  # characters
DEFAULT_USER = "_default"  # the reserved user under which pooled models are published

_MODALITY = re.compile(MODALITY_PATTERN)
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,62}[A-Za-z0-9])?")
_VERSION = re.compile(r"v?([1-9][0-9]{0,8})")


def parse_name(text: str, what: str = "user id") -> str:
    """Return `text` if it is a safe ASCII name: letters, digits, `_`, `-`, `.`; 1 to 64 characters.

    It starts and ends with a letter or digit, so `.`, `..`, hidden files and options cannot pass, and the
    reserved user `_default` cannot be taken by a person.
    """
    if not isinstance(text, str) or _NAME.fullmatch(text) is None or ".." in text:
        raise InvalidNameError(
            f"{what} {printable(text)}: use 1 to 64 letters, digits, '_', '-' or '.', "
            "beginning and ending with a letter or digit"
        )
    return text


def parse_user(text: str) -> str:
    """Return a user id, or the reserved `_default`."""
    return text if text == DEFAULT_USER else parse_name(text, "user id")


def parse_modality(text: str) -> Modality:
    """Return the modality that `text` names, an alias resolved; any safe name is one, whatever is trained here."""
    name = modality_aliases().get(text, text) if isinstance(text, str) else text
    if not is_modality(name):
        raise InvalidNameError(
            f"modality {printable(text)}: use 1 to 64 lower-case letters, digits or '_', such as gesture, "
            "beginning with a letter and ending with a letter or digit"
        )
    return name


def is_modality(name: object) -> bool:
    """Return whether `name` is a safe name of a modality as it stands in files and paths, aliases aside."""
    return isinstance(name, str) and _MODALITY.fullmatch(name) is not None


@functools.cache
def modality_aliases() -> Mapping[str, Modality]:
    """Return other name -> modality, as installed packages declare it: A3CP says `audio` for `sound`.

    An alias is an entry point `audio = "sound"` of the group `model_trainer.modality_aliases`. It is metadata, so no
    trainer is imported, and a registry without any trainer beside it knows the names too.
    """
    return {point.name: point.value for point in entry_points(group="model_trainer.modality_aliases")}


def parse_version(text: str | int) -> int:
    """Return the number of a version written as `v3`, `3` or 3."""
    match = _VERSION.fullmatch(str(text))
    if match is None:
        raise InvalidNameError(f"version {printable(text)}: must look like v1, v2, …")
    return int(match.group(1))


def parse_reason(text: str) -> str:
    """Return a reason for a history: at most 500 characters of printable text, spaces included."""
    if len(text) > REASON_LIMIT or not text.replace("\n", " ").isprintable():
        raise InvalidNameError(f"reason {printable(text)}: use at most {REASON_LIMIT} characters of plain text")
    return text


_FILE_NAMES = {
    "model": "{modality}_model_{user}_v{version}.onnx",
    "label_map": "label_map_{user}_v{version}.json",
    "label_encoder": "label_encoder_{user}_v{version}.pkl",
    "training_log": "training_log_{user}_v{version}.json",
    "model_card": "model_card_{user}_v{version}.html",
    "confusion_matrix": "confusion_matrix_{user}_v{version}.png",
}
ROLES = tuple(_FILE_NAMES)


def published_name(role: str, user: str, modality: Modality, version: int) -> str:
    """Return the file name of a bundle's `role` once it is published, e.g. `gesture_model_user123_v3.onnx`."""
    return _FILE_NAMES[role].format(modality=modality, user=user, version=version)
