"""Wording that every message shares: hostile text made printable, and long lists cut short."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any


def printable(text: object) -> str:
    """Return untrusted text as a short quoted ASCII literal for an error message."""
    literal = ascii(text)
    return literal if len(literal) <= 80 else literal[:77] + "...'"


def plain(text: object) -> str:
    """Return text without control characters: what a bundle says must not command a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in str(text))


def list_names(names: Sequence[str], most: int) -> str:
    """Return the first `most` names and how many there are besides: `ana, ben and 3 more`."""
    return ", ".join(names[:most]) + (f" {and_more(len(names) - most)}" if len(names) > most else "")


def and_more(count: int, noun: str = "") -> str:
    """Return `and 3 more`, or with a noun `and 3 more figures`."""
    return f"and {count} more {noun}".rstrip()


def marked(text: str) -> Any:
    """Return text as HTML, with what is between backticks as code that is laid out in its own direction."""
    from markupsafe import Markup, escape  # only pages need it

    return Markup(re.sub(r"`([^`]+)`", r'<code dir="auto">\1</code>', str(escape(text))))


def sentence(text: str) -> str:
    """Return what a log or an error says as a sentence: with a capital letter and a full stop."""
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}."
