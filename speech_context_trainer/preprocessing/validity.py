"""Which texts hold nothing to classify; checked before training and before prediction."""

from __future__ import annotations


def invalid_reason(text: str) -> str | None:
    """Return why a transcript holds nothing to classify, or None where it does: it needs a letter or a digit."""
    if any(character.isalnum() for character in text):
        return None
    return "holds no word" if text.strip() else "is empty"
