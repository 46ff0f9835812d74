"""The model card: one self-contained page for a carer first and an engineer second."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from shared.report.charts import interval_chart, line_chart, timeline_chart
from shared.report.metrics import Report
from shared.schema_utils import TrainingLogEntry

_SPOKEN = {
    "good": "This model does well on {unseen} it was not trained on.",
    "weak": "This model makes mistakes that matter. Read what to do before relying on it.",
    "insufficient data": "There is not enough data to know how well this model works.",
}
_UNSEEN = {"session": "days", "person": "people"}
_KINDS = {
    "gesture": "Gestures",
    "sound": "Sounds",
    "speech": "Words",
    "visual_environment": "Places and things",
}


def model_card(entry: TrainingLogEntry, result: Report) -> bytes:
    """Return the card as UTF-8 HTML that asks for nothing from outside."""
    dumped = entry.model_dump(mode="json")
    page: str = _template().render(
        entry=dumped,
        kind=_KINDS.get(entry.modality, entry.modality),
        spoken=_SPOKEN[result.verdict].format(unseen=_UNSEEN[result.unit]),
        result=result,
        metrics=result.metrics,
        headline=_headline(result),
        charts=_charts(result),
        sessions=_sessions(dumped.get("timeline", [])),
        reproduce=_reproduce(entry),
    )
    return page.encode()


def _headline(result: Report) -> str:
    """Return accuracy with its interval, beside what guessing the commonest label would reach."""
    metrics = result.metrics
    return interval_chart(
        metrics["accuracy"],
        metrics["accuracy_low"],
        metrics["accuracy_high"],
        [("always the commonest label", metrics["majority_baseline"])],
        "Recognised",
    )


def _charts(result: Report) -> list[tuple[str, str, str]]:
    """Return heading, explanation and SVG of each curve that there are points for."""
    found = []
    if len(result.learning) > 1:
        most = float(result.learning[-1][0])
        chart = line_chart(result.learning, "samples trained on", "recognised", "Learning curve", most)
        found.append(("Do more samples help?", "If the line still rises at its end, more samples will help.", chart))
    if len(result.coverage) > 1:
        chart = line_chart(result.coverage, "share answered", "right among these", "Accuracy by coverage")
        found.append(("What if it answers only when it is sure?", "It may say `unknown` instead of guessing.", chart))
    if result.reliability:
        points = [(confidence, accuracy) for confidence, accuracy, _ in result.reliability]
        chart = line_chart(points, "how sure it was", "how often it was right", "Reliability", diagonal=True)
        explained = (
            "On the dashed line it is right as often as it says. How sure it is misses how often it is right by "
            f"{result.metrics['ece']:.0%} on average; before calibration by {result.metrics['ece_uncalibrated']:.0%}."
        )
        found.append(("Is it as sure as it should be?", explained, chart))
    return found


def _sessions(timeline: Sequence[dict[str, Any]]) -> str:
    rows = [(row["started"], row["samples"], row["recognised"] / row["samples"]) for row in timeline]
    return timeline_chart(rows, "Sessions by time") if rows else ""


def _reproduce(entry: TrainingLogEntry) -> str:
    words = ["model-trainer", "reproduce", "--user", entry.user_id, "--modality", entry.modality]
    return f"{shlex.join(words)} --version VERSION --registry REGISTRY --data DATA"


def _marked(text: str) -> Any:
    """Return text as HTML in which what stands between backticks is marked."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _day(text: str) -> str:
    moment = datetime.fromisoformat(text)
    return f"{moment.day} {moment:%B %Y}"


@lru_cache(maxsize=1)
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["percent"] = lambda value: f"{100 * value:.0f}\u00a0%"
    environment.filters |= {"day": _day, "marked": _marked}
    return environment.from_string(Path(__file__).with_name("model_card.html").read_text("utf-8"))
