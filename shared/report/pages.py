"""What the pages of this package share: their templates' environment, language, filters and style (`style.css`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from model_registry.languages import CATALOGUES, Language, Words, install, words
from model_registry.messages import marked, sentence

OWN_CATALOGUES = Path(__file__).parent / "locale"


def page_words(language: Language) -> Words:
    """Return a language with the translations of this package's pages, and those of the registry's."""
    return words(language, OWN_CATALOGUES, CATALOGUES)


def page_environment(language: Words) -> Any:
    """Return an environment of Jinja that finds the templates of this package, and escapes all that it inserts."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    install(environment, language)
    environment.filters |= {"marked": marked, "sentence": sentence}
    return environment
