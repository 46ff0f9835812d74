"""Models that need a file beside them, which nothing hashes: ONNX Runtime would load it from the current folder."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from google.protobuf.message import DecodeError, Message

from model_registry.messages import list_names, printable
from model_registry.storage.durable import read_file
from model_registry.storage.entry import FILE_LIMIT

_MOST = 3  # files that are named


def external_data_fault(model: bytes) -> str | None:
    """Return why an ONNX model must not be used, if it refers to files outside of itself; None for anything else."""
    if b"location" not in model:  # the key that every reference has; ONNX takes long to import
        return None
    import onnx

    try:
        parsed = onnx.load_model_from_string(model)
    except DecodeError:
        return None  # not a model, so nothing loads it
    names = sorted(set(_locations(parsed)))
    if not names:
        return None
    files = list_names([printable(name) for name in names], _MOST)
    return f"needs the file {files}, which is not part of it; save the model with its data inside"


def _locations(message: Message) -> Iterator[str]:
    """Yield the names of files that a message, or any within it, refers to."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for item in value if field.is_repeated else [value]:
            if field.name == "external_data":
                if item.key == "location":
                    yield item.value
            else:
                yield from _locations(item)


@lru_cache(maxsize=10_000)
def published_model_fault(path: Path, sha256: str) -> str | None:
    """Return `external_data_fault` of a file that was just found to have this sha256; the same file is read once."""
    return external_data_fault(read_file(path, FILE_LIMIT))
