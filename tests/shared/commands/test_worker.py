"""A trainer that stays answers every job with one line, whatever happens in it."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from shared.commands.train import trainer_main
from shared.commands.worker import serve


def _answers(lines: Sequence[str]) -> list[dict[str, object]]:
    def command(words: Sequence[str]) -> int:
        if words == ["silent"]:
            return 5
        print("a library's chatter")
        print(json.dumps({"status": "success" if words == ["good"] else "failure", "words": list(words)}))
        return 0 if words == ["good"] else 3

    written = io.StringIO()
    assert serve(command, iter(lines), written) == 0
    return [json.loads(line) for line in written.getvalue().splitlines()]


def test_each_job_is_answered_with_its_entry_and_exit_code() -> None:
    assert _answers(['{"args": ["good"], "job": "ana"}\n', '{"args": ["bad", 1]}\n']) == [
        {"status": "success", "words": ["good"], "exit_code": 0},
        {"status": "failure", "words": ["bad", "1"], "exit_code": 3},
    ]


def test_a_line_that_is_no_job_and_a_silent_command_are_failures_of_their_own() -> None:
    answers = _answers(["nonsense\n", "{}\n", "[]\n", '{"args": ["silent"]}\n', '{"args": ["good"]}\n'])
    assert [answer["exit_code"] for answer in answers] == [2, 2, 2, 5, 0]
    assert all(answer["error_message"] for answer in answers[:4])


def test_options_before_worker_hold_for_every_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sound_trainer.train import RECIPE, TRAINER

    jobs = "".join(json.dumps({"args": words}) + "\n" for words in (["--user", "ana"], ["--user", "ben", "--seed=7"]))
    monkeypatch.setattr("sys.stdin", io.StringIO(jobs))
    with pytest.raises(SystemExit) as stop:
        trainer_main(TRAINER, RECIPE, ["--data", str(tmp_path / "none"), "--out", str(tmp_path), "--worker"])
    assert stop.value.code == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(answer["user_id"], answer["exit_code"]) for answer in answers] == [("ana", 3), ("ben", 3)]
    assert all(str(tmp_path / "none") in answer["error_message"] for answer in answers)
