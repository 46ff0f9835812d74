"""Copies of one sample in several sessions: they must not stand on both sides of a split."""

from __future__ import annotations

from collections.abc import Sequence


def assign_duplicates_to_one_session(keys: Sequence[str], sessions: Sequence[str]) -> tuple[tuple[str, ...], int]:
    """Return each sample's session for validation, and how many were moved.

    Samples of equal key stand with the first of them; all others stay where they were recorded.
    """
    first: dict[str, str] = {}
    for key, session in zip(keys, sessions, strict=True):
        first.setdefault(key, session)
    placed = tuple(first[key] for key in keys)
    return placed, sum(now != before for now, before in zip(placed, sessions, strict=True))
