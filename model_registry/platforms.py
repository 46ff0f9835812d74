"""What not every operating system has: locks of open files, a process's memory, groups of users.

No other module imports `fcntl`, `resource` or `grp`. Where files are on a user's machine is in `folders`.
"""

from __future__ import annotations

import importlib
import platform
import sys
from typing import Any

from model_registry.errors import UnsupportedPlatformError


def _import(name: str) -> Any:
    """Return a module of Python that some operating systems lack, or None."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None


_fcntl, _grp, _resource = _import("fcntl"), _import("grp"), _import("resource")


def check_platform() -> None:
    """Raise UnsupportedPlatformError where nothing of ours can work: on Windows, which has no locks of folders."""
    if _fcntl is None:
        raise UnsupportedPlatformError(
            f"{platform.system() or sys.platform} is not supported: files cannot be locked as on Linux and macOS; "
            "use model-trainer in WSL 2, in a virtual machine or in a container"
        )


def lock(fd: int, *, shared: bool = False, wait: bool = True) -> None:
    """Take the lock of an open file or folder, which ends with the process at the latest.

    Raises BlockingIOError where another process holds it and `wait` is false, and UnsupportedPlatformError.
    """
    check_platform()
    _fcntl.flock(fd, (_fcntl.LOCK_SH if shared else _fcntl.LOCK_EX) | (0 if wait else _fcntl.LOCK_NB))


def peak_memory() -> int | None:
    """Return the most bytes of memory that this process has had, or None where the system does not count them."""
    if _resource is None:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return int(_resource.getrusage(_resource.RUSAGE_SELF).ru_maxrss) * unit


def group_number(name: str) -> int:
    """Return the number of a group of users. Raises KeyError where this machine has no such group."""
    if _grp is None:
        raise KeyError(name)
    return int(_grp.getgrnam(name).gr_gid)
