"""Where registry, caches and keys are on a user's machine when nobody names a place."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path, user_config_path, user_data_path

from model_registry.errors import UnusablePathError
from model_registry.storage.copies import copies_file
from model_registry.storage.durable import check_writable
from model_registry.storage.signatures import Signatures

REGISTRY_VARIABLE = "MODEL_TRAINER_REGISTRY"  # of the commands' option --registry
CACHE_VARIABLE = "MODEL_TRAINER_CACHE"
SIGNING_KEY_VARIABLE = "MODEL_TRAINER_SIGNING_KEY"
TRUSTED_KEYS_VARIABLE = "MODEL_TRAINER_TRUSTED_KEYS"
REQUIRE_SIGNATURE_VARIABLE = "MODEL_TRAINER_REQUIRE_SIGNATURE"
_APP = "model-trainer"


def default_registry() -> str:
    """Return the folder of a registry that nobody named: on Linux ~/.local/share/model-trainer/registry."""
    return str(data_folder() / "registry")


def data_folder() -> Path:
    """Return the user's data folder: on Linux ~/.local/share/model-trainer."""
    return user_data_path(_APP)


def own_copies() -> Path:
    """Return the list of copies that a user's commands made of models in registries behind a URL."""
    return copies_file(user_data_path(_APP))


def default_trusted_keys() -> Path:
    """Return the trust file of a user who names none: on Linux ~/.config/model-trainer/trusted_keys.json."""
    return user_config_path(_APP) / "trusted_keys.json"


def configured_signatures() -> Signatures:
    """Return with which key the environment says to sign, and which keys it says to trust or require."""
    key = os.environ.get(SIGNING_KEY_VARIABLE)
    return Signatures(
        key_file=Path(key) if key else None,
        trusted_keys=Path(os.environ.get(TRUSTED_KEYS_VARIABLE) or default_trusted_keys()),
        required=os.environ.get(REQUIRE_SIGNATURE_VARIABLE, "").lower() not in ("", "0", "false", "no", "off"),
    )


def cache_folder() -> Path:
    """Return `$MODEL_TRAINER_CACHE`, or the user's cache folder: on Linux ~/.cache/model-trainer."""
    return Path(os.environ.get(CACHE_VARIABLE) or user_cache_path(_APP))


def encoder_cache(otherwise: Path) -> Path:
    """Return the folder that keeps downloaded encoders for the next command, or `otherwise` if it cannot be written.

    Encoders are large, and hold nothing of a person; the files of a version are never kept.
    """
    folder = cache_folder() / "registry"
    try:
        check_writable(folder)
    except UnusablePathError:
        return otherwise
    return folder
