"""User ids, modalities, versions and file names: parsed once, refused when bad.

Everything that becomes part of a path passes through here first, so no other module needs to think of
`..`, NUL bytes, separators, look-alike letters or names too long for a file system.
"""

from __future__ import annotations

import re
from typing import Literal, cast, get_args

from model_registry.errors import InvalidNameError as InvalidNameError
from model_registry.messages import printable

Modality = Literal["gesture", "sound", "speech", "visual_environment"]
MODALITIES = cast("tuple[Modality, ...]", get_args(Modality))
DEFAULT_USER = "_default"  # the reserved user under which pooled models are published

_ALIASES: dict[str, Modality] = {"audio": "sound", "image": "visual_environment", "speech_context": "speech"}
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,62}[A-Za-z0-9])?")
_VERSION = re.compile(r"v([1-9][0-9]{0,8})")


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
    """Return the modality that `text` names; A3CP's `audio`, `image` and `speech_context` are accepted."""
    for modality in MODALITIES:
        if text == modality:
            return modality
    if isinstance(text, str) and text in _ALIASES:
        return _ALIASES[text]
    raise InvalidNameError(f"modality {printable(text)}: must be one of {', '.join(MODALITIES)}")


def parse_version(text: str | int) -> int:
    """Return the number of a version written as `v3`, `3` or 3."""
    match = _VERSION.fullmatch(f"v{text}" if isinstance(text, int) or str(text)[:1] != "v" else str(text))
    if match is None:
        raise InvalidNameError(f"version {printable(text)}: must look like v1, v2, …")
    return int(match.group(1))


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
