"""Promotion, rollback, archiving, erasure, clean-up, doctor and the journal."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, tzinfo
from pathlib import Path

import pytest

from model_registry.errors import ConflictError, CorruptError, NotFoundError, StorageError
from model_registry.storage import history
from model_registry.store import Registry
from tests.model_registry.bundles import all_bytes, make_bundle, make_encoder


@pytest.fixture
def store(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


def publish(store: Registry, out: Path, *runs: str, user: str = "user123", promote: bool = True) -> None:
    for run in runs:
        store.publish(make_bundle(out, user=user, run=run), promote=promote)


def status(store: Registry, user: str = "user123") -> dict[str, str]:
    return {entry.model_version: entry.status for entry in store.entries(user=user)}


def test_rollback_goes_back_one_more_each_time(store: Registry, tmp_path: Path) -> None:
    publish(store, tmp_path, "r1", "r2", "r3")
    assert store.rollback("user123", "gesture", "worse at home") == (3, 2)
    assert store.rollback("user123", "gesture", "worse still") == (2, 1)
    assert status(store) == {"v1": "active", "v2": "archived", "v3": "archived"}
    with pytest.raises(ConflictError, match="no version was active before v1"):
        store.rollback("user123", "gesture", "again")
    publish(store, tmp_path, "r4")
    assert store.rollback("user123", "gesture", "no") == (4, 1)
    assert [event.reason for event in store.show("user123", "gesture", 2).events if event.event == "rollback"] == [
        "worse at home"
    ]


def test_rollback_passes_over_archived_versions(store: Registry, tmp_path: Path) -> None:
    publish(store, tmp_path, "r1", "r2", "r3")
    store.archive("user123", "gesture", "v2", "mislabelled")
    assert store.rollback("user123", "gesture", "worse") == (3, 1)


def test_rollback_passes_over_removed_versions(store: Registry, tmp_path: Path) -> None:
    publish(store, tmp_path, "r1", "r2", "r3", "r4")
    assert store.gc(1).versions == ("user123/gesture v1", "user123/gesture v2")
    assert store.rollback("user123", "gesture", "worse") == (4, 3)
    with pytest.raises(ConflictError, match="no version was active before v3"):
        store.rollback("user123", "gesture", "again")


def test_a_version_that_was_active_twice_is_gone_back_to_once(store: Registry, tmp_path: Path) -> None:
    publish(store, tmp_path, "r1", "r2", "r3")
    store.promote("user123", "gesture", 1)
    assert store.rollback("user123", "gesture", "worse") == (1, 3)
    assert store.rollback("user123", "gesture", "worse") == (3, 2)
    with pytest.raises(ConflictError, match="no version was active before v2"):
        store.rollback("user123", "gesture", "again")


def test_a_rollback_after_a_withdrawal_returns_nothing_that_was_withdrawn(store: Registry, tmp_path: Path) -> None:
    publish(store, tmp_path, "r1", "r2")
    store.archive("user123", "gesture", 2, "harmful", withdraw=True)
    with pytest.raises(ConflictError, match="no version is active"):
        store.rollback("user123", "gesture", "worse")
    publish(store, tmp_path, "r3")
    assert store.rollback("user123", "gesture", "worse") == (3, 1)


@pytest.mark.parametrize("operation", ["promote", "rollback", "archive", "withdraw"])
def test_a_disk_that_fails_while_recording_leaves_everything_as_it_was(
    store: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    publish(store, tmp_path, "r1", "r2")
    acts: dict[str, Callable[[], object]] = {
        "promote": lambda: store.promote("user123", "gesture", 1),
        "rollback": lambda: store.rollback("user123", "gesture", "worse"),
        "archive": lambda: store.archive("user123", "gesture", 1),
        "withdraw": lambda: store.archive("user123", "gesture", 2, withdraw=True),
    }
    before = all_bytes(store.root)

    def full(paths: Iterable[Path]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(history, "sync_files", full)
        with pytest.raises(StorageError, match="make room"):
            acts[operation]()
    assert all_bytes(store.root) == before
    acts[operation]()
    assert store.doctor() == [] and not store.reindex()


def test_the_pointer_says_since_when_its_version_is_active(store: Registry, tmp_path: Path) -> None:
    publish(store, tmp_path, "r1", "r2")
    store.rollback("user123", "gesture", "worse")
    publish(store, tmp_path, "r3", promote=False)
    times = [event.time for event in store.history("user123", "gesture")]
    pointer = json.loads((store.root / "users/user123/gesture/active.json").read_text())
    assert (pointer["version"], pointer["since"]) == (1, times[2])


@pytest.mark.parametrize(("promote", "expected"), [(True, "active"), (False, "candidate")])
def test_a_publication_that_was_interrupted_keeps_its_status(
    store: Registry, tmp_path: Path, promote: bool, expected: str
) -> None:
    publish(store, tmp_path, "r1")
    publish(store, tmp_path, "r2", promote=promote)
    folder = store.root / "users/user123/gesture"
    lines = (folder / "history.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "history.jsonl").write_bytes(lines[0])  # as if killed before the event was written
    assert all(finding.mended for finding in store.doctor()) and store.doctor() == []
    assert status(store)["v2"] == expected
    assert store.resolve("user123", "gesture").version == (2 if promote else 1)


def test_a_lost_event_of_an_older_version_does_not_make_it_active(store: Registry, tmp_path: Path) -> None:
    publish(store, tmp_path, "r1", "r2", "r3")
    path = store.root / "users/user123/gesture/history.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[2])
    assert [finding.mended for finding in store.doctor()] == [False], "the third line covers the second"
    path.unlink()
    assert all(finding.mended for finding in store.doctor())
    assert store.resolve("user123", "gesture").version == 3
    assert status(store)["v3"] == "active" and status(store)["v2"] != "active"


def test_the_journal_stays_in_order_where_the_clock_goes_back(
    store: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(store, tmp_path, "r1")

    class Earlier(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime(2020, 1, 1, tzinfo=UTC)

    monkeypatch.setattr(history, "datetime", Earlier)
    publish(store, tmp_path, "r2", "r3")
    times = [event.time for event in store.history("user123", "gesture")]
    assert times == sorted(set(times)) and len(times) == 3
    assert not store.reindex()


def test_promote_changes_what_resolve_returns_and_is_idempotent(store: Registry, tmp_path: Path) -> None:
    publish(store, tmp_path, "r1", "r2")
    publish(store, tmp_path, "r3", promote=False)
    assert store.promote("user123", "gesture", "v3", "checked by hand") == 2
    assert store.resolve("user123", "gesture").version == 3
    before = all_bytes(store.root)
    assert store.promote("user123", "gesture", 3) == 3
    assert all_bytes(store.root) == before
    with pytest.raises(NotFoundError, match="v9: no such version"):
        store.promote("user123", "gesture", 9)


def test_a_damaged_version_is_neither_promoted_nor_rolled_back_to(store: Registry, tmp_path: Path) -> None:
    publish(store, tmp_path, "r1", "r2")
    (store.root / "users/user123/gesture/v1/gesture_model_user123_v1.onnx").write_bytes(b"x")
    with pytest.raises(CorruptError):
        store.promote("user123", "gesture", 1)
    with pytest.raises(CorruptError):
        store.rollback("user123", "gesture", "worse")
    assert store.resolve("user123", "gesture").version == 2


def test_the_active_version_is_archived_only_on_purpose(store: Registry, tmp_path: Path) -> None:
    publish(store, tmp_path, "r1", user="_default")
    publish(store, tmp_path, "r1")
    with pytest.raises(ConflictError, match="is active"):
        store.archive("user123", "gesture", 1)
    store.archive("user123", "gesture", 1, "harmful", withdraw=True)
    assert status(store) == {"v1": "archived"}
    assert store.resolve("user123", "gesture").fallback
    publish(store, tmp_path, "r2")
    assert store.resolve("user123", "gesture").version == 2


def test_diff_lists_metrics_labels_and_settings_that_changed(store: Registry, tmp_path: Path) -> None:
    publish(store, tmp_path, "r1")
    store.publish(
        make_bundle(
            tmp_path,
            run="r2",
            labels=["drink", "go"],
            metrics={"accuracy": 0.95},
            example_count=80,
            config={"seed": 1, "head": {"alpha": 2}},
        )
    )
    found = store.diff("user123", "gesture", "v1", "v2")
    assert found.metrics == {"accuracy": (0.91, 0.95), "f1_macro": (0.9, None)}
    assert (found.labels_gained, found.labels_lost) == (("go",), ("stop", "très"))
    assert found.config["seed"] == (0, 1) and found.config["head.alpha"] == (None, 2)
    assert found.facts == {"examples": ("60", "80")}
    assert found.sessions == {}, "the first log does not say"
    publish(store, tmp_path, "r3")
    more = make_bundle(tmp_path, run="r4", log={"timeline": [{"session_id": "s1", "samples": 5}]})
    last = make_bundle(
        tmp_path,
        run="r5",
        log={"timeline": [{"session_id": "s1", "samples": 5}, {"session_id": "s2", "samples": 7}]},
    )
    store.publish(more)
    store.publish(last)
    assert store.diff("user123", "gesture", "v4", "v5").sessions == {"s2": (0, 7)}


def test_the_journal_is_rebuilt_byte_for_byte(store: Registry, tmp_path: Path) -> None:
    for user in ("anna", "ben"):
        publish(store, tmp_path, "r1", "r2", "r3", user=user)
    store.rollback("anna", "gesture", "worse")
    publish(store, tmp_path, "r4", user="anna", promote=False)
    store.archive("ben", "gesture", 1)
    store.promote("ben", "gesture", 1)
    path = store.root / "model_registry.jsonl"
    before = path.read_bytes()
    assert not store.reindex()
    path.unlink()
    assert store.reindex()
    assert path.read_bytes() == before
    assert len(before.splitlines()) == 15


def test_erasure_leaves_no_byte_of_the_person(store: Registry, tmp_path: Path) -> None:
    publish(store, tmp_path, "r1", "r2", user="anna-muster")
    publish(store, tmp_path, "r1", user="ben")
    store.publish(make_bundle(tmp_path, user="anna-muster", modality="smell", run="r9", labels=["secretlabel"]))
    bens = {path: data for path, data in all_bytes(store.root).items() if "ben" in path}
    tombstone = store.erase("anna-muster", "asked for by the family")
    assert tombstone.versions == 3
    left = all_bytes(store.root)
    assert not [path for path, data in left.items() if "anna-muster" in path or b"anna-muster" in data]
    assert not [path for path, data in left.items() if b"secretlabel" in data or b"model of r2" in data]
    assert bens == {path: data for path, data in left.items() if "ben" in path} != {}
    assert json.loads(left["tombstones.jsonl"])["reason"] == "asked for by the family"
    assert not store.reindex() and store.doctor() == []
    with pytest.raises(NotFoundError):
        store.resolve("anna-muster", "gesture")
    again = store.erase("anna-muster", "again")
    assert (again.versions, again.id) == (0, tombstone.id), "repeating it changes nothing"
    assert all_bytes(store.root) == left


def test_the_reason_of_an_erasure_may_not_name_the_person(store: Registry, tmp_path: Path) -> None:
    publish(store, tmp_path, "r1", user="anna")
    with pytest.raises(ConflictError, match="without saying who"):
        store.erase("anna", "Anna moved away")
    assert store.resolve("anna", "gesture").version == 1


def test_gc_keeps_the_active_version_and_the_newest_archived(store: Registry, tmp_path: Path) -> None:
    ref = make_encoder(tmp_path)
    store.publish(make_bundle(tmp_path, modality="speech", encoder_refs=[ref]))
    store.publish(make_bundle(tmp_path, modality="speech", run="plain"))
    publish(store, tmp_path, "r1", "r2", "r3", "r4")
    publish(store, tmp_path, "r5", promote=False)
    before = all_bytes(store.root)
    planned = store.gc(1, dry_run=True)
    assert all_bytes(store.root) == before
    assert planned.versions == ("user123/gesture v1", "user123/gesture v2") and planned.encoders == ()
    assert store.gc(1) == planned
    left = [(entry.modality, entry.model_version, entry.status) for entry in store.entries()]
    assert left == [
        ("gesture", "v3", "archived"),
        ("gesture", "v4", "active"),
        ("gesture", "v5", "candidate"),
        ("speech", "v1", "archived"),
        ("speech", "v2", "active"),
    ]
    assert not store.reindex() and store.doctor() == []
    assert store.gc(0, dry_run=True).encoders == (ref["sha256"],)
    assert store.gc(0).encoders == (ref["sha256"],)
    assert list((store.root / "encoders").iterdir()) == []
    publish(store, tmp_path, "r6")
    assert store.resolve("user123", "gesture").version == 6
    with pytest.raises(NotFoundError):
        store.resolve("user123", "gesture", 1)


def test_a_number_is_never_given_twice(store: Registry, tmp_path: Path) -> None:
    publish(store, tmp_path, "r1", "r2")
    store.archive("user123", "gesture", 2, withdraw=True)
    store.gc(0)
    publish(store, tmp_path, "r3")
    assert status(store) == {"v3": "active"}


def test_a_run_removed_by_gc_can_be_published_again(store: Registry, tmp_path: Path) -> None:
    publish(store, tmp_path, "r1", "r2")
    store.gc(0)
    again = store.publish(tmp_path / "gesture_user123_r1")
    assert (again.version, again.created) == (3, True)


def test_doctor_mends_what_is_missing(store: Registry, tmp_path: Path) -> None:
    publish(store, tmp_path, "r1", "r2", "r3")
    folder = store.root / "users/user123/gesture"
    (folder / ".staging-0123").mkdir()
    (folder / ".staging-0123/model").write_bytes(b"half")
    (folder / ".active.json.tmp").write_text("{")
    (store.root / "users/ghost/sound").mkdir(parents=True)
    journal = store.root / "model_registry.jsonl"
    good = journal.read_bytes()
    journal.write_bytes(good[good.index(b"\n") + 1 :])
    found = store.doctor()
    assert len(found) == 5 and all(finding.mended for finding in found), found
    assert journal.read_bytes() == good
    assert sorted(path.name for path in folder.iterdir()) == ["active.json", "history.jsonl", "v1", "v2", "v3"]
    assert not (store.root / "users/ghost").exists()
    assert store.doctor() == []


def test_doctor_points_back_where_the_active_version_is_missing(store: Registry, tmp_path: Path) -> None:
    publish(store, tmp_path, "r1", "r2", "r3")
    for gone in ("v3", "v2"):
        (store.root / f"users/user123/gesture/{gone}").rename(tmp_path / gone)
    with pytest.raises(NotFoundError):
        store.resolve("user123", "gesture")
    assert [finding.what.split(": ", 1)[1] for finding in store.doctor()][:2] == [
        "its folder is missing; v1 is active",
        "its folder is missing; v1 is active",
    ]
    assert store.resolve("user123", "gesture").version == 1
    assert store.doctor() == [] and not store.reindex()


def test_doctor_rebuilds_a_lost_pointer_and_a_lost_history(store: Registry, tmp_path: Path) -> None:
    publish(store, tmp_path, "r1", "r2")
    folder = store.root / "users/user123/gesture"
    (folder / "active.json").write_text("{}")
    assert [finding.mended for finding in store.doctor()] == [True]
    assert store.resolve("user123", "gesture").version == 2
    (folder / "history.jsonl").unlink()
    assert all(finding.mended for finding in store.doctor())
    assert store.resolve("user123", "gesture").version == 2
    assert status(store) == {"v1": "candidate", "v2": "active"}, "that v1 was active once is lost"


def test_what_was_rolled_back_or_withdrawn_stays_so_where_the_history_is_lost(store: Registry, tmp_path: Path) -> None:
    publish(store, tmp_path, "r1", "r2", "r3")
    store.rollback("user123", "gesture", "harmful")
    history = store.root / "users/user123/gesture/history.jsonl"
    history.unlink()
    assert all(finding.mended for finding in store.doctor())
    assert store.resolve("user123", "gesture").version == 2
    store.archive("user123", "gesture", 2, withdraw=True)
    history.unlink()
    assert all(finding.mended for finding in store.doctor())
    assert "active" not in status(store).values()


def test_doctor_reports_what_it_cannot_mend(store: Registry, tmp_path: Path) -> None:
    ref = make_encoder(tmp_path)
    store.publish(make_bundle(tmp_path, modality="speech", encoder_refs=[ref]))
    (store.root / "encoders" / ref["sha256"]).rename(tmp_path / "away")
    publish(store, tmp_path, "r1")
    history = store.root / "users/user123/gesture/history.jsonl"
    history.write_text("nonsense\n" + history.read_text())
    found = store.doctor()
    assert [finding.mended for finding in found] == [False] * 2
    assert "history.jsonl:2" in found[0].what and "minilm" in found[1].what


def test_a_torn_last_line_is_no_event(store: Registry, tmp_path: Path) -> None:
    publish(store, tmp_path, "r1")
    for name in ("users/user123/gesture/history.jsonl", "model_registry.jsonl"):
        with (store.root / name).open("ab") as file:
            file.write(b'{"time":"20')
    assert store.resolve("user123", "gesture").version == 1
    publish(store, tmp_path, "r2")
    assert store.doctor() == []
    assert status(store) == {"v1": "archived", "v2": "active"}
