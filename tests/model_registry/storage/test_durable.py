"""The one module that writes atomically: what a reader, a second process and a failing disk see of it."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from model_registry.errors import NotFoundError, StorageError, UnusablePathError
from model_registry.storage import durable
from model_registry.storage.durable import (
    append_after_last_line,
    append_line,
    check_writable,
    copy_file,
    ensure_folder,
    file_sha256,
    locked,
    open_file,
    path_errors,
    put_files_in_place,
    put_in_place,
    read_file,
    remove_abandoned,
    remove_folder,
    staged_file,
    staged_folder,
    staging_folder,
    storage_errors,
    write_file_atomically,
    write_new,
    write_temporary,
)
from tests.model_registry.tracing import traced


@contextmanager
def failing_writes(monkeypatch: pytest.MonkeyPatch, after: int) -> Iterator[None]:
    """Let the disk be full after so many bytes of each write."""
    real = os.write

    def write(fd: int, data: bytes) -> int:
        real(fd, bytes(data)[:after])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        yield


def test_a_file_is_replaced_whole_and_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for data, mode in ((b"one", 0o644), (b"two", 0o600)):
        write_file_atomically(path, data, mode=mode)
        assert path.read_bytes() == data and path.stat().st_mode & 0o777 == mode
    assert [item.name for item in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("durable", [True, False])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with failing_writes(monkeypatch, 1), pytest.raises(OSError, match="No space"):
        write_file_atomically(path, b"new", durable=durable)
    with pytest.raises(RuntimeError), staged_file(path, durable=durable) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old" and [item.name for item in tmp_path.iterdir()] == ["file"]


def test_a_staged_file_has_its_content_once_it_has_its_name(tmp_path: Path) -> None:
    with staged_file(tmp_path / "file") as file:
        file.write(b"content")
        assert not (tmp_path / "file").exists()
        file.seek(0)
        assert file_sha256(file) == hashlib.sha256(b"content").hexdigest()
    assert (tmp_path / "file").read_bytes() == b"content"
    assert file_sha256(tmp_path / "file") == hashlib.sha256(b"content").hexdigest()


def test_a_new_file_does_not_take_the_place_of_one_that_exists(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("file", "link"):
        with pytest.raises(FileExistsError):
            write_new(tmp_path / name, b"new")
    assert (tmp_path / "file").read_bytes() == b"old" and not (tmp_path / "elsewhere").exists()


def test_a_folder_replaces_the_old_one_or_is_refused_or_not_needed(tmp_path: Path) -> None:
    target = tmp_path / "folder"

    def fill(content: str, **options: object) -> None:
        with staged_folder(target, **options) as folder:  # type: ignore[arg-type]
            (folder / "file").write_text(content)

    fill("one")
    fill("two")
    assert (target / "file").read_text() == "two" and target.stat().st_mode & 0o777 == 0o700
    with pytest.raises(FileExistsError):
        fill("three", replace=False)
    fill("four", needed=lambda: False)
    assert (target / "file").read_text() == "two"
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileExistsError), staged_folder(tmp_path / "empty", replace=False):
        pass
    with pytest.raises(RuntimeError), staged_folder(target) as folder:
        (folder / "file").write_text("half")
        raise RuntimeError
    assert (target / "file").read_text() == "two"
    assert sorted(item.name for item in tmp_path.iterdir()) == ["empty", "folder"]


def test_only_what_no_living_process_holds_is_abandoned(tmp_path: Path) -> None:
    with staging_folder(tmp_path) as held:
        (tmp_path / ".staging-dead").mkdir()
        (tmp_path / ".staging-dead" / "file").write_bytes(b"half")
        (tmp_path / ".file.0a1b.tmp").write_bytes(b"half")
        for kept in ("file.tmp", ".hidden", ".staging-file"):
            (tmp_path / kept).write_bytes(b"x")
        assert [path.name for path in remove_abandoned(tmp_path)] == [".file.0a1b.tmp", ".staging-dead"]
        assert held.is_dir()
    assert sorted(item.name for item in tmp_path.iterdir()) == [".hidden", ".staging-file", "file.tmp"]
    assert remove_abandoned(tmp_path / "missing") == []


def test_a_line_that_a_crash_left_unfinished_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    assert append_after_last_line(path, b"one\n") == 0
    with path.open("ab") as file:
        file.write(b'{"half')
    assert append_after_last_line(path, b"two\nthree\n") == 4
    assert path.read_bytes() == b"one\ntwo\nthree\n"
    path.write_bytes(b"no line at all" * 5000)
    assert append_after_last_line(path, b"first\n") == 0
    assert path.read_bytes() == b"first\n"


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lines"
    append_after_last_line(path, b"one\n")
    with failing_writes(monkeypatch, 2), pytest.raises(OSError, match="No space"):
        append_after_last_line(path, b"two\n")
    assert path.read_bytes() == b"one\n"


def test_lines_of_several_threads_never_mix(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    lines = [f"{number}".encode() * 3000 + b"\n" for number in range(8)]
    threads = [
        threading.Thread(target=lambda line=line: [append_line(path, line) for _ in range(50)]) for line in lines
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    written = path.read_bytes().splitlines(keepends=True)
    assert len(written) == 400 and set(written) == set(lines)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    for name, reason in (
        ("link", "is a link"), ("folder", "is not a file"), ("fifo", "is not a file"),
        ("missing", "no such file"), ("file/below", "no such file"),
    ):  # fmt: skip
        with pytest.raises(NotFoundError, match=reason):
            open_file(tmp_path / name)
    assert read_file(tmp_path / "file", 3) == b"cont", "one more byte than the limit, so that it shows"
    assert copy_file(tmp_path / "file", tmp_path / "copy", 3) == (hashlib.sha256(b"cont").hexdigest(), 4)


def holds(folder: Path, how: int) -> bool:
    """Return whether another open file could lock the folder now."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def test_a_lock_excludes_all_others_and_a_shared_one_only_those_that_are_not(tmp_path: Path) -> None:
    with locked(tmp_path):
        assert not holds(tmp_path, fcntl.LOCK_EX) and not holds(tmp_path, fcntl.LOCK_SH)
    with locked(tmp_path, shared=True):
        assert not holds(tmp_path, fcntl.LOCK_EX) and holds(tmp_path, fcntl.LOCK_SH)
    assert holds(tmp_path, fcntl.LOCK_EX)


def test_a_folder_that_goes_while_we_wait_for_its_lock_is_not_locked(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    waiting, outcome = threading.Event(), []

    def wait() -> None:
        real = fcntl.flock

        def flock(fd: int, how: int) -> None:
            waiting.set()
            real(fd, how)

        durable.fcntl.flock = flock  # type: ignore[assignment]
        try:
            with locked(folder):
                outcome.append("locked")
        except NotFoundError:
            outcome.append("gone")
        finally:
            durable.fcntl.flock = real

    with locked(folder):
        thread = threading.Thread(target=wait)
        thread.start()
        assert waiting.wait(30)
        folder.rename(tmp_path / "away")
        folder.mkdir()
    thread.join(30)
    assert outcome == ["gone"]


@pytest.mark.parametrize("make", [ensure_folder, check_writable])
def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    (tmp_path / "file").write_bytes(b"x")
    for path in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/model-trainer/deep")):
        with pytest.raises((OSError, UnusablePathError)):
            make(path)
    assert [item.name for item in tmp_path.iterdir()] == ["file"]


def test_a_check_changes_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path)
    check_writable(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())


def test_many_threads_make_the_same_folder(tmp_path: Path) -> None:
    threads = [threading.Thread(target=ensure_folder, args=(tmp_path / "a/b/c/d",)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "a/b/c/d").is_dir()


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.ENOSPC, "make room"),
        (errno.EDQUOT, "make room"),
        (errno.EROFS, "permissions"),
        (errno.EACCES, "permissions"),
    ],
)
def test_what_the_file_system_refuses_is_one_line_that_says_what_to_do(code: int, remedy: str) -> None:
    with pytest.raises(StorageError, match=rf"publish: .*\(/x\): .*{remedy}") as caught, storage_errors("publish"):
        raise OSError(code, os.strerror(code), "/x")
    assert len(str(caught.value).splitlines()) == 1 and caught.value.exit_code == 3


def test_other_errors_pass_and_a_path_that_was_given_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), storage_errors("publish"):
        raise FileNotFoundError(errno.ENOENT, "gone", "/x")
    with pytest.raises(UnusablePathError, match=str(tmp_path)) as caught, path_errors(tmp_path):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "/x")
    assert caught.value.exit_code == 2
    with pytest.raises(OSError, match="full"), path_errors(tmp_path):
        raise OSError(errno.ENOSPC, "full")


def test_a_rename_over_another_file_and_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_bytes(b"new")
    (tmp_path / "file").write_bytes(b"old")
    put_in_place(tmp_path / "a" / "file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"new" and not list((tmp_path / "a").iterdir())


def _synced(path: Path) -> Path:
    write_file_atomically(path, b"x")
    return path


def _write_staged(path: Path) -> None:
    with staged_file(path) as file:
        file.write(b"new")


def _fill(target: Path) -> None:
    with staged_folder(target) as folder:
        (folder / "below").mkdir()
        (folder / "below" / "file").write_bytes(b"x")
        (folder / "file").write_bytes(b"x")


WRITERS: dict[str, Callable[[Path], object]] = {
    "write_file_atomically": lambda out: write_file_atomically(out / "old.txt", b"new"),
    "staged_file": lambda out: _write_staged(out / "old.txt"),
    "staged_folder": lambda out: _fill(out / "folder"),
    "put_in_place": lambda out: put_in_place(_synced(out / "old.txt"), out / "new.txt"),
    "put_in_place in another folder": lambda out: put_in_place(_synced(out / "old.txt"), out / "other" / "new.txt"),
    "put_files_in_place": lambda out: put_files_in_place(
        (write_temporary(target, b"new"), target) for target in (out / "old.txt", out / "other" / "new.txt")
    ),
    "put many files in place": lambda out: put_files_in_place(
        (write_temporary(target, b"new"), target) for target in (out / f"{n}.txt" for n in range(100))
    ),
    "ensure_folder": lambda out: ensure_folder(out / "a" / "b" / "c"),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_each_durable_writer_syncs_content_and_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str
) -> None:
    (tmp_path / "old.txt").write_bytes(b"old")
    (tmp_path / "other").mkdir()
    with traced(tmp_path, monkeypatch) as trace:
        WRITERS[writer](tmp_path)
    assert trace.changes
    assert trace.unsynced() == []


@pytest.mark.parametrize("writer", ["write_file_atomically", "staged_file", "staged_folder"])
def test_content_is_synced_before_it_takes_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str
) -> None:
    with traced(tmp_path, monkeypatch) as trace:
        WRITERS[writer](tmp_path)
    before = trace.changes[: [change.kind for change in trace.changes].index("rename")]
    written, synced = ({change.path for change in before if change.kind == kind} for kind in ("write", "sync"))
    assert written and written <= synced, f"renamed before {written - synced} was synced"


def test_a_removed_folder_loses_its_name_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"x")
    with traced(tmp_path, monkeypatch) as trace:
        remove_folder(tmp_path / "folder")
    assert [change.kind for change in trace.changes[:2]] == ["rename", "sync"]
    assert list(tmp_path.iterdir()) == []
