"""Points in time as every document writes them: ISO 8601 in UTC, ending in `Z`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

Precision = Literal["milliseconds", "microseconds"]


def utc_now(precision: Precision = "milliseconds") -> str:
    """Return the time now; A3CP writes milliseconds."""
    return format_time(datetime.now(UTC), precision)


def format_time(time: datetime, precision: Precision = "milliseconds") -> str:
    """Return an aware time as text in UTC, e.g. `2026-03-01T10:00:00.000Z`."""
    return time.astimezone(UTC).isoformat(timespec=precision).replace("+00:00", "Z")
