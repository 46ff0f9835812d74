"""Runs a command on a pseudo-terminal, as a person does."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # colours and movements of the cursor


def run_on_terminal(
    command: Sequence[str | Path], columns: int = 80, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Return exit code and output of a command whose input, output and errors are one terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR", "FORCE_COLOR")}
    environment = {**kept, "TERM": "xterm-256color", **(env or {})}
    process = subprocess.Popen(
        list(map(str, command)), stdin=theirs, stdout=theirs, stderr=theirs, cwd=cwd, env=environment
    )
    os.close(theirs)
    output = b""
    try:
        while chunk := os.read(ours, 1 << 16):
            output += chunk
    except OSError:  # how Linux says that nobody writes any longer
        pass
    finally:
        os.close(ours)
    return process.wait(timeout=60), _CONTROL.sub("", output.decode("utf-8", "replace")).replace("\r\n", "\n")
