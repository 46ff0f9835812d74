"""The model card: one self-contained page for a carer first and an engineer second."""

from __future__ import annotations

import base64
from functools import lru_cache
from pathlib import Path
from typing import Any

from shared.charts import line_chart
from shared.metrics import Report
from shared.schema_utils import TrainingLogEntry

_SPOKEN = {
    "good": "This model does well on days it was not trained on.",
    "weak": "This model makes mistakes that matter. Read what to do before relying on it.",
    "insufficient data": "There is not enough data to know how well this model works.",
}


def model_card(entry: TrainingLogEntry, result: Report, confusion: bytes) -> bytes:
    """Return the card as UTF-8 HTML that asks for nothing from outside."""
    page: str = _template().render(
        entry=entry.model_dump(mode="json"),
        spoken=_SPOKEN[result.verdict],
        result=result,
        metrics=result.metrics,
        charts=_charts(result),
        picture=base64.b64encode(confusion).decode(),
    )
    return page.encode()


def _charts(result: Report) -> list[tuple[str, str, str]]:
    """Return heading, explanation and SVG of each curve that there are points for."""
    found = []
    if result.reliability:
        points = [(confidence, accuracy) for confidence, accuracy, _ in result.reliability]
        chart = line_chart(points, "how sure it was", "how often it was right", "Reliability", diagonal=True)
        found.append(("Is it as sure as it should be?", "On the dashed line it is right as often as it says.", chart))
    if len(result.learning) > 1:
        most = float(result.learning[-1][0])
        chart = line_chart(result.learning, "samples trained on", "recognised", "Learning curve", most)
        found.append(("Do more samples help?", "If the line still rises at its end, more samples will help.", chart))
    if len(result.coverage) > 1:
        chart = line_chart(result.coverage, "share answered", "right among these", "Accuracy by coverage")
        found.append(("What if it answers only when it is sure?", "It may say `unknown` instead of guessing.", chart))
    return found


@lru_cache(maxsize=1)
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["percent"] = lambda value: f"{100 * value:.0f} %"
    return environment.from_string(Path(__file__).with_name("model_card.html").read_text("utf-8"))
