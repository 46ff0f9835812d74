"""Acting as a user without rights: root may do everything, so what is forbidden shows in a child process only."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


@contextmanager
def folder_for_everybody() -> Iterator[Path]:
    """Yield a temporary folder that everybody may enter; pytest's own folders are their owner's alone."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder


def allow_everything(folder: Path) -> None:
    """Let everybody read and write a folder and all that is in it."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)


def as_nobody(act: Callable[[], str]) -> str:
    """Return what `act` returns in a child process that is not root, or the error that it raises."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.getuid() == 0:
                os.setuid(NOBODY)
            outcome = act()
        except BaseException as error:  # whatever it is, the test shall see it
            outcome = f"{type(error).__name__}: {error}"
        os.write(writer, outcome.encode()[:4000])
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as file:
        return file.read()
