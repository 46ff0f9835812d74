"""Who on this machine may read a registry: its owner alone, or the members of a group."""

from __future__ import annotations

import os
from pathlib import Path

from model_registry.errors import InvalidNameError
from model_registry.messages import printable
from model_registry.platforms import group_number
from model_registry.storage.durable import Modes, locked, set_modes, storage_errors
from model_registry.storage.tokens import tokens_file


def protect(root: Path, group: str | None) -> int:
    """Give a registry's files to their owner alone, or to a group; return how many there are.

    What is published later follows the folder it is made in. Tokens stay their owner's. Raises InvalidNameError for an
    unknown group, StorageError where a file is somebody else's.
    """
    number = -1
    if group is not None:
        try:
            number = group_number(group)
        except KeyError:
            raise InvalidNameError(f"group {printable(group)}: no such group on this machine") from None
    with storage_errors("protect"), locked(root):
        paths = [root, *root.rglob("*")]
        if group is not None:
            for path in paths:
                os.chown(path, -1, number, follow_symlinks=False)
        set_modes(root, Modes(0o600, 0o700) if group is None else Modes(0o660, 0o2770))
        if tokens_file(root).exists():
            tokens_file(root).chmod(0o600)
    return len(paths)
