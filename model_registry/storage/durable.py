"""File operations that survive a crash, and the only place that changes anything under a registry's root.

Local file systems only: renames must be atomic and `flock` must work on folders. A folder's lock is the folder
itself, so that no lock file is ever left behind, and a killed process lets go of it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from model_registry.errors import NotFoundError, StorageError

CHUNK = 1 << 20
_TAIL = 1 << 14  # a line has about 1.5 kB
_UNUSABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE}


@contextmanager
def storage_errors(doing: str) -> Iterator[None]:
    """Turn a full, read-only or forbidden file system into one StorageError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in _UNUSABLE:
            raise
        what = "make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "check mount and permissions"
        place = f" ({error.filename})" if error.filename else ""
        raise StorageError(f"{doing}: {error.strerror}{place}: {what}, then try again") from error


def sync_folder(folder: Path) -> None:
    """Make the names within a folder durable."""
    _sync(folder)


def sync_files(paths: Iterable[Path]) -> None:
    """Make files and folders durable, all at once: the file system then commits them together."""
    known = list(paths)
    with ThreadPoolExecutor(max(1, len(known))) as pool:
        list(pool.map(_sync, known))


def sync_content(folder: Path) -> None:
    """Make a folder of files durable, with everything in it."""
    sync_files([folder, *folder.iterdir()])


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def ensure_folder(folder: Path, within: Path) -> None:
    """Create a folder and its parents up to `within`, each durable before the next."""
    if folder == within or folder.is_dir():
        return
    ensure_folder(folder.parent, within)
    try:
        folder.mkdir()
    except (FileExistsError, FileNotFoundError):
        return ensure_folder(folder, within)
    sync_folder(folder.parent)


def remove_empty(folder: Path) -> bool:
    """Remove a folder if nothing is in it; say whether it was."""
    try:
        folder.rmdir()
    except OSError:
        return False
    sync_folder(folder.parent)
    return True


def write_new(path: Path, data: bytes) -> None:
    """Write a file that must not exist yet. It is durable only once it and its folder are synced."""
    _write(path, data, os.O_EXCL)


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file so that a reader sees the old or the new one. The caller holds the folder's lock."""
    temporary = write_temporary(path, data)
    _sync(temporary)
    temporary.replace(path)
    sync_folder(path.parent)


def write_temporary(path: Path, data: bytes) -> Path:
    """Write what shall replace `path` beside it, and return where. The caller holds the folder's lock, and syncs."""
    temporary = path.with_name(f".{path.name}.tmp")
    _write(temporary, data, os.O_TRUNC)
    return temporary


def _write(path: Path, data: bytes, how: int) -> None:
    fd = os.open(path, os.O_CREAT | how | os.O_WRONLY | os.O_NOFOLLOW, 0o644)
    try:
        write_all(fd, data)
    finally:
        os.close(fd)


def append(path: Path, lines: bytes) -> int:
    """Append whole lines, cutting a line first that a crash left unfinished; return the size that was whole before.

    The caller holds the lock, and syncs file and folder.
    """
    fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o644)
    try:
        end = os.fstat(fd).st_size
        whole = end - len(last_line(fd, end, torn=True))
        if whole != end:
            os.ftruncate(fd, whole)
        os.lseek(fd, whole, os.SEEK_SET)
        try:
            write_all(fd, lines)
        except OSError:
            os.ftruncate(fd, whole)  # a full disk must not leave half a line
            raise
    finally:
        os.close(fd)
    return whole


def last_line(fd: int, end: int, *, torn: bool = False) -> bytes:
    """Return the last whole line of an open file, or with `torn` what stands behind the last newline."""
    data = b""
    while end > 0:
        start = max(0, end - _TAIL)
        data = os.pread(fd, end - start, start) + data
        end = start
        tail = data.rfind(b"\n")
        if torn and tail >= 0:
            return data[tail + 1 :]
        if not torn and tail > 0 and (line := data.rfind(b"\n", 0, tail)) >= 0:
            return data[line + 1 : tail + 1]
    return data if torn else data[: data.rfind(b"\n") + 1]


def write_all(fd: int, data: bytes) -> None:
    """Write every byte: a single `write` may stop early."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def open_file(path: Path) -> int:
    """Open a regular file for reading. Raises NotFoundError if there is none, or if it is a link or anything else."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise NotFoundError(f"{path}: no such file") from None
        if error.errno == errno.ELOOP:
            raise NotFoundError(f"{path}: is a link") from None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise NotFoundError(f"{path}: is not a file")
    return fd


def read_file(path: Path, limit: int) -> bytes:
    """Return a file's content, at most `limit` + 1 bytes of it. Raises NotFoundError as `open_file` does."""
    fd = open_file(path)
    with os.fdopen(fd, "rb") as file:
        return file.read(limit + 1)


def copy_file(source: Path, target: Path, size: int) -> tuple[str, int]:
    """Copy a file, at most `size` + 1 bytes of it, and return sha256 and size of what was read. The caller syncs."""
    source_fd = open_file(source)
    try:
        target_fd = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o644)
        try:
            found = hashlib.sha256()
            done = 0
            while done <= size and (piece := os.read(source_fd, min(CHUNK, size + 1 - done))):
                found.update(piece)
                done += len(piece)
                write_all(target_fd, piece)
        finally:
            os.close(target_fd)
    finally:
        os.close(source_fd)
    return found.hexdigest(), done


@contextmanager
def locked(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a folder's lock, alone or shared. Raises NotFoundError if the folder goes away meanwhile."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"{folder}: no such folder") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        if not same_folder(fd, folder):
            raise NotFoundError(f"{folder}: was removed meanwhile")
        yield
    finally:
        os.close(fd)


def abandoned(folder: Path) -> bool:
    """Say whether no living process holds the lock of a staging folder."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def same_folder(fd: int, folder: Path) -> bool:
    """Say whether a path still leads to the open folder."""
    try:
        return os.path.samestat(os.fstat(fd), folder.stat(follow_symlinks=False))
    except FileNotFoundError:
        return False


@contextmanager
def staging_folder(parent: Path, prefix: str = ".staging-") -> Iterator[Path]:
    """Yield a new private folder in `parent`, held by this process; it is removed unless it was renamed away."""
    while True:
        folder = parent / f"{prefix}{os.urandom(8).hex()}"
        folder.mkdir(mode=0o700)
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # a doctor thought it abandoned in the moment before we held it
        fcntl.flock(fd, fcntl.LOCK_EX)
        if same_folder(fd, folder):
            break
        os.close(fd)
    try:
        yield folder
    finally:
        if same_folder(fd, folder):
            shutil.rmtree(folder, ignore_errors=True)
        os.close(fd)
