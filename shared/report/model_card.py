"""The model card: one self-contained page for a carer first and an engineer second."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from model_registry.metrics import OF_NO_SESSION, metric_name
from shared.report.charts import interval_chart, line_chart, timeline_chart
from shared.report.pages import page_environment
from shared.schema_utils import TrainingLogEntry
from shared.trainers import title_of
from shared.training_run import Report

_VERDICTS = {
    "good": "This model does well on {unseen} it was not trained on.",
    "weak": "This model makes mistakes that matter. Read what to do next before relying on it.",
    "insufficient data": "There is not enough data to know how well this model works.",
}
_MANY = 12  # labels or rows, beyond which a table shows what matters most and the rest on a click
_ROWS = 60  # of a table of records or sessions; the training log has all
_UNSEEN = {"session": "days", "person": "people"}


def model_card(entry: TrainingLogEntry, result: Report) -> bytes:
    """Return the card as UTF-8 HTML that loads nothing from elsewhere."""
    dumped = entry.model_dump(mode="json")
    page: str = _template().render(
        entry=dumped,
        kind=title_of(entry.modality),
        verdict=_VERDICTS[result.verdict].format(unseen=_UNSEEN[result.unit]),
        result=result,
        many=len(result.labels) > _MANY,
        few=_MANY,
        weakest=sorted(result.labels, key=lambda row: row.recall),
        shown=_ROWS,
        left_out=Counter(row["reason"] for row in dumped.get("dropped", [])).most_common(_ROWS),
        metrics=result.metrics,
        headline="" if result.scheme == "within-session" else _headline(result),
        of_no_session=OF_NO_SESSION,
        intervals=result.scheme != "within-session",
        charts=_charts(result),
        sessions=_sessions(dumped.get("timeline", [])),
        reproduce=_reproduce(entry),
    )
    return page.encode()


def _headline(result: Report) -> str:
    """Return a chart of the accuracy with its interval and the majority baseline."""
    metrics = result.metrics
    return interval_chart(
        metrics["accuracy"],
        metrics["accuracy_low"],
        metrics["accuracy_high"],
        [("always the most frequent label", metrics["majority_baseline"])],
        "Accuracy",
    )


def _charts(result: Report) -> list[tuple[str, str, str]]:
    """Return heading, explanation and SVG of each curve that there are points for."""
    charts = []
    if len(result.learning_curve) > 1:
        most = float(result.learning_curve[-1][0])
        chart = line_chart(result.learning_curve, "samples trained on", "accuracy", "Learning curve", most)
        charts.append(("Learning curve", "If the line still rises at its end, more samples will help.", chart))
    if len(result.accuracy_by_coverage) > 1:
        chart = line_chart(result.accuracy_by_coverage, "coverage", "accuracy", "Accuracy by coverage")
        explained = (
            "Coverage is the share of recordings that it accepts; it rejects the others as `unknown`. The line shows "
            "how accurate it is where it accepts only those that it is most certain of."
        )
        charts.append(("Accuracy by coverage", explained, chart))
    if result.reliability:
        points = [(confidence, accuracy) for confidence, accuracy, _ in result.reliability]
        chart = line_chart(points, "confidence", "accuracy", "Reliability", diagonal=True)
        explained = (
            "On the dashed line it is right as often as its confidence says. The expected calibration error is "
            f"{result.metrics['ece']:.0%}; on sessions that the calibration was not fitted on it is "
            f"{result.metrics['ece_calibrated']:.0%} with it and {result.metrics['ece_uncalibrated']:.0%} without, and "
            "the better is used."
        )
        charts.append(("Reliability", explained, chart))
    return charts


def _sessions(timeline: Sequence[dict[str, Any]]) -> str:
    rows = [(row["started"], row["samples"], row["recognised"] / row["samples"]) for row in timeline]
    return timeline_chart(rows, "Sessions by time") if rows else ""


def _reproduce(entry: TrainingLogEntry) -> str:
    words = ["model-trainer", "reproduce", "--user", entry.user_id, "--modality", entry.modality]
    return f"{shlex.join(words)} --version VERSION --registry REGISTRY --data DATA"


@lru_cache(maxsize=1)
def _template() -> Any:
    environment = page_environment()
    environment.filters["metric"] = metric_name
    return environment.get_template("model_card.html")
