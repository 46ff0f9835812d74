"""A trainer that stays: it takes jobs on standard input and writes results to standard output, one line each.

A job is `{"args": ["--user", "ana", …]}`, the words of a command line; the result is what that command would have
printed, the training log entry, with the `exit_code` that it would have ended with. Progress goes to standard error
as ever. The end of standard input is the end of the worker.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from typing import Any, TextIO


def serve(command: Callable[[Sequence[str]], int], jobs: Iterable[str], results: TextIO) -> int:
    """Run `command` for each line of `jobs` and write a line to `results`; return the worker's own exit code."""
    for line in jobs:
        try:
            words = [str(word) for word in json.loads(line)["args"]]
        except (ValueError, KeyError, TypeError) as error:
            message = f'a job is a line such as {{"args": ["--user", "ana"]}}: {error}'
            result: dict[str, Any] = {"status": "failure", "error_type": "UsageError", "error_message": message}
            exit_code = 2
        else:
            printed = io.StringIO()
            with redirect_stdout(printed):
                exit_code = command(words)
            result = _entry(printed.getvalue())
        results.write(json.dumps({**result, "exit_code": exit_code}, ensure_ascii=False) + "\n")
        results.flush()
    return 0


def _entry(printed: str) -> dict[str, Any]:
    """Return the training log entry, which is the last line: a library may have printed before."""
    try:
        entry = json.loads(printed.strip().rsplit("\n", 1)[-1])
    except ValueError:
        entry = None
    missing = {"status": "failure", "error_type": "InternalError", "error_message": "no training log entry was printed"}
    return entry if isinstance(entry, dict) else missing
