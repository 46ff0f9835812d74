"""A process that kills itself at its n-th call that changes the disk."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from typing import Any

CHANGING = ("open", "write", "mkdir", "rename", "replace", "unlink", "rmdir", "ftruncate", "truncate", "chmod", "fsync")


def changes(act: Callable[[], object]) -> list[str]:
    """Return the names of the calls that change the disk while `act` runs to its end in a child process."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        names: list[str] = []
        put_fault_points(lambda name, *_: names.append(name))
        try:
            act()
            os.close(reader)
            with os.fdopen(writer, "w") as file:
                file.write("\n".join(names))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        text = file.read()
    os.waitpid(child, 0)
    return text.split("\n") if text else []


def killed(act: Callable[[], object], at: int, half: bool) -> None:
    """Run `act` in a child process that is killed before its call number `at`; with `half`, amid a write."""
    child = os.fork()
    if child == 0:
        count = 0

        def strike(name: str, real: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
            nonlocal count
            if count == at:
                if half and name == "write":
                    real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1

        put_fault_points(strike)
        try:
            act()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, f"not killed at call {at}"


def filled(act: Callable[[], object], at: int) -> str:
    """Run `act` in a child process whose disk is full from its call number `at` on; return how `act` ended.

    On a full disk nothing is created and nothing written, but everything else works. What is returned is the name of
    the error's class, or an empty text.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        count = 0

        def strike(name: str, real: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
            nonlocal count
            count += 1
            if count > at and name in ("open", "write", "mkdir"):
                raise OSError(errno.ENOSPC, "No space left on device")

        write = os.write
        put_fault_points(strike)
        try:
            act()
        except BaseException as error:  # whatever it is, the test shall see it
            write(writer, type(error).__name__.encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as file:
        return file.read()


def put_fault_points(strike: Callable[..., object]) -> None:
    """Call `strike(name, real function, arguments)` before every call of `os` that changes the disk."""

    def wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if name != "open" or (len(arguments) > 1 and arguments[1] & os.O_CREAT):
                strike(name, real, arguments)
            return real(*arguments, **options)

        return call

    for name in CHANGING:
        setattr(os, name, wrapped(name, getattr(os, name)))
