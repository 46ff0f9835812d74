"""Files and folders that appear whole or not at all and survive a crash: the one module that writes them so.

    write_file_atomically(path, data)     a reader sees the old file or the new one
    with staged_file(path) as file: ...   the same, for content that comes piece by piece
    with staged_folder(path) as folder:   a folder that appears with everything in it
    with staged_folders(parent) as stage: several such folders, synced at once
    append_line(path, line)               lines of several processes never mix
    put_in_place(source, target)          a rename that survives a crash

Files and folders are their owner's alone, whatever the umask, or follow the folder they are made in: see `modes_in`.

A file is durable once it and the folder that names it are synced. Local file systems only: renames must be atomic and
`flock` must work on folders. A folder's lock is the folder itself, so no lock file is ever left behind, and a killed
process releases it.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from model_registry.errors import LockedError, NotFoundError, StorageError, UnusablePathError
from model_registry.platforms import lock

CHUNK = 1 << 20
STAGING = ".staging-"  # begins the name of every staging folder
_TAIL = 1 << 14  # a line has about 1.5 kB
_SYNC_EACH = 64  # files; of more, one flush of everything is many times faster
LOCK_SECONDS = 120.0  # that a lock is waited for; a writer holds it for a fraction of a second
_REFUSALS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE}
_REFUSALS |= {errno.ELOOP}  # a link in the place of a file
FULL = {errno.ENOSPC, errno.EDQUOT}


# --- errors of the file system


@contextmanager
def storage_errors(action: str) -> Iterator[None]:
    """Turn a full, read-only or forbidden file system into one StorageError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        remedy = "make room" if error.errno in FULL else "check mount and permissions"
        remedy = "replace the link by a file" if error.errno == errno.ELOOP else remedy
        place = f" ({error.filename})" if error.filename else ""
        raise StorageError(f"{action}: {error.strerror}{place}: {remedy}, then try again") from error


@contextmanager
def path_errors(path: Path) -> Iterator[None]:
    """Turn what the file system says of a path that a user gave into one UnusablePathError, a full disk aside."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise
        reason = error.strerror or str(error)
        place = f" ({error.filename})" if error.filename and Path(str(error.filename)) != path else ""
        raise UnusablePathError(
            f"{path}: {reason}{place}; check the path and its permissions, or give another"
        ) from error


def check_writable(folder: Path) -> None:
    """Raise UnusablePathError unless files can be made in a folder; see `try_writing`."""
    with path_errors(folder):
        try_writing(folder)


def try_writing(folder: Path) -> None:
    """Make a temporary folder and remove it again, in a folder or, where there is none yet, in its nearest parent.

    Raises OSError where that fails, NotADirectoryError naming the file that is in the way.
    """
    Path(tempfile.mkdtemp(prefix=STAGING, dir=nearest_existing(folder))).rmdir()


def nearest_existing(folder: Path) -> Path:
    """Return the folder, or its nearest parent that exists. Raises NotADirectoryError where that is a file."""
    folder = folder.absolute()
    for place in (folder, *folder.parents):
        if os.path.lexists(place):
            if not place.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, "Not a directory", str(place))
            return place
    return Path(folder.anchor)


# --- who may read


@dataclass(frozen=True)
class Modes:
    """The permissions of what is made in a folder."""

    file: int
    folder: int


def modes_in(folder: Path) -> Modes:
    """Return the permissions of what is made in a folder: its owner's alone, as it may be a person's data.

    In a folder that a group shares (setgid, the group may write) they are the group's; in one that everybody may write
    to, other than one with the sticky bit such as /tmp, everybody may read.
    """
    mode = folder.stat().st_mode
    if mode & stat.S_ISGID and mode & stat.S_IWGRP:
        return Modes(0o660, 0o2770)
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        return Modes(0o644, 0o755)
    return Modes(0o600, 0o700)


def set_modes(tree: Path, modes: Modes) -> None:
    """Give a folder and everything in it these permissions; hard links, whose file is somebody else's too, aside."""
    for folder, _, names in os.walk(tree):
        os.chmod(folder, modes.folder)  # noqa: PTH101
        for path in (f"{folder}/{name}" for name in names):
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
                os.chmod(path, modes.file)  # noqa: PTH101


def _create(path: Path, flags: int, mode: int | None) -> int:
    """Open a file that must not exist yet, with the permissions of its folder unless `mode` says otherwise."""
    wanted = modes_in(path.parent).file if mode is None else mode
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | flags, 0o600)
    if wanted != 0o600:
        os.fchmod(fd, wanted)
    return fd


def _open_or_create(path: Path, flags: int) -> int:
    """Open a file, which may exist and then keeps its permissions. Raises OSError for a link."""
    while True:
        with suppress(FileNotFoundError):
            return os.open(path, flags | os.O_NOFOLLOW)
        with suppress(FileExistsError):
            return _create(path, flags, None)


# --- syncing


def sync_folder(folder: Path) -> None:
    """Make the names within a folder durable."""
    _sync(folder)


def sync_files(paths: Iterable[Path]) -> None:
    """Make files and folders durable, all at once: the file system then commits them together."""
    listed = list(paths)
    if len(listed) > _SYNC_EACH:
        os.sync()
        return
    with ThreadPoolExecutor(max(1, len(listed))) as pool:
        list(pool.map(_sync, listed))


def sync_tree(folder: Path) -> None:
    """Make a folder durable, with everything in it."""
    sync_files([folder, *folder.rglob("*")])


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# --- folders


def ensure_folder(folder: Path) -> None:
    """Create a folder and its missing parents, each durable before the next. Raises OSError where that fails."""
    while not folder.is_dir():
        if folder.parent != folder:
            ensure_folder(folder.parent)
        try:
            folder.mkdir(mode=0o700)
            if (mode := modes_in(folder.parent).folder) != 0o700:
                folder.chmod(mode)
        except FileExistsError:
            if not folder.is_dir():  # else another process made it
                raise NotADirectoryError(errno.ENOTDIR, "Not a directory", str(folder)) from None
        except FileNotFoundError:
            if folder.parent.is_dir():
                raise  # no folder can be made there, as in /proc; else another process removed the empty parent
        else:
            sync_folder(folder.parent)


def remove_if_empty(folder: Path) -> bool:
    """Remove a folder if nothing is in it; return whether it was removed."""
    try:
        folder.rmdir()
    except OSError:
        return False
    sync_folder(folder.parent)
    return True


@contextmanager
def staging_folder(parent: Path) -> Iterator[Path]:
    """Yield a new private folder in `parent`, held by this process; it is removed unless it was renamed away."""
    while True:
        folder = parent / f"{STAGING}{os.urandom(8).hex()}"
        folder.mkdir(mode=0o700)
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # another process took it for abandoned in the moment before we held it
        lock(fd)
        if _same_folder(fd, folder):
            if (mode := modes_in(parent).folder) != 0o700:
                os.fchmod(fd, mode)
            break
        os.close(fd)
    try:
        yield folder
    finally:
        if _same_folder(fd, folder):
            shutil.rmtree(folder, ignore_errors=True)
        os.close(fd)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a private folder outside of every registry and data root, removed at the end.

    Nobody knows whose data the folders of killed processes hold, so the next process that needs one removes them.
    """
    place = Path(tempfile.gettempdir())
    _remove_left(place)
    with staging_folder(place) as held:
        folder = held / "files"  # which may be locked, as `held` is
        folder.mkdir(mode=0o700)
        yield folder


@lru_cache
def _remove_left(place: Path) -> None:
    """Remove the temporary folders of killed processes, once in a process."""
    for left in abandoned_folders(place):
        with suppress(StorageError):  # somebody else's
            destroy(left)


@contextmanager
def staged_folder(target: Path, *, replace: bool = True, needed: Callable[[], bool] = lambda: True) -> Iterator[Path]:
    """Yield an empty folder beside `target`; on leaving without an error it becomes `target`, whole and durable.

    What stood at `target` is replaced, by one process at a time; without `replace` FileExistsError is raised instead.
    `needed` is called while no other process may replace it: where it returns False, because another process has put
    there what is wanted, that stays, and its readers never miss it.
    """
    ensure_folder(target.parent)
    with staging_folder(target.parent) as stage, staging_folder(target.parent) as rubbish:
        yield stage
        set_modes(stage, modes_in(target.parent))
        sync_tree(stage)
        with locked(target.parent.resolve()):
            if not needed():
                return
            if not replace and os.path.lexists(target):  # renaming over an empty folder would succeed
                raise FileExistsError(errno.EEXIST, "exists already", str(target))
            with suppress(FileNotFoundError):
                target.rename(rubbish / "old")
            put_in_place(stage, target)


@contextmanager
def staged_folders(parent: Path) -> Iterator[Path]:
    """Yield an empty folder; on leaving without an error each folder in it is put in `parent`, whole and durable.

    All are synced at once. Raises FileExistsError where `parent` has one of them, which then stays, as do all others.
    """
    ensure_folder(parent)
    with staging_folder(parent) as stage:
        yield stage
        set_modes(stage, modes_in(parent))
        sync_tree(stage)
        with locked(parent.resolve()):
            folders = sorted(stage.iterdir())
            if there := [folder.name for folder in folders if os.path.lexists(parent / folder.name)]:
                raise FileExistsError(errno.EEXIST, "exists already", str(parent / there[0]))
            for folder in folders:
                folder.rename(parent / folder.name)
            sync_folder(parent)


def put_in_place(source: Path, target: Path) -> None:
    """Rename a file or folder that is synced, durably: afterwards `target` is there even after a power cut."""
    source.rename(target)
    sync_folder(target.parent)
    if source.parent != target.parent:
        with suppress(FileNotFoundError):
            sync_folder(source.parent)


def rename_staged(source: Path, target: Path) -> None:
    """Rename a file in a staging folder, which is synced as a whole before it is put in place."""
    source.rename(target)


def remove_folder(folder: Path) -> None:
    """Remove a folder: its name goes in one step, then its content. Raises StorageError if something stays."""
    with suppress(FileNotFoundError):
        trash = folder.with_name(f"{STAGING}{os.urandom(8).hex()}")
        put_in_place(folder, trash)
        destroy(trash)


def destroy(path: Path) -> None:
    """Remove a file or folder that another process may be removing too. Raises StorageError if something stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    if os.path.lexists(path):
        raise StorageError(f"{path}: could not be removed; check permissions, then run: doctor")


def remove_abandoned(folder: Path) -> list[Path]:
    """Remove staging folders and temporary files that killed processes left in a folder; return them.

    The caller holds a lock that keeps others from writing files in this folder meanwhile.
    """
    if not folder.is_dir():
        return []
    abandoned = [
        item
        for item in sorted(folder.iterdir())
        if (item.name.startswith(STAGING) and _abandoned(item))
        or (item.name.startswith(".") and item.name.endswith(".tmp") and item.is_file())
    ]
    for item in abandoned:
        destroy(item)
    return abandoned


def abandoned_folders(parent: Path) -> list[Path]:
    """Return the staging folders in a folder that no living process holds."""
    return sorted(item for item in parent.glob(f"{STAGING}*") if _abandoned(item))


def _abandoned(folder: Path) -> bool:
    """Return whether no living process holds the lock of a staging folder."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        lock(fd, wait=False)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


@contextmanager
def locked(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a folder's lock, alone or shared.

    Raises NotFoundError if the folder is gone, or goes meanwhile, and LockedError, which names the process that holds
    the lock, after LOCK_SECONDS.
    """
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"{folder}: no such folder") from None
    try:
        _acquire(fd, folder, shared)
        if not _same_folder(fd, folder):
            raise NotFoundError(f"{folder}: was removed meanwhile")
        yield
    finally:
        os.close(fd)


def _acquire(fd: int, folder: Path, shared: bool) -> None:
    """Take the lock of an open folder. Raises LockedError after LOCK_SECONDS."""
    deadline, pause = time.monotonic() + LOCK_SECONDS, 0.001
    while True:
        try:
            return lock(fd, shared=shared, wait=False)
        except BlockingIOError:
            if time.monotonic() > deadline:
                reason = f"has been locked by {_holder(fd)} for more than {LOCK_SECONDS:g} s"
                raise LockedError(f"{folder}: {reason}; wait for it to end, or end it: nothing is lost") from None
        time.sleep(pause)
        pause = min(2 * pause, 0.02)


def _holder(fd: int) -> str:
    """Return who holds the lock of an open folder, as far as the kernel tells."""
    status = os.fstat(fd)
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        pid = next(words[4] for words in lines if len(words) > 5 and words[1] == "FLOCK" and words[5] == place)
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except (OSError, StopIteration):
        return "another process"
    return f"process {pid} ({ascii(command)[1:61]})"


def _same_folder(fd: int, folder: Path) -> bool:
    """Return whether a path still leads to the open folder."""
    try:
        return os.path.samestat(os.fstat(fd), folder.stat(follow_symlinks=False))
    except FileNotFoundError:
        return False


# --- writing files


def write_file_atomically(path: Path, data: bytes, *, durable: bool = True, mode: int | None = None) -> None:
    """Write a file so that a reader sees the old content or the new, never a part. Without `mode` see `modes_in`.

    With `durable=False` nothing is synced: after a power cut the file may be the old one, or empty.
    """
    temporary = write_temporary(path, data, mode)
    try:
        if durable:
            _sync(temporary)
            put_in_place(temporary, path)
        else:
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def staged_file(path: Path, *, durable: bool = True) -> Iterator[io.BufferedRandom]:
    """Yield a file open for reading and writing; on leaving without an error it becomes `path`."""
    temporary = temporary_name(path)
    try:
        with open(_create(temporary, os.O_RDWR, None), "w+b") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
        if durable:
            sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def put_files_in_place(files: Iterable[tuple[Path, Path]]) -> None:
    """Sync many temporary files at once, then rename each: (temporary, target)."""
    listed = list(files)
    sync_files(temporary for temporary, _ in listed)
    for temporary, target in listed:
        temporary.replace(target)
    sync_files({target.parent for _, target in listed})


def temporary_name(path: Path) -> Path:
    """Return where to write what shall replace `path`: a hidden name beside it that nobody else uses."""
    return path.with_name(f".{path.name[:200]}.{os.urandom(4).hex()}.tmp")


def write_temporary(path: Path, data: bytes, mode: int | None = None) -> Path:
    """Write what shall replace `path` beside it, and return where. The caller syncs it and puts it in place."""
    temporary = temporary_name(path)
    try:
        write_new(temporary, data, mode)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def write_new(path: Path, data: bytes, mode: int | None = None) -> None:
    """Write a file that must not exist yet. The caller syncs it and its folder."""
    fd = _create(path, os.O_WRONLY, mode)
    try:
        write_all(fd, data)
    finally:
        os.close(fd)


def append_line(path: Path, line: bytes) -> None:
    """Append a line in one write, so that lines of several processes never mix. Nothing is synced."""
    fd = _open_or_create(path, os.O_APPEND | os.O_WRONLY)
    try:
        os.write(fd, line)
    finally:
        os.close(fd)


def append_after_last_line(path: Path, lines: bytes) -> int:
    """Append whole lines, cutting off a line that a crash left unfinished; return the size before, up to that line.

    The caller holds the lock, and syncs file and folder.
    """
    fd = _open_or_create(path, os.O_RDWR)
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


# --- reading files


def open_file(path: Path | str) -> int:
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


def read_file(path: Path | str, limit: int) -> bytes:
    """Return a file's content, at most `limit` + 1 bytes of it. Raises NotFoundError as `open_file` does."""
    fd = open_file(path)
    with os.fdopen(fd, "rb") as file:
        return file.read(limit + 1)


def copy_file(source: Path, target: Path, size: int) -> tuple[str, int]:
    """Copy a file, at most `size` + 1 bytes of it, and return sha256 and size of what was read. The caller syncs."""
    source_fd = open_file(source)
    try:
        target_fd = _create(target, os.O_WRONLY, None)
        try:
            digest = hashlib.sha256()
            done = 0
            while done <= size and (piece := os.read(source_fd, min(CHUNK, size + 1 - done))):
                digest.update(piece)
                done += len(piece)
                write_all(target_fd, piece)
        finally:
            os.close(target_fd)
    finally:
        os.close(source_fd)
    return digest.hexdigest(), done


def file_sha256(file: Path | io.BufferedIOBase) -> str:
    """Return the sha256 of a file, 64 hexadecimal digits; of an open one from its present position to its end."""
    if isinstance(file, Path):
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    return hashlib.file_digest(file, "sha256").hexdigest()
