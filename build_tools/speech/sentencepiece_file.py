"""A SentencePiece unigram model as the `tokenizer.json` that every runtime's `tokenizers` reads.

T. Kudo, J. Richardson, SentencePiece, 2018. The model is a protocol buffer of which a few fields are needed:
pieces (text, score, kind) and the normalisation table.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any

_PIECES, _NORMALIZER = 1, 3  # fields of the model
_UNKNOWN, _CONTROL = 2, 3  # kinds of pieces; those never match text
_UNREACHABLE = "\x01"  # a character that normalisation removes from every text


class SentencePieceError(ValueError):
    """Bytes that are no SentencePiece unigram model."""


def tokenizer_json(model: bytes, longest: int) -> str:
    """Return the tokenizer: `<s>`, at most `longest` ids in all, `</s>`; a run of unknown characters is one id.

    Text is composed (NFC) first, since `tokenizers` normalises a composed character by character; then the
    model's own table, single blanks, none at the ends. Raises SentencePieceError.
    """
    try:
        fields = list(_fields(model))
        vocabulary, unknown, ends = [], 0, {}
        for place, piece in enumerate(dict(_fields(value)) for number, value in fields if number == _PIECES):
            text, kind = piece[1].decode("utf-8"), piece.get(3, 1)
            if kind == _UNKNOWN:
                unknown = place
            if kind == _CONTROL:
                ends[text] = place
            score = struct.unpack("<f", piece.get(2, b"\0\0\0\0"))[0]
            vocabulary.append([_UNREACHABLE + text if kind in (_UNKNOWN, _CONTROL) else text, score])
        normalizer = dict(_fields(next(value for number, value in fields if number == _NORMALIZER)))
        charsmap = base64.b64encode(normalizer[2]).decode("ascii")
        special = {name: {"id": name, "ids": [ends[name]], "tokens": [name]} for name in ("<s>", "</s>")}
    except (LookupError, TypeError, AttributeError, StopIteration, UnicodeDecodeError, struct.error) as error:
        raise SentencePieceError(f"not a SentencePiece model: {error!r}") from error
    text_between_ends = [
        {"SpecialToken": {"id": "<s>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "</s>", "type_id": 0}},
    ]
    steps = [
        {"type": "NFC"},
        {"type": "Precompiled", "precompiled_charsmap": charsmap},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
        {"type": "Strip", "strip_left": True, "strip_right": True},
    ]
    tokenizer: dict[str, Any] = {
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": longest, "strategy": "LongestFirst", "stride": 0},
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": text_between_ends,
            "pair": [*text_between_ends, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": special,
        },
        "decoder": None,
        "model": {"type": "Unigram", "unk_id": unknown, "vocab": vocabulary, "byte_fallback": False},
    }
    return json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":"))


def _fields(raw: bytes) -> Iterator[tuple[int, Any]]:
    """Yield (number, value) of a protocol buffer's fields: int, or bytes also for numbers of fixed width."""
    place = 0

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = raw[place]
            value |= (byte & 0x7F) << shift
            place, shift = place + 1, shift + 7
            if byte < 0x80:
                return value

    while place < len(raw):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
            continue
        size = varint() if key & 7 == 2 else {1: 8, 5: 4}[key & 7]
        if place + size > len(raw):
            raise IndexError("a field reaches beyond the end")
        yield key >> 3, raw[place : place + size]
        place += size
