"""Text files in the encodings that editors and spreadsheets write."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path

from shared.data.files import RefusedFileError, read_bounded

LIMIT = 512 * 1024**2
_MARKS = (  # the longer mark first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
SAVE_AS_CSV = "save the sheet as CSV in the program that made it"
_OTHER_CONTENT = {  # how files begin that are called text and are none
    b"PK\x03\x04": f"is a spreadsheet or an archive, whatever its suffix; {SAVE_AS_CSV}, or call an archive .zip",
    b"\xd0\xcf\x11\xe0": f"is a spreadsheet or document of Office, whatever its suffix; {SAVE_AS_CSV}",
    b"%PDF": "is a PDF, whatever its suffix; save it as plain text",
}


@dataclass(frozen=True)
class Text:
    """The text of a file, and the encoding that it was read in where that is not UTF-8."""

    text: str
    encoding: str | None = None

    @property
    def notes(self) -> list[str]:
        """What the person who imports should know."""
        return [f"the text is not UTF-8; it was read as {self.encoding}"] if self.encoding else []


def read_text(path: Path, limit: int = LIMIT) -> Text:
    """Return a file's text: UTF-8, UTF-16 or UTF-32 by its mark or its zero bytes, otherwise Windows-1252.

    Raises RefusedFileError for a file that cannot be read, is too large, or is not text.
    """
    content = read_bounded(path, limit)
    for start, reason in _OTHER_CONTENT.items():
        if content.startswith(start):
            raise RefusedFileError(reason)
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return _decoded(content[len(mark) :], encoding)
    start = content[:4096]
    if b"\0" in start:
        odd, even = start[1::2].count(0), start[::2].count(0)
        if max(odd, even) < 0.4 * (len(start) // 2):
            raise RefusedFileError("is not a text file")
        return _decoded(content, "utf-16-le" if odd > even else "utf-16-be")
    try:
        return Text(content.decode())
    except UnicodeDecodeError:
        return _decoded(content, "windows-1252")


def _decoded(content: bytes, encoding: str) -> Text:
    try:
        return Text(content.decode(encoding), None if encoding == "utf-8" else encoding.upper())
    except UnicodeDecodeError:
        raise RefusedFileError("is not readable text; save it as UTF-8") from None
