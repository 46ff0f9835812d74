"""The model card: one self-contained page for a carer first and an engineer second."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from model_registry.languages import Words
from model_registry.metrics import OF_NO_SESSION, metric_name
from shared.report.charts import interval_chart, line_chart, timeline_chart
from shared.report.pages import page_environment, page_words
from shared.schema_utils import TrainingLogEntry
from shared.trainers import title_of
from shared.training_run import Report, Unit

GOOD: dict[Unit, str] = {
    "session": "This model does well on days it was not trained on.",
    "person": "This model does well on people it was not trained on.",
}
NOT_GOOD = {
    "weak": "This model makes mistakes that matter. Read what to do next before relying on it.",
    "insufficient data": "There is not enough data to know how well this model works.",
}
CHARTS = {  # heading -> names of its axes, and what is to be read from it
    "Learning curve": (
        *("samples trained on", "accuracy"),
        "If the line still rises at its end, more samples will help.",
    ),
    "Accuracy by coverage": (
        *("coverage", "accuracy"),
        "Coverage is the share of recordings that it accepts; it rejects the others as `unknown`. The line shows how "
        "accurate it is where it accepts only those that it is most certain of.",
    ),
    "Reliability": (
        *("confidence", "accuracy"),
        "On the dashed line it is right as often as its confidence says. The expected calibration error is %(used)s; "
        "on sessions that the calibration was not fitted on it is %(with)s with it and %(without)s without. It is used "
        "unless that is surely worse.",
    ),
}
OTHER_TEXTS = (
    *("always the most frequent label", "Sessions by time", "%(day)s: %(recordings)s recordings, %(share)s recognised"),
    *("Accuracy", "Good", "Weak", "Insufficient data"),
)
_MANY = 12  # labels or rows, beyond which a table shows what matters most and the rest on a click
_ROWS = 60  # of a table of records or sessions; the training log has all


def model_card(entry: TrainingLogEntry, result: Report) -> bytes:
    """Return the card as UTF-8 HTML that loads nothing from elsewhere, in the language that the configuration names."""
    dumped = entry.model_dump(mode="json")
    language = page_words(entry.training_config.get("lang", "en"))
    page: str = _template(language).render(
        entry=dumped,
        kind=title_of(entry.modality),
        verdict=GOOD[result.unit] if result.verdict == "good" else NOT_GOOD[result.verdict],
        result=result,
        many=len(result.labels) > _MANY,
        few=_MANY,
        weakest=sorted(result.labels, key=lambda row: row.recall),
        shown=_ROWS,
        left_out=Counter(row["reason"] for row in dumped.get("dropped", [])).most_common(_ROWS),
        metrics=result.metrics,
        headline="" if result.scheme == "within-session" else _headline(result, language),
        of_no_session=OF_NO_SESSION,
        intervals=result.scheme != "within-session",
        charts=list(_charts(result, language)),
        sessions=_sessions(dumped.get("timeline", []), language),
        reproduce=_reproduce(entry),
    )
    return page.encode()


def _headline(result: Report, language: Words) -> str:
    """Return a chart of the accuracy with its interval and the majority baseline."""
    metrics, baseline = result.metrics, language.text("always the most frequent label")
    interval = (metrics["accuracy"], metrics["accuracy_low"], metrics["accuracy_high"])
    beside = [(baseline, metrics["majority_baseline"])]
    return interval_chart(*interval, beside, language.text("Accuracy"), language.percent)


def _charts(result: Report, language: Words) -> Iterator[tuple[str, str, str]]:
    """Yield heading, explanation and SVG of each curve that there are points for."""
    for heading, points, most, diagonal in (
        ("Learning curve", result.learning_curve, None, False),
        ("Accuracy by coverage", result.accuracy_by_coverage, 1.0, False),
        ("Reliability", [(confidence, accuracy) for confidence, accuracy, _ in result.reliability], 1.0, True),
    ):
        if len(points) < (1 if diagonal else 2):
            continue
        title, across, down, explained = map(language.text, (heading, *CHARTS[heading]))
        if diagonal:
            shares = {"used": "ece", "with": "ece_calibrated", "without": "ece_uncalibrated"}
            explained %= {name: language.percent(result.metrics[key]) for name, key in shares.items()}
        end = most or float(points[-1][0])
        yield title, explained, line_chart(points, across, down, title, language.percent, end, diagonal)


def _sessions(timeline: Sequence[dict[str, Any]], language: Words) -> str:
    rows = [(row["started"], row["samples"], row["recognised"] / row["samples"]) for row in timeline]
    text = language.text("%(day)s: %(recordings)s recordings, %(share)s recognised")
    described = "; ".join(
        text % {"day": start[:10], "recordings": count, "share": language.percent(share)}
        for start, count, share in rows
    )
    return timeline_chart(rows, f"{language.text('Sessions by time')}. {described}.") if rows else ""


def _reproduce(entry: TrainingLogEntry) -> str:
    words = ["model-trainer", "reproduce", "--user", entry.user_id, "--modality", entry.modality]
    return f"{shlex.join(words)} --version VERSION --registry REGISTRY --data DATA"


@lru_cache
def _template(language: Words) -> Any:
    environment = page_environment(language)
    environment.filters["metric"] = metric_name
    return environment.get_template("model_card.html")
