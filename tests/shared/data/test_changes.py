"""Samples are relabelled, moved and removed, and every change can be taken back, also one that was interrupted."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime, tzinfo
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from shared.commands.data import data_group
from shared.data import changes
from shared.errors import ConfigError, DataError
from tests.shared.commands.test_import_data import load, run, tree

SOUNDS = {
    f"{label}/{session}/{label}{k}.wav": f"{label}{session}{k}"
    for label in "ab"
    for session in ("s1", "s2")
    for k in (0, 1)
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name, content in SOUNDS.items():
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    run(tmp_path / "source", tmp_path / "data", "sound", "--user", "anna")
    return tmp_path / "data"


def call(data: Path, command: str, *arguments: str, fails: bool = False) -> Result:
    result = CliRunner().invoke(data_group, [command, "--data", str(data), "--user", "anna", *arguments])
    if not fails:
        assert result.exit_code == 0, result.output + repr(result.exception)
    return result


def sessions(data: Path) -> dict[str, bytes]:
    """Return the content of every file that a reader of the sessions sees."""
    return {name: content for name, content in tree(data).items() if "/sessions/" in name}


def rows(data: Path) -> Counter[tuple[str, str, str]]:
    found: Counter[tuple[str, str, str]] = Counter()
    for sample in load(data, "anna", "sound").samples:
        assert sample.path is not None
        found[sample.label, sample.session_id, sample.path.read_text()] += 1
    return found


ALL = Counter({(name[0], name[2:4], content): 1 for name, content in SOUNDS.items()})


def test_samples_are_listed_by_what_they_are(data: Path) -> None:
    listed = call(data, "list", "--label", "a", "--session", "s1").output
    assert "2 samples" in listed and "a0-" in listed and "b0-" not in listed
    assert "1 samples" in call(data, "list", "--file", "a1-*", "--session", "s2").output
    result = call(data, "list", "--label", "none", fails=True)
    assert isinstance(result.exception, DataError) and "no sample is meant" in str(result.exception)


def test_a_label_is_corrected_and_taken_back(data: Path) -> None:
    before = sessions(data)
    shown = call(data, "relabel", "--label", "b", "--session", "s1", "c", "--dry-run").output
    assert "would be 0 brought back, 2 altered, 0 removed" in shown
    assert sessions(data) == before
    call(data, "relabel", "--label", "b", "--session", "s1", "c")
    assert Counter(label for label, _, _ in rows(data)) == {"a": 4, "b": 2, "c": 2}
    call(data, "undo")
    assert rows(data) == ALL


def test_samples_move_to_another_session_with_their_files(data: Path) -> None:
    call(data, "move", "--session", "s2", "second visit")
    moved = rows(data)
    assert {session[:12] for _, session, _ in moved} == {"s1", "second-visit"}
    assert {content for _, _, content in moved} == set(SOUNDS.values())
    call(data, "undo")
    assert rows(data) == ALL


def test_removed_samples_come_back_and_those_removed_for_good_leave_no_trace(data: Path) -> None:
    call(data, "remove", "--file", "a0-*")
    assert rows(data) == {key: 1 for key in ALL if not (key[0] == "a" and key[2].endswith("0"))}
    call(data, "undo")
    assert rows(data) == ALL
    call(data, "remove", "--file", "a0-*", "--session", "s1")
    call(data, "undo")
    call(data, "remove", "--file", "a0-*", "--for-good")
    assert not [name for name, content in tree(data).items() if b"as10" in content or b"as20" in content]
    assert not [name for name in tree(data) if "/a0-" in name]
    assert not any("media/a0-" in content.decode() for content in tree(data).values())


def test_an_import_is_taken_back_whole(data: Path, tmp_path: Path) -> None:
    before = rows(data)
    (tmp_path / "source" / "a/s1/a0.wav").rename(tmp_path / "source" / "b/s1/a0.wav")
    (tmp_path / "source" / "b/s3").mkdir()
    (tmp_path / "source" / "b/s3/new.wav").write_text("new")
    result = run(tmp_path / "source", data, "sound", "--user", "anna", "--replace")
    assert "1 new, 1 replaced, 7 unchanged" in result.output
    change = result.output.partition(f"model-trainer data undo --data {data} --user anna ")[2].split()[0]
    call(data, "undo", change)
    assert rows(data) == before
    log = call(data, "log").output
    assert f"undoes {change}" in log and "imported from source" in log
    first = log.splitlines()[1].split()[0]
    call(data, "undo", first)
    with pytest.raises(DataError):
        load(data, "anna", "sound")
    assert "8 new" in run(tmp_path / "source", data, "sound", "--user", "anna", "--limit", "8").output


def test_a_change_that_was_changed_again_is_not_undone(data: Path) -> None:
    call(data, "relabel", "--label", "a", "c")
    change = call(data, "log").output.splitlines()[-1].split()[0]
    call(data, "relabel", "--label", "c", "d")
    before = sessions(data)
    result = call(data, "undo", change, fails=True)
    assert isinstance(result.exception, DataError)
    assert f"was changed after {change}; undo the later change first" in str(result.exception)
    assert sessions(data) == before
    call(data, "undo")
    call(data, "undo", change)
    assert rows(data) == ALL


def test_ids_of_changes_sort_by_time_to_the_microsecond(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(datetime):
        ticks = 0

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            cls.ticks += 1
            return datetime(2026, 3, 1, 10, 15, 0, cls.ticks, tz)

    monkeypatch.setattr(changes, "datetime", Clock)
    made = [changes.new_change_id(action) for action in ("remove", "import", "relabel") * 5]
    assert made == sorted(made)


def test_what_cannot_be_done_says_why(data: Path) -> None:
    result = call(data, "remove", fails=True)
    assert result.exit_code == 2 and "choose samples with --record" in result.output
    result = call(data, "undo", "nothing", fails=True)
    assert isinstance(result.exception, ConfigError) and "no change 'nothing' to undo" in str(result.exception)
    result = call(data, "relabel", "--label", "a", "unknown", fails=True)
    assert result.exception is not None and "unknown" in str(result.exception)


class PowerCut(BaseException):
    """Ends a change half way."""


@pytest.mark.parametrize("step", range(1, 8))
def test_a_change_that_was_interrupted_is_completed_by_the_next(
    data: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    done = 0

    def stop(name: str) -> None:
        real = getattr(changes, name)

        def counted(*arguments: object, **options: object) -> object:
            nonlocal done
            done += 1
            if done == step:
                raise PowerCut
            return real(*arguments, **options)

        monkeypatch.setattr(changes, name, counted)

    with monkeypatch.context():
        for name in ("write_session", "put_in_place", "write_file_atomically"):
            stop(name)
        with pytest.raises(PowerCut):
            choice = changes.Choice(sessions=("s2",))
            changes.alter(data, "anna", "move", lambda e: e.model_copy(update={"session_id": "s9"}), choice)
        monkeypatch.undo()
    seen = load(data, "anna", "sound").samples  # a reader sees no record twice
    assert len({sample.record_id for sample in seen}) == len(seen)
    call(data, "relabel", "--label", "a", "c")
    expected = {(label.replace("a", "c"), session, text) for label, session, text in ALL}
    if step > 1:  # it was written down
        expected = {(label, session.replace("s2", "s9"), text) for label, session, text in expected}
    assert rows(data) == Counter(dict.fromkeys(expected, 1))
    assert not list(data.rglob("*.begun.json"))
    examples = [json.loads(line) for path in data.rglob("examples.jsonl") for line in path.read_text().splitlines()]
    assert len(examples) == len(SOUNDS)
