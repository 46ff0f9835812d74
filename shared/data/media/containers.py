"""Containers of sound and video: recognised by their first bytes, and opened so that nothing else can be reached.

FFmpeg guesses formats from names and contents, and some formats are lists of other files or addresses. So a file is
opened here, its format follows from its signature, and FFmpeg gets the open file and the name of one demuxer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import av
import av.container
import av.error
import av.logging

from shared.data.files import reason_of

av.logging.set_libav_level(av.logging.PANIC)  # what is wrong with a file is raised; FFmpeg need not print it, too

AV_TIME_BASE = 1_000_000  # parts of a second in which a container's duration is given
_BOXES = frozenset([b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"])  # a QuickTime file may begin with any
_SIGNATURES = (
    (b"\x1a\x45\xdf\xa3", "matroska"),
    (b"OggS", "ogg"),
    (b"fLaC", "flac"),
    (b"caff", "caf"),
    (b"#!AMR", "amr"),
    (b"ID3", "mp3"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
)
_FORMS = {b"AVI ": "avi", b"WAVE": "wav", b"AIFF": "aiff", b"AIFC": "aiff"}  # of RIFF and FORM files


class UnreadableMediaError(ValueError):
    """A file of sound, video or picture that cannot be used; its text is the reason."""


def demuxer_of(path: Path) -> str | None:
    """Return the name of FFmpeg's demuxer for a file by its first bytes, None where it is no known container.

    Raises UnreadableMediaError where the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise UnreadableMediaError(reason_of(error)) from None
    if start[4:8] in _BOXES:
        return "mov"
    if start[:4] in (b"RIFF", b"FORM"):
        return _FORMS.get(start[8:12])
    for signature, name in _SIGNATURES:
        if start.startswith(signature):
            return name
    if start[:1] == b"\xff" and len(start) > 1 and start[1] & 0xE0 == 0xE0:
        return "aac" if start[1] & 0xF6 == 0xF0 else "mp3"
    return None


@contextmanager
def open_container(path: Path, largest: int, what: str) -> Iterator[av.container.InputContainer]:
    """Open a file of at most `largest` bytes for demuxing; `what` names what it should be, for messages.

    Raises UnreadableMediaError for a file that is too large, is no known container, or cannot be opened.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UnreadableMediaError(reason_of(error)) from None
    if size > largest:
        raise UnreadableMediaError(f"is larger than {largest // 10**6} MB")
    demuxer = demuxer_of(path)
    if demuxer is None:
        raise UnreadableMediaError(f"is not {what}")
    with path.open("rb") as file:
        try:
            container = av.open(file, format=demuxer, metadata_errors="ignore")
        except (av.error.FFmpegError, ValueError):
            raise UnreadableMediaError(f"cannot be opened as {what}; record or export it again") from None
        with container:
            yield cast(av.container.InputContainer, container)
