"""When a picture, sound or video was recorded, as its camera or recorder wrote down."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from shared.data.media_types import media_type

_LARGEST = 2 * 10**9  # bytes; only the header is read
_DAY = re.compile(r"(?<!\d)((?:19|20)\d\d)[-_.]?(\d\d)[-_.]?(\d\d)(?!\d)")
_EXIF_FOLDER, _TAKEN, _CHANGED = 0x8769, 36867, 306  # of EXIF's tags


def recorded_day(path: Path) -> str:
    """Return the day of a recording, `2026-03-01`: of its EXIF or container, its name, or the file. Raises OSError.

    Phones and messengers write the day into the name, and the time of a file is often that of a copy.
    """
    kind = media_type(path).split("/")[0]
    day = _day_of_picture(path) if kind == "image" else _day_of_container(path) if kind in ("audio", "video") else None
    return day or _day_in_name(path.name) or f"{datetime.fromtimestamp(path.stat().st_mtime):%Y-%m-%d}"


def _day_in_name(name: str) -> str | None:
    """Return the day in `IMG_20240501_101500.jpg`, `WhatsApp Audio 2024-05-01 at 10.15.00.ogg`; None without one."""
    for year, month, day in _DAY.findall(name):
        with suppress(ValueError):
            return f"{datetime(int(year), int(month), int(day)):%Y-%m-%d}"
    return None


def _day_of_picture(path: Path) -> str | None:
    try:
        with Image.open(path) as image:
            tags = image.getexif()
            text = tags.get_ifd(_EXIF_FOLDER).get(_TAKEN) or tags.get(_CHANGED)
        return f"{datetime.strptime(str(text)[:19], '%Y:%m:%d %H:%M:%S'):%Y-%m-%d}"
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _day_of_container(path: Path) -> str | None:
    from shared.data.media.containers import UnreadableMediaError, open_container

    try:
        with open_container(path, _LARGEST, "a recording") as container:
            text = container.metadata.get("creation_time", "")
        return f"{datetime.fromisoformat(text.replace('Z', '+00:00')).astimezone():%Y-%m-%d}"
    except (UnreadableMediaError, ValueError):
        return None
