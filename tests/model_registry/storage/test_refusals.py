"""Input and folders that are refused in one clear line, with nothing changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from model_registry.commands.main import registry as command
from model_registry.errors import InvalidNameError, RefusedBundleError, RegistryError, StorageError
from model_registry.store import Registry
from tests.model_registry.bundles import all_bytes, make_bundle


@pytest.fixture
def store(tmp_path: Path) -> Registry:
    store = Registry(tmp_path / "registry")
    for run in ("r1", "r2"):
        store.publish(make_bundle(tmp_path, user="ana", run=run))
    return store


@pytest.mark.parametrize(
    "reason", ["x" * 501, "\udcff", "\x1b[2J"], ids=["too long", "not UTF-8", "control characters"]
)
def test_a_reason_that_cannot_be_kept_is_a_usage_error(store: Registry, tmp_path: Path, reason: str) -> None:
    bundle = make_bundle(tmp_path, user="ana", run="r3")
    before = all_bytes(store.root)
    for act in (
        lambda: store.promote("ana", "gesture", 1, reason),
        lambda: store.rollback("ana", "gesture", reason),
        lambda: store.archive("ana", "gesture", 1, reason),
        lambda: store.erase("ana", reason),
        lambda: store.publish(bundle, reason=reason),
    ):
        with pytest.raises(InvalidNameError, match="reason"):
            act()
    assert all_bytes(store.root) == before
    words = ["rollback", "ana", "gesture", "--reason", reason, "--registry", str(store.root)]
    assert CliRunner().invoke(command, words).exit_code == 2


@pytest.mark.parametrize("user", ["con", "AUX", "aux.txt", "lpt1.x"])
def test_a_name_that_some_systems_reserve_is_not_published(store: Registry, tmp_path: Path, user: str) -> None:
    with pytest.raises(RefusedBundleError, match="some systems reserve"):
        store.publish(make_bundle(tmp_path, user=user))
    assert not (store.root / "users" / user).exists()


def test_names_that_differ_in_capitals_only_are_not_published(store: Registry, tmp_path: Path) -> None:
    with pytest.raises(RefusedBundleError, match="differs from ana in capitals only"):
        store.publish(make_bundle(tmp_path, user="Ana"))
    assert store.publish(make_bundle(tmp_path, user="Anabel")).version == 1


def test_who_has_such_a_name_already_keeps_it(store: Registry, tmp_path: Path) -> None:
    (store.root / "users/ana").rename(store.root / "users/con")
    store.publish(make_bundle(tmp_path, user="con", modality="sound"))


@pytest.mark.parametrize("place", ["users/ana", "users/ana/gesture"])
def test_publishing_and_erasing_agree_on_a_linked_folder(store: Registry, tmp_path: Path, place: str) -> None:
    (store.root / place).rename(tmp_path / "elsewhere")
    (store.root / place).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RefusedBundleError, match="is a link"):
        store.publish(make_bundle(tmp_path, user="ana", run="r3"))
    store.erase("ana", "asked for")
    assert not (store.root / "users/ana").exists() and not (tmp_path / "elsewhere").exists()


def test_a_clock_at_the_end_of_time_stops_nobody(store: Registry, tmp_path: Path) -> None:
    journal = store.root / "model_registry.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    lines[-1]["recorded_at"] = "9999-12-31T23:59:59.999999Z"
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert store.publish(make_bundle(tmp_path, user="ana", run="r3")).version == 3


@pytest.mark.parametrize("name", ["model_registry.jsonl", "users/ana/gesture/history.jsonl"])
def test_a_linked_journal_or_history_is_not_written_through(store: Registry, tmp_path: Path, name: str) -> None:
    (store.root / name).rename(tmp_path / "elsewhere")
    (store.root / name).symlink_to(tmp_path / "elsewhere")
    before = (tmp_path / "elsewhere").read_bytes()
    with pytest.raises(StorageError if name == "model_registry.jsonl" else RegistryError, match="link"):
        store.rollback("ana", "gesture", "worse")
    assert (tmp_path / "elsewhere").read_bytes() == before
