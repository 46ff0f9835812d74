"""What the pages of this package share: their templates' environment, filters and style (`style.css`)."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Any


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
    environment.filters |= {"day": _day, "marked": _marked, "percent": lambda value: f"{100 * value:.0f}\u00a0%"}
    return environment


def _marked(text: str) -> Any:
    """Return text as HTML, with what is between backticks as code."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _day(text: str) -> str:
    moment = datetime.fromisoformat(text)
    return f"{moment.day} {moment:%B %Y}"
