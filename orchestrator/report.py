"""What a batch came to, for people: the table of what was published, and one line for each failure."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator.jobs import Outcome

_ROWS_SHOWN = 60
_PLAIN_WIDTH = 150  # columns where the output is no terminal


def report_console() -> Console:
    """Return standard output, wide enough for the table when it is a file or a pipe."""
    console = Console()
    return console if console.is_terminal else Console(width=_PLAIN_WIDTH)


def print_report(outcomes: Sequence[Outcome], console: Console) -> None:
    """Print the table of all that succeeded, where the model cards are, and why the others failed."""
    ordered = sorted(outcomes, key=lambda outcome: (outcome.user, outcome.modality))
    good = [outcome for outcome in ordered if outcome.succeeded]
    bad = [outcome for outcome in ordered if not outcome.succeeded]
    if good:
        console.print(_table(good[:_ROWS_SHOWN]))
        if len(good) > _ROWS_SHOWN:
            console.print(f"and {len(good) - _ROWS_SHOWN} more")
    cards = [outcome.model_card for outcome in good[:_ROWS_SHOWN] if outcome.model_card]
    if cards:
        console.print("model cards:")
        for card in cards:
            console.print(Text(f"  {card}"), soft_wrap=True)
    for outcome in bad:
        console.print(Text(f"failed: {outcome.line}", style="red"), soft_wrap=True)


def _table(outcomes: Sequence[Outcome]) -> Table:
    table = Table(title="published")
    for heading in ("user", "modality", "version"):
        table.add_column(heading, no_wrap=True)
    for heading in ("samples", "sessions", "session-wise accuracy"):
        table.add_column(heading, justify="right")
    table.add_column("verdict")
    table.add_column("seconds", justify="right")
    for outcome in outcomes:
        table.add_row(
            Text(outcome.user),
            outcome.modality,
            outcome.version or "-",
            str(outcome.samples),
            str(outcome.sessions),
            _accuracy(outcome),
            Text(outcome.verdict),
            f"{outcome.seconds:.1f}",
        )
    return table


def _accuracy(outcome: Outcome) -> str:
    if outcome.accuracy is None:
        return "-"
    if outcome.accuracy_low is None or outcome.accuracy_high is None:
        return f"{outcome.accuracy:.3f}"
    return f"{outcome.accuracy:.3f} ({outcome.accuracy_low:.3f}–{outcome.accuracy_high:.3f})"
