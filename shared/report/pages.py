"""What the pages of this package share: their templates' environment, filters and style (`style.css`)."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from model_registry.messages import marked, sentence


def page_environment() -> Any:
    """Return an environment of Jinja that finds the templates of this package, and escapes all that it inserts."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "day": _day,
        "marked": marked,
        "sentence": sentence,
        "percent": lambda value: f"{100 * value:.0f}\u00a0%",
    }
    return environment


def _day(text: str) -> str:
    moment = datetime.fromisoformat(text)
    return f"{moment.day} {moment:%B %Y}"
