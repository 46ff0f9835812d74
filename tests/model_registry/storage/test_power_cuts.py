"""What survives a power cut: every operation syncs all that it changed, in an order that loses nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from model_registry.storage.encoders import copy_encoder
from model_registry.storage.tokens import add_token, remove_token, tokens_file
from model_registry.store import Registry
from shared.data.changes import note_import, read_changes
from shared.data.session_writer import Addition, write_new_sessions, write_session, writing
from shared.schema_utils import Example, FileRef, SessionMetadata
from tests.model_registry.bundles import make_bundle, make_encoder
from tests.model_registry.tracing import traced
from tests.shared.packaging.test_bundle import _write as write_a_bundle

SLOT = ("user123", "gesture")


def damage(store: Registry) -> None:
    """Leave what crashes leave: a pointer that is gone, half a journal, a version without its event."""
    folder = store.root / "users/user123/gesture"
    (folder / "active.json").unlink()
    (store.root / "model_registry.jsonl").write_bytes(b"")
    history = folder / "history.jsonl"
    history.write_bytes(b"".join(history.read_bytes().splitlines(keepends=True)[:-1]))


def mended(store: Registry, out: Path) -> None:
    damage(store)
    assert store.doctor()


OPERATIONS: dict[str, Callable[[Registry, Path], object]] = {
    "create": lambda store, out: Registry(out / "deep" / "new").created(),
    "publish": lambda store, out: store.publish(out / "gesture_user123_new"),
    "publish a candidate": lambda store, out: store.publish(out / "gesture_user123_new", promote=False),
    "publish with an encoder": lambda store, out: store.publish(out / "speech_user123_new"),
    "publish for a new user": lambda store, out: store.publish(out / "gesture_other_new"),
    "promote": lambda store, out: store.promote(*SLOT, 1),
    "rollback": lambda store, out: store.rollback(*SLOT, "worse"),
    "archive": lambda store, out: store.archive(*SLOT, 1),
    "withdraw": lambda store, out: store.archive(*SLOT, 3, withdraw=True),
    "erase": lambda store, out: store.erase("user123", "asked for"),
    "gc": lambda store, out: store.gc(0),
    "doctor": mended,
    "export": lambda store, out: store.export(*SLOT, out / "version.tar", form="tar"),
    "restore": lambda store, out: Registry(out / "restored").restore(out / "backup.tar"),
    "fetch": lambda store, out: store.fetch(*SLOT, out / "fetched"),
    "add a token": lambda store, out: add_token(tokens_file(store.root), "reader", ("read",)),
    "remove a token": lambda store, out: remove_token(tokens_file(store.root), "known"),
    "copy an encoder": lambda store, out: copy_encoder(next((out / "encoders").iterdir()), out / "copies"),
}


@pytest.fixture
def store(tmp_path: Path) -> Registry:
    """A registry with three versions, and beside it what the operations take."""
    store = Registry(tmp_path / "registry")
    for run in ("r1", "r2", "r3"):
        store.publish(make_bundle(tmp_path, run=run))
    make_bundle(tmp_path, run="new")
    make_bundle(tmp_path, user="other", run="new")
    make_bundle(tmp_path, modality="speech", run="new", encoder_refs=[make_encoder(tmp_path)])
    store.export(*SLOT, tmp_path / "backup.tar", form="tar")
    add_token(tokens_file(store.root), "known", ("read",))
    return store


@pytest.mark.parametrize("operation", OPERATIONS)
def test_all_that_an_operation_changed_is_synced_when_it_returns(
    store: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    with traced(tmp_path, monkeypatch) as trace:
        OPERATIONS[operation](store, tmp_path)
    assert trace.changes
    assert trace.unsynced() == []


def test_a_version_has_its_name_before_its_event_and_its_event_before_its_pointer(
    store: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with traced(tmp_path, monkeypatch) as trace:
        store.publish(tmp_path / "gesture_user123_new")
    slot = "users/user123/gesture"
    trace.order(
        ("rename", f"{slot}/v4"),
        ("sync", slot),
        ("write", f"{slot}/history.jsonl"),
        ("sync", f"{slot}/history.jsonl"),
        ("rename", f"{slot}/active.json"),
        ("sync", slot),
    )
    staged = {change.path for change in trace.changes if change.kind == "sync" and "/.staging-" in str(change.path)}
    assert len(staged) == 9  # eight files and their folder, before the rename


@pytest.mark.parametrize("operation", ["promote", "rollback"])
def test_the_pointer_moves_after_its_event_is_synced(
    store: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    with traced(tmp_path, monkeypatch) as trace:
        OPERATIONS[operation](store, tmp_path)
    slot = "users/user123/gesture"
    trace.order(("sync", f"{slot}/history.jsonl"), ("rename", f"{slot}/active.json"), ("sync", slot))


def test_an_erasure_takes_the_name_away_before_it_removes_anything(
    store: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with traced(store.root, monkeypatch) as trace:
        store.erase("user123", "asked for")
    kinds = [change.kind for change in trace.changes]
    before = {change.path for change in trace.changes[: kinds.index("remove")] if change.kind == "sync"}
    assert {store.root / "users", store.root / "tombstones.jsonl"} <= before


def _sounds(session: str, count: int) -> list[Addition]:
    return [
        Addition(
            Example(
                record_id=f"{session}-r{number}",
                user_id="ana",
                session_id=session,
                timestamp=datetime(2026, 3, 1, tzinfo=UTC),
                modality="sound",
                label="yes",
                consent_given=True,
                media=FileRef(path=f"media/{number}.wav", sha256="0" * 64),
            ),
            b"sound",
        )
        for number in range(count)
    ]


def _session(out: Path, count: int) -> None:
    metadata = SessionMetadata(user_id="ana", session_id="s1")
    additions = _sounds("s1", count)
    with writing(out):
        write_session(out, metadata, [a.example for a in additions[:-1]], additions[-1:])


def _new_sessions(out: Path) -> None:
    with writing(out):
        names = ("s1", "s2", "s3")
        contents = [(SessionMetadata(user_id="ana", session_id=name), _sounds(name, 2)) for name in names]
        write_new_sessions(out, "ana", contents)


def _imported(out: Path) -> None:
    note_import(out, "ana", "20260301-import", "source", (), [addition.example for addition in _sounds("s1", 3)])
    (change,) = read_changes(out, "ana")
    assert [example.record_id for example in change.after] == ["s1-r0", "s1-r1", "s1-r2"]


WRITERS: dict[str, Callable[[Path], object]] = {
    "write_bundle": lambda out: write_a_bundle(out / "bundles"),
    "write_session": lambda out: _session(out, 1),
    "write_new_sessions": _new_sessions,
    "note_import": _imported,
    "extend a session": lambda out: (_session(out, 1), _session(out, 2)),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_each_writer_of_data_syncs_content_and_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str
) -> None:
    (tmp_path / "old.txt").write_bytes(b"old")
    (tmp_path / "other").mkdir()
    with traced(tmp_path, monkeypatch) as trace:
        WRITERS[writer](tmp_path)
    assert trace.changes
    assert trace.unsynced() == []
