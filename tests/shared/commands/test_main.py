"""What all command lines do when their command ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from joblib import Parallel, delayed

from shared.commands.main import run
from shared.errors import DataError


def _interrupted(error: BaseException, ended: list[int]) -> Callable[[], None]:
    """Return a command that raises `error` while joblib's threads are at work."""

    def work(item: int) -> None:
        time.sleep(0.2)
        ended.append(item)

    def command() -> None:
        for _ in Parallel(2, prefer="threads", return_as="generator")(delayed(work)(item) for item in range(50)):
            raise error

    return command


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "code"), [(SystemExit(143), 143), (KeyboardInterrupt(), 130), (DataError("clip.wav: is silent"), 3)]
)
def test_no_thread_of_joblib_outlives_a_command_that_ends_early(error: BaseException, code: int) -> None:
    before, ended = set(threading.enumerate()), list[int]()
    assert run(_interrupted(error, ended)) == code
    assert not [one for one in threading.enumerate() if one not in before and "worker" in one.name]
    assert 0 < len(ended) < 50
