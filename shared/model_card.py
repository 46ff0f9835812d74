"""The model card: one self-contained page for a carer first and an engineer second."""

from __future__ import annotations

import base64
from functools import lru_cache
from pathlib import Path
from typing import Any

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
        picture=base64.b64encode(confusion).decode(),
    )
    return page.encode()


@lru_cache(maxsize=1)
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["percent"] = lambda value: f"{100 * value:.0f} %"
    return environment.from_string(Path(__file__).with_name("model_card.html").read_text("utf-8"))
