"""What is remembered of files is used only while they are as they were: whoever changed them, and however."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from model_registry.errors import CorruptError, NotFoundError, RegistryError
from model_registry.storage import file_cache
from model_registry.storage.durable import write_file_atomically
from model_registry.storage.file_cache import FileCache, folder_names
from model_registry.storage.verification import Damage
from model_registry.store import Registry
from tests.model_registry.bundles import make_bundle, make_encoder

SETTLED = 0.05  # seconds; the clock's tick has at most 10 ms


@pytest.fixture(autouse=True)
def settled_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_cache, "_SETTLED_SECONDS", SETTLED)


@pytest.fixture
def read_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the files whose content was read since the list was emptied."""
    paths: list[str] = []
    real = file_cache.read_file

    def noted(path: str, limit: int) -> bytes:
        paths.append(path)
        return real(path, limit)

    monkeypatch.setattr(file_cache, "read_file", noted)
    return paths


def settle() -> None:
    time.sleep(SETTLED + 0.05)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"!")


def write_over(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"two")


def write_over_and_set_the_time_back(path: Path) -> None:
    before = path.stat()
    write_over(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path: Path) -> None:
    write_file_atomically(path, b"two")


@pytest.mark.parametrize("change", [append, write_over, write_over_and_set_the_time_back, replace])
def test_a_file_that_was_changed_is_read_again(
    tmp_path: Path, read_files: list[str], change: Callable[[Path], None]
) -> None:
    path, cache = tmp_path / "file", FileCache[bytes](10)
    path.write_bytes(b"one")
    settle()
    assert [cache.read(str(path), 100, bytes) for _ in range(2)] == [b"one", b"one"]
    assert len(read_files) == 1
    change(path)
    assert cache.read(str(path), 100, bytes) == path.read_bytes() != b"one"
    path.unlink()
    with pytest.raises(NotFoundError):
        cache.read(str(path), 100, bytes)


def test_a_file_that_has_not_settled_is_read_each_time(tmp_path: Path, read_files: list[str]) -> None:
    """Two changes within a tick of the clock leave the times as they were."""
    path, cache = tmp_path / "file", FileCache[bytes](10)
    path.write_bytes(b"one")
    for _ in range(2):
        cache.read(str(path), 100, bytes)
    assert len(read_files) == 2


def test_a_cache_keeps_the_files_that_were_added_last(tmp_path: Path, read_files: list[str]) -> None:
    cache = FileCache[bytes](2)
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path in paths:
        path.write_bytes(b"one")
    settle()
    for path in paths:
        cache.read(str(path), 100, bytes)
    read_files.clear()
    for path in reversed(paths):
        cache.read(str(path), 100, bytes)
    assert read_files == [str(tmp_path / "a")]


def test_names_in_a_folder_are_those_of_now(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    assert folder_names(folder) == ()
    for name in ("b", "a"):
        (folder / name).mkdir(parents=True)
        settle()
        for _ in range(2):
            assert folder_names(folder) == tuple(sorted(path.name for path in folder.iterdir()))
    (folder / "a").rename(folder / "c")
    assert folder_names(folder) == ("b", "c")
    (folder / "b").rmdir()
    assert folder_names(folder) == ("c",)


@pytest.mark.slow
def test_what_another_process_does_is_seen_at_once(tmp_path: Path, read_files: list[str]) -> None:
    store = Registry(tmp_path / "registry")
    for run in ("r1", "r2"):
        store.publish(make_bundle(tmp_path, run=run))
    third = make_bundle(tmp_path, run="r3", user="anna")

    def state() -> list[tuple[str, str, str]]:
        return [(entry.user_id, entry.model_version, entry.status) for entry in store.entries()]

    for command, expected in (
        (["promote", "user123", "gesture", "v1"], {"v1": "active", "v2": "archived"}),
        (["publish", str(third)], {"v1": "active", "v2": "archived"}),
        (["rollback", "user123", "gesture", "--reason", "worse"], {"v1": "archived", "v2": "active"}),
        (["erase", "user123", "--reason", "withdrawn", "--yes"], {}),
    ):
        settle()
        for _ in range(2):
            read_files.clear()
            assert state()
        assert not read_files, command
        subprocess.run(
            [sys.executable, "-m", "model_registry", *command, "--registry", str(store.root)],
            check=True,
            capture_output=True,
        )
        assert {version: status for user, version, status in state() if user == "user123"} == expected, command
        assert any(user == "anna" for user, _, _ in state()) == (command[0] != "promote"), command
        active = next((version for version, status in expected.items() if status == "active"), None)
        if active is None:
            with pytest.raises(NotFoundError):
                store.resolve("user123", "gesture")
        else:
            assert store.resolve("user123", "gesture").entry.model_version == active


@pytest.mark.slow
def test_a_bit_that_flips_in_any_remembered_file_is_noticed(tmp_path: Path) -> None:
    store = Registry(tmp_path / "registry")
    store.publish(make_bundle(tmp_path, modality="speech", encoder_refs=[make_encoder(tmp_path)]))
    resolved = store.resolve("user123", "speech")
    files = [*resolved.folder.iterdir(), resolved.folder.parent / "history.jsonl"]
    files += [path for folder in resolved.encoders.values() for path in folder.iterdir()]
    assert len(files) > 9
    for path in files:
        settle()
        for _ in range(2):
            store.resolve("user123", "speech")
            assert list(store.entries())
        whole = path.read_bytes()
        path.write_bytes(whole[:-30] + bytes([whole[-30] ^ 1]) + whole[-29:] if len(whole) > 40 else b"\0" * len(whole))
        with pytest.raises(RegistryError):
            store.verify("user123", "speech", 1)
        if path.name in ("history.jsonl", "manifest.json", "registry_entry.json"):
            damaged: list[Damage] = []
            assert not list(store.entries(on_damage=damaged.append)) and damaged, path.name
            with pytest.raises(CorruptError):
                store.show("user123", "speech", 1)
        path.write_bytes(whole)
