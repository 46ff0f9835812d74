"""Zip files of recordings, unpacked for the time of an import."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from model_registry.messages import printable
from model_registry.storage.durable import temporary_folder
from shared.data.files import RefusedFileError

SUFFIX = ".zip"
_MOST_BYTES = 16 * 1024**3  # that an archive may unpack to
_MOST_FILES = 200_000
_UTF8 = 0x800  # flag of a member whose name is UTF-8


@contextmanager
def unpacked(source: Path) -> Iterator[Path]:
    """Yield the folder that a zip file holds, or any other source itself; links in an archive are left out.

    Raises RefusedFileError for an archive that is damaged, protected by a password, too large when unpacked, or that
    names files outside of it.
    """
    if source.suffix.lower() != SUFFIX or source.is_dir():
        yield source
        return
    with temporary_folder() as folder:
        _unpack(source, folder)
        inside = [path for path in folder.iterdir() if path.name[0] != "." and path.name != "__MACOSX"]
        yield inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def _name(member: zipfile.ZipInfo) -> str:
    """Return a member's name with `/` between folders, and its letters as macOS writes them, without saying so."""
    name = member.filename.replace("\\", "/")  # as some programs on Windows write them
    if member.flag_bits & _UTF8:
        return name
    with suppress(UnicodeError):
        return name.encode("cp437").decode()
    return name


def _unpack(source: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(source) as archive:
            members = [member for member in archive.infolist() if not stat.S_ISLNK(member.external_attr >> 16)]
            for member in members:
                member.filename = _name(member)
                if member.filename.startswith("/") or ".." in member.filename.split("/"):
                    raise RefusedFileError(f"names a file outside of it ({printable(member.filename)}); pack it again")
            size = sum(member.file_size for member in members)
            if size > _MOST_BYTES or len(members) > _MOST_FILES:
                raise RefusedFileError(
                    f"would unpack to {size / 1e9:.1f} GB in {len(members)} files; unpack it, and import the folder"
                )
            for member in members:
                archive.extract(member, folder)  # which keeps names within the folder, and reads no more than announced
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError):
        raise RefusedFileError("is a damaged zip file; download or pack it again") from None
    except RuntimeError:
        raise RefusedFileError("is protected by a password; unpack it, and import the folder") from None
