"""What kinds of media files there are, by suffix, and their media types as IANA or common use names them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

MEDIA_TYPES: Mapping[str, str] = {
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".opus": "audio/opus",
    ".mp3": "audio/mpeg",
    ".m4a": "audio/mp4",
    ".aac": "audio/aac",
    ".amr": "audio/amr",
    ".aif": "audio/aiff",
    ".aiff": "audio/aiff",
    ".aifc": "audio/aiff",
    ".caf": "audio/x-caf",
    ".wma": "audio/x-ms-wma",
    ".weba": "audio/webm",
    ".au": "audio/basic",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".bmp": "image/bmp",
    ".webp": "image/webp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".gif": "image/gif",
    ".heic": "image/heic",
    ".heif": "image/heif",
    ".avif": "image/avif",
    ".mpo": "image/jpeg",
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".3gp": "video/3gpp",
    ".3g2": "video/3gpp2",
    ".webm": "video/webm",
    ".avi": "video/x-msvideo",
    ".mov": "video/quicktime",
    ".mkv": "video/x-matroska",
}
TEXT = "text/plain"


def media_type(path: Path) -> str:
    """Return a file's media type by its suffix; the same on every machine, unlike `mimetypes`."""
    return MEDIA_TYPES.get(path.suffix.lower(), "application/octet-stream")
