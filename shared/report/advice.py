"""What to do next, in plain words: computed from a validation's metrics, most useful first."""

from __future__ import annotations

import math
from collections.abc import Sequence

from shared.training_run import LabelReport, Report, Unit

ENOUGH_SAMPLES = 10  # of a label; with fewer its metrics mean little
ENOUGH_SESSIONS = 3  # of a label: one to test on, two to learn how days differ
WELL = 0.8  # recall and precision at which a label needs nothing more
CONFUSED = 0.1  # share of a label's samples predicted as one other label, at which that one is named
STEP = (5, 20)  # fewest and most samples that one piece of advice asks for
MOST = 5  # pieces of advice on confused labels


def advise(result: Report) -> tuple[str, ...]:
    """Return sentences that say what to record, label by label; nothing where every label does well."""
    lines = [line for row in result.labels if (line := _too_few(row, result.unit))]
    sparse = {row.label for row in result.labels if _missing(row) != (0, 0)}
    poor = [
        (min(row.recall, row.precision), k)
        for k, row in enumerate(result.labels)
        if row.label not in sparse and min(row.recall, row.precision) < WELL
    ]
    named: set[frozenset[int]] = set()
    for _, k in sorted(poor):
        other = _confused_with(result, k)
        if other is not None and frozenset((k, other)) in named:
            continue
        if other is not None:
            named.add(frozenset((k, other)))
        lines.append(_confused(result, k, other))
        if len(named) == MOST:
            break
    return (*lines, *_flat(result, bool(poor)))


def _missing(row: LabelReport) -> tuple[int, int]:
    """Return how many samples and sessions a label lacks. Every new session should bring two samples at least."""
    sessions = max(ENOUGH_SESSIONS - row.sessions, 0)
    if row.support >= ENOUGH_SAMPLES and row.sessions >= 2:
        return 0, 0
    return max(ENOUGH_SAMPLES - row.support, 2 * sessions), sessions


def _too_few(row: LabelReport, unit: Unit) -> str:
    samples, sessions = _missing(row)
    if not samples:
        return ""
    have = _people(row.sessions) if unit == "person" else _count(row.sessions, "session")
    where = _elsewhere(unit)
    if sessions:
        where = f"from {_people(sessions)} more" if unit == "person" else f"in {_count(sessions, 'new session')}"
    return f"Record {samples} more of `{row.label}` {where}: it has {_count(row.support, 'sample')} from {have}."


def _elsewhere(unit: Unit) -> str:
    return "from somebody else" if unit == "person" else "in a new session"


def _people(number: int) -> str:
    return "1 person" if number == 1 else f"{number} people"


def _confused_with(result: Report, k: int) -> int | None:
    """Return the class that k is most often confused with, in either direction."""
    support = result.confusion_matrix.sum(axis=1)
    confused = (result.confusion_matrix[k] + result.confusion_matrix[:, k]).astype(float)
    confused[k] = 0
    other = int(confused.argmax())
    return other if confused[other] >= max(2.0, CONFUSED * float(support[k])) else None


def _confused(result: Report, k: int, other: int | None) -> str:
    """Ask for as many samples as bring the error to the target, if it falls as one over their number."""
    row = result.labels[k]
    error = 1 - min(row.recall, row.precision)
    wanted = min(max(math.ceil(row.support * (error / (1 - WELL) - 1)), STEP[0]), STEP[1])
    if other is None:
        hits = int(result.confusion_matrix[k, k])
        return (
            f"Record {wanted} more of `{row.label}` {_elsewhere(result.unit)}: "
            f"{hits} of {row.support} were recognised, and it is confused with no single label."
        )
    confused = result.labels[other].label
    return f"Record {wanted} more of `{row.label}` {_elsewhere(result.unit)}: it is confused with `{confused}`."


def _flat(result: Report, poor: bool) -> Sequence[str]:
    """Say so where the second half of the samples improved nothing: more of the same will not help."""
    if not poor or len(result.learning_curve) < 2:
        return ()
    (_, before), (_, now) = result.learning_curve[-2:]
    if now - before >= 0.02:
        return ()
    return (
        f"More of the same helps little: trained on half of the samples it recognises {before:.0%}, on all {now:.0%}. "
        "Record on other days, in other places, or make the confused labels more different.",
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
