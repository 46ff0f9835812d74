"""The one module that writes atomically: what a reader, a second process and a failing disk see of it."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_registry.errors import LockedError, NotFoundError, StorageError, UnusablePathError
from model_registry.storage import durable
from model_registry.storage.durable import (
    Modes,
    abandoned_folders,
    append_after_last_line,
    append_line,
    check_writable,
    copy_file,
    ensure_folder,
    file_sha256,
    last_line,
    locked,
    nearest_existing,
    open_file,
    path_errors,
    put_files_in_place,
    put_in_place,
    read_file,
    remove_abandoned,
    remove_folder,
    remove_if_empty,
    rename_staged,
    set_modes,
    staged_file,
    staged_folder,
    staged_folders,
    staging_folder,
    storage_errors,
    sync_tree,
    temporary_folder,
    temporary_name,
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


def test_several_folders_appear_together_or_none_does(tmp_path: Path) -> None:
    def fill(*names: str) -> None:
        with staged_folders(tmp_path) as stage:
            for name in names:
                (stage / name).mkdir()
                (stage / name / "file").write_text("new")

    fill("a", "b")
    assert {path.parent.name for path in tmp_path.glob("*/file")} == {"a", "b"}
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700 and (tmp_path / "a/file").stat().st_mode & 0o777 == 0o600
    (tmp_path / "b/file").write_text("old")
    with pytest.raises(FileExistsError, match="exists already"):
        fill("b", "c")
    with pytest.raises(RuntimeError), staged_folders(tmp_path) as stage:
        (stage / "d").mkdir()
        raise RuntimeError
    assert (tmp_path / "b/file").read_text() == "old"
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a", "b"]


def test_the_next_who_needs_a_temporary_folder_removes_those_of_the_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may hold recordings: of an archive that was unpacked, of a model that was being trained."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    child = os.fork()
    if child == 0:
        with temporary_folder() as folder:
            (folder / "recording.wav").write_bytes(b"ana's voice")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (left,) = tmp_path.iterdir()
    assert (left / "files/recording.wav").is_file()
    assert [folder.stat().st_mode & 0o777 for folder in (left, left / "files")] == [0o700] * 2
    durable._remove_left.cache_clear()
    with temporary_folder() as first, temporary_folder() as second:
        durable._remove_left.cache_clear()
        with temporary_folder() as third:
            kept = {folder.parent for folder in (first, second, third)}
            assert set(tmp_path.iterdir()) == kept and left not in kept
            with locked(third):
                pass
    assert list(tmp_path.iterdir()) == []


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

        fcntl.flock = flock  # type: ignore[assignment]
        try:
            with locked(folder):
                outcome.append("locked")
        except NotFoundError:
            outcome.append("gone")
        finally:
            fcntl.flock = real

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


def _fill_several(parent: Path) -> None:
    with staged_folders(parent) as stage:
        for name in ("one", "two"):
            (stage / name).mkdir()
            (stage / name / "file").write_bytes(b"x")


WRITERS: dict[str, Callable[[Path], object]] = {
    "write_file_atomically": lambda out: write_file_atomically(out / "old.txt", b"new"),
    "staged_file": lambda out: _write_staged(out / "old.txt"),
    "staged_folder": lambda out: _fill(out / "folder"),
    "staged_folders": _fill_several,
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


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_stays_open_whatever_comes_of_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    for name in ("folder", ".staging-dead"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "fifo")

    def fail_inside(manager: AbstractContextManager[object]) -> None:
        with manager:
            raise RuntimeError

    before = open_files()
    for act in (
        lambda: open_file(tmp_path / "folder"),
        lambda: open_file(tmp_path / "fifo"),
        lambda: read_file(tmp_path / "file", 10),
        lambda: copy_file(tmp_path / "file", tmp_path / "copy", 10),
        lambda: copy_file(tmp_path / "file", tmp_path / "copy", 10),  # which exists now
        lambda: write_new(tmp_path / "new", b"x"),
        lambda: append_line(tmp_path / "lines", b"x\n"),
        lambda: append_after_last_line(tmp_path / "lines", b"x\n"),
        lambda: write_file_atomically(tmp_path / "file", b"y"),
        lambda: ensure_folder(tmp_path / "a" / "b"),
        lambda: abandoned_folders(tmp_path),
        lambda: fail_inside(locked(tmp_path)),
        lambda: fail_inside(staged_file(tmp_path / "file")),
        lambda: fail_inside(staged_folder(tmp_path / "folder")),
        lambda: fail_inside(staging_folder(tmp_path)),
    ):
        with suppress(NotFoundError, FileExistsError, RuntimeError):
            act()
    assert open_files() == before


SHARING = [(0o700, 0o600, 0o700), (0o755, 0o600, 0o700), (0o2770, 0o660, 0o2770), (0o777, 0o644, 0o755)]
SHARING += [(0o1777, 0o600, 0o700), (0o2750, 0o600, None)]  # a folder passes its setgid bit on by itself


@pytest.mark.parametrize(("parent", "file", "folder"), SHARING, ids=lambda mode: mode and oct(mode))
def test_what_is_made_follows_the_folder_it_is_made_in(
    tmp_path: Path, parent: int, file: int, folder: int | None
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    place.chmod(parent)
    write_file_atomically(place / "atomic", b"x")
    write_new(place / "new", b"x")
    write_new(place / "given", b"x", 0o640)
    append_line(place / "lines", b"x\n")
    with staged_file(place / "staged") as opened:
        opened.write(b"x")
    with staged_folder(place / "tree") as tree:
        (tree / "below").mkdir()
        (tree / "below" / "file").write_bytes(b"x")
    ensure_folder(place / "deep")
    with staging_folder(place) as held:
        folders = [place / "tree", place / "tree" / "below", place / "deep", held]
        assert folder is None or [path.stat().st_mode & 0o7777 for path in folders] == [folder] * 4
    files = [place / name for name in ("atomic", "new", "lines", "staged", "tree/below/file")]
    assert [path.stat().st_mode & 0o7777 for path in files] == [file] * 5
    assert (place / "given").stat().st_mode & 0o7777 == 0o640


def test_modes_are_set_of_everything_but_links_and_files_that_are_somebody_elses_too(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for path in (tree / "own", tmp_path / "shared", tmp_path / "elsewhere"):
        path.write_bytes(b"x")
        path.chmod(0o644)
    (tree / "hard").hardlink_to(tmp_path / "shared")
    (tree / "link").symlink_to(tmp_path / "elsewhere")
    set_modes(tree, Modes(0o600, 0o700))
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tree, *tree.iterdir())}
    assert modes == {"tree": 0o700, "own": 0o600, "hard": 0o644, "link": 0o644}


def test_a_file_that_exists_keeps_its_mode_and_a_link_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"one\n")
    path.chmod(0o640)
    (tmp_path / "link").symlink_to(path)
    append_line(path, b"two\n")
    append_after_last_line(path, b"three\n")
    assert path.read_bytes() == b"one\ntwo\nthree\n" and path.stat().st_mode & 0o777 == 0o640
    for append in (append_line, append_after_last_line):
        with pytest.raises(OSError, match="symbolic links"):
            append(tmp_path / "link", b"x\n")
    (tmp_path / "folder link").symlink_to(tmp_path)
    for folder in (tmp_path / "folder link", path, tmp_path / "missing"):
        with pytest.raises(NotFoundError, match="no such folder"), locked(folder):
            pass


@pytest.mark.parametrize("durable", [True, False])
def test_a_rename_that_fails_leaves_no_temporary_file(tmp_path: Path, durable: bool) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_file_atomically(tmp_path / "folder", b"x", durable=durable)
    with pytest.raises(IsADirectoryError), staged_file(tmp_path / "folder", durable=durable):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_what_need_not_be_durable_is_not_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with traced(tmp_path, monkeypatch) as trace:
        write_file_atomically(tmp_path / "file", b"x", durable=False)
        with staged_file(tmp_path / "other", durable=False) as file:
            file.write(b"x")
    assert "rename" in {change.kind for change in trace.changes} >= {"write"}
    assert "sync" not in {change.kind for change in trace.changes}


def test_the_longest_file_name_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    write_file_atomically(path, b"x")
    assert path.read_bytes() == b"x" and len({temporary_name(path) for _ in range(9)}) == 9


@given(st.lists(st.sampled_from([b"\n", b"a", b"bcdefg"]), max_size=12).map(b"".join))
def test_the_last_line_is_found_however_long_lines_are(data: bytes) -> None:
    whole = data[: data.rfind(b"\n") + 1]
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryFile(buffering=0) as file:
        patch.setattr(durable, "_TAIL", 3)
        file.write(data)
        assert last_line(file.fileno(), len(data), torn=True) == data[len(whole) :]
        assert last_line(file.fileno(), len(data)) == (whole.split(b"\n")[-2] + b"\n" if whole else b"")


def test_every_byte_is_written_and_copied_even_if_the_system_stops_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, data = os.write, b"0123456789"
    monkeypatch.setattr(os, "write", lambda fd, piece: real(fd, bytes(piece)[:1]))
    monkeypatch.setattr(durable, "CHUNK", 3)
    write_new(tmp_path / "file", data)
    assert (tmp_path / "file").read_bytes() == data
    for size in (10, 11):
        copied = copy_file(tmp_path / "file", tmp_path / f"copy{size}", size)
        assert copied == (hashlib.sha256(data).hexdigest(), 10)
        assert (tmp_path / f"copy{size}").read_bytes() == data
    assert copy_file(tmp_path / "file", tmp_path / "part", 6)[1] == 7
    assert (tmp_path / "part").read_bytes() == data[:7]


def test_what_is_removed_is_gone_and_what_a_link_leads_to_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(kept)
    durable.destroy(tmp_path / "link")
    durable.destroy(tmp_path / "missing")
    remove_folder(tmp_path / "missing")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"] and (kept / "file").exists()
    with traced(tmp_path, monkeypatch) as trace:
        assert not remove_if_empty(kept) and not remove_if_empty(tmp_path / "missing")
        (kept / "file").unlink()
        assert remove_if_empty(kept)
    trace.order(("remove", "kept"), ("sync", tmp_path.name))
    assert not kept.exists()
    kept.mkdir()
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    with pytest.raises(StorageError, match="could not be removed"):
        durable.destroy(kept)


def test_abandoned_folders_are_those_that_nobody_holds(tmp_path: Path) -> None:
    with staging_folder(tmp_path) as held:
        (tmp_path / ".staging-dead").mkdir()
        (tmp_path / ".staging-link").symlink_to(tmp_path / ".staging-dead")
        assert abandoned_folders(tmp_path) == [tmp_path / ".staging-dead"]
        assert held.is_dir() and not holds(held, fcntl.LOCK_EX)
    assert not held.exists()


def test_a_staging_folder_that_is_taken_away_before_it_is_held_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may take it for abandoned before it is open, or before its lock is held."""
    real_open, real_flock, taken = os.open, fcntl.flock, list[str]()

    def take_before_open(path: Path, flags: int, *mode: int) -> int:
        if not taken:
            taken.append("before it is open")
            Path(path).rmdir()
        return real_open(path, flags, *mode)

    def take_before_lock(fd: int, operation: int) -> None:
        if len(taken) == 1:
            taken.append("before it is held")
            Path(f"/proc/self/fd/{fd}").readlink().rmdir()
        real_flock(fd, operation)

    before = open_files()
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", take_before_open)
        patch.setattr(fcntl, "flock", take_before_lock)
        with staging_folder(tmp_path) as folder:
            assert len(taken) == 2 and folder.is_dir() and list(tmp_path.iterdir()) == [folder]
    assert open_files() == before


def test_the_nearest_folder_that_exists_is_found_and_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "dangling").symlink_to(tmp_path / "missing")
    assert nearest_existing(tmp_path) == nearest_existing(tmp_path / "a" / "b") == tmp_path
    assert nearest_existing(Path("no such folder")) == Path.cwd()
    for name in ("file", "dangling"):
        with pytest.raises(NotADirectoryError) as caught:
            nearest_existing(tmp_path / name / "below")
        assert caught.value.filename == str(tmp_path / name)


def test_who_waits_tries_again_and_says_who_holds_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, tried, release = fcntl.flock, list[int](), threading.Event()
    with locked(tmp_path):
        monkeypatch.setattr(durable, "LOCK_SECONDS", -1.0)
        with pytest.raises(LockedError) as caught, locked(tmp_path):
            pass
    assert str(caught.value).startswith(f"{tmp_path}: has been locked by process {os.getpid()} (")
    monkeypatch.setattr(durable, "LOCK_SECONDS", 60.0)

    def flock(fd: int, operation: int) -> None:
        tried.append(operation)
        if len(tried) > 6:
            release.set()
            holder.join(30)
        real(fd, operation)

    def hold() -> None:
        fd = os.open(tmp_path, os.O_RDONLY)
        real(fd, fcntl.LOCK_EX)
        held.set()
        release.wait(30)
        os.close(fd)

    held, holder = threading.Event(), threading.Thread(target=hold)
    holder.start()
    assert held.wait(30)
    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path):
        assert len(tried) == 7 and not holder.is_alive()


def test_a_link_in_the_place_of_a_file_and_an_error_without_a_place_are_explained(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="replace the link by a file"), storage_errors("publish"):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), "/x")
    with pytest.raises(StorageError) as caught, storage_errors("publish"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(caught.value) == "publish: No space left on device: make room, then try again"
    with pytest.raises(UnusablePathError) as unusable, path_errors(tmp_path):
        raise OSError(errno.EACCES, "Permission denied", str(tmp_path))
    assert str(unusable.value).startswith(f"{tmp_path}: Permission denied; check")
    with pytest.raises(UnusablePathError, match=r"denied \(/x\); check"), path_errors(tmp_path):
        raise OSError(errno.EACCES, "Permission denied", "/x")
    with pytest.raises(UnusablePathError, match="odd; check"), path_errors(tmp_path):
        raise OSError("odd")


@pytest.mark.parametrize("writer", ["write_file_atomically", "staged_file", "staged_folder", "put_files_in_place"])
def test_a_file_holds_all_its_content_when_it_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str
) -> None:
    real, synced = os.fsync, dict[int, int]()  # inode -> bytes that the sync made durable

    def fsync(fd: int) -> None:
        real(fd)
        synced[os.fstat(fd).st_ino] = os.fstat(fd).st_size

    (tmp_path / "other").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        WRITERS[writer](tmp_path)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written and all(synced[path.stat().st_ino] == path.stat().st_size > 0 for path in written)


def test_many_files_are_put_in_place_with_their_content(tmp_path: Path) -> None:
    put_files_in_place([])
    targets = [tmp_path / f"{k}.txt" for k in range(3)]
    targets[0].write_bytes(b"old")
    put_files_in_place([(write_temporary(target, target.name.encode()), target) for target in targets])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        target.name: target.name.encode() for target in targets
    }


def test_folders_that_are_no_staging_folders_are_never_abandoned(tmp_path: Path) -> None:
    for name in ("s1", ".hidden", ".folder.tmp", "x.staging-1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x")
    assert remove_abandoned(tmp_path) == abandoned_folders(tmp_path) == []
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 4


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.ENOSPC])
def test_what_the_system_says_of_opening_a_file_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(path: Path, *_: int) -> int:
        raise OSError(code, os.strerror(code), str(path))

    (tmp_path / "file").write_bytes(b"old")
    for act in (
        lambda: open_file(tmp_path / "file"),
        lambda: write_file_atomically(tmp_path / "file", b"new"),
        lambda: append_line(tmp_path / "file", b"new\n"),
        lambda: locked(tmp_path).__enter__(),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", refuse)
            with pytest.raises(OSError, match=os.strerror(code)) as caught:
                act()
        assert caught.value.errno == code


def test_no_link_is_synced_in_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    sync_tree(tmp_path / "tree")
    (tmp_path / "tree" / "link").symlink_to(tmp_path)
    with pytest.raises(OSError, match="symbolic links"):
        sync_tree(tmp_path / "tree")


def test_a_link_that_takes_the_place_of_a_folder_while_we_wait_is_not_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, real = tmp_path / "folder", fcntl.flock
    folder.mkdir()

    def flock(fd: int, operation: int) -> None:
        real(fd, operation)
        folder.rename(tmp_path / "away")
        folder.symlink_to(tmp_path / "away")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(NotFoundError, match="was removed meanwhile"), locked(folder):
        pass


def test_a_folder_that_must_be_new_is_made_and_a_staged_file_takes_its_name(tmp_path: Path) -> None:
    with staged_folder(tmp_path / "new", replace=False) as folder:
        (folder / "temporary").write_bytes(b"x")
        rename_staged(folder / "temporary", folder / "file")
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*")] == [Path("new"), Path("new/file")]


def test_a_staged_folder_makes_the_folders_that_lead_to_it(tmp_path: Path) -> None:
    with staged_folder(tmp_path / "a" / "b" / "new") as folder:
        (folder / "file").write_bytes(b"x")
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["new"]


def test_what_cannot_be_removed_is_one_error_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"x")
    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(StorageError, match=f"^{tmp_path / 'folder'}: could not be removed"):
        durable.destroy(tmp_path / "folder")


def test_a_sync_that_fails_after_the_rename_is_reported_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def fsync(fd: int) -> None:
        if os.path.samestat(os.fstat(fd), tmp_path.stat()):
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="Input/output error"):
        write_file_atomically(tmp_path / "file", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_where_the_kernel_does_not_say_who_holds_a_lock_another_process_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no /proc outside of Linux, and in a container it does not list what others hold."""

    def missing(path: Path) -> str:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))

    monkeypatch.setattr(durable, "LOCK_SECONDS", -1.0)
    for read_text in (missing, lambda _: ""):
        with monkeypatch.context() as patch, locked(tmp_path):
            patch.setattr(Path, "read_text", read_text)
            with pytest.raises(LockedError, match="has been locked by another process for"), locked(tmp_path):
                pass


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="the kernel does not list locks")
def test_of_several_processes_the_one_that_holds_this_lock_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says that it may be ended, so it must not name another one."""
    monkeypatch.setattr(durable, "LOCK_SECONDS", -1.0)
    own, other = tmp_path / "own", tmp_path / "other"
    own.mkdir()
    other.mkdir()
    held, tell = os.pipe()
    child = os.fork()
    if child == 0:
        with locked(other):
            os.write(tell, b"x")
            signal.pause()
    try:
        assert os.read(held, 1) == b"x"
        with locked(own):
            for folder, pid in ((own, os.getpid()), (other, child)):
                with pytest.raises(LockedError, match=rf"locked by process {pid} \("), locked(folder):
                    pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(held)
        os.close(tell)
