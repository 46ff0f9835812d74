"""The languages of pages: catalogues of translations, the reader's choice, and how dates and numbers are written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, Final, Literal, get_args

Language = Literal["en", "de", "es"]
LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)
CATALOGUES = Path(__file__).parent / "locale"
_REGIONS = {"en": "en_GB", "de": "de_DE", "es": "es_ES"}  # whose dates and numbers are written
_LOGGED = "log"  # the context of messages that logs hold in English
_MODALITY = "modality"  # the context of names of modalities: any package may declare another
_VALUE = r"(?P<\1>(?:`[^`]*`|[^`])+?)"  # of a placeholder: a label in backticks is never divided
_COUNT = r"(?P<count>\d+)"  # of the placeholder `count`
_LONGEST = 600  # characters of a sentence that is translated
_PERCENTAGE = re.compile(r"^(\d+)%$")
_PLACEHOLDER = re.compile(r"%\\\((\w+)\\\)s")  # of a message, after `re.escape`


@dataclass(frozen=True)
class Words:
    """A language with its translations, ready for Jinja: `gettext` and `ngettext` return a message in this language.

    `logged` has the sentences that logs hold in English, as patterns with their translations.
    """

    language: Language
    translations: Any  # babel.support.Translations
    logged: tuple[tuple[re.Pattern[str], str], ...] = ()

    def text(self, message: str) -> str:
        """Return a message in this language, and in English where no catalogue has it."""
        return str(self.translations.gettext(message))

    def logged_text(self, sentence: str) -> str:
        """Return a sentence of a log in this language; in English where it is none that a catalogue knows.

        Of `path:line: field: reason` the reason is translated.
        """
        for pattern, translation in self.logged if len(sentence) <= _LONGEST else ():
            match = pattern.fullmatch(sentence)
            if match is not None:
                return translation % {name: self.logged_text(part) for name, part in match.groupdict().items()}
        place, colon, reason = sentence.partition(": ")
        return f"{place}: {self.logged_text(reason)}" if colon else self._percentage(sentence)

    def modality(self, name: str) -> str:
        """Return what a modality is called, where a catalogue knows it; else its name with blanks."""
        return str(self.translations.pgettext(_MODALITY, name.replace("_", " ")))

    def date(self, moment: str) -> str:
        """Return the day of a time in ISO 8601: 5 March 2026."""
        return self._day(datetime.fromisoformat(moment))

    def time(self, moment: str) -> str:
        """Return a time in ISO 8601, to the minute: 5 March 2026, 10:00 UTC."""
        utc = datetime.fromisoformat(moment).astimezone(UTC)
        return f"{self._day(utc)}, {utc:%H:%M} UTC"

    def _day(self, moment: datetime) -> str:
        from babel.dates import format_date

        return str(format_date(moment, "long", locale=_REGIONS[self.language]))

    def number(self, value: float, digits: int = 3, sign: bool = False) -> str:
        """Return a number with so many digits after the point, or the comma where the language has one."""
        text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
        return text if self.language == "en" else text.replace(".", ",")

    def percent(self, share: float) -> str:
        """Return a share as a percentage without digits after the point: 87%, and with a blank where that is usual."""
        return self._percentage(f"{share:.0%}")

    def _percentage(self, text: str) -> str:
        """Return what a log says, in this language if it is a percentage."""
        return text if self.language == "en" else _PERCENTAGE.sub("\\1\u00a0%", text)


@lru_cache
def words(language: Language, *folders: Path) -> Words:
    """Return a language with the catalogues `<language>.po` of `folders`, earlier ones first. English needs none."""
    from babel.support import NullTranslations, Translations

    found: Any = NullTranslations()
    logged: list[tuple[re.Pattern[str], str]] = []
    for folder in reversed(folders if language != "en" else ()):
        catalogue = read_catalogue(folder / f"{language}.po")
        translations = Translations(BytesIO(_compiled(catalogue)))
        translations.add_fallback(found)
        found = translations
        logged[:0] = _patterns(catalogue)
    return Words(language, found, tuple(logged))


def preferred_language(accept_language: str) -> Language:
    """Return which of LANGUAGES a browser's `Accept-Language` likes best; English where it names none of them."""
    qualities = dict.fromkeys(LANGUAGES, 0.0)
    for part in accept_language.split(","):
        tag, _, quality = part.partition(";")
        weight = re.fullmatch(r"\s*q=([01](?:\.\d{0,3})?)\s*", quality)
        for language in LANGUAGES:
            if tag.strip().split("-")[0].lower() == language:
                qualities[language] = max(qualities[language], float(weight[1]) if weight else 1.0)
    return max(LANGUAGES, key=lambda language: qualities[language])


def read_catalogue(path: Path) -> Any:
    """Return the messages of a `.po` file as Babel's `Catalog`."""
    from babel.messages.pofile import read_po

    with path.open("rb") as file:
        return read_po(file, locale=path.stem, abort_invalid=True)


def install(environment: Any, language: Words) -> None:
    """Give the templates of a Jinja environment a language: `_`, `{% trans %}`, and filters for dates and numbers."""
    environment.add_extension("jinja2.ext.i18n")
    environment.install_gettext_translations(language.translations, newstyle=True)
    environment.globals["language"] = language.language
    environment.filters |= _filters(language)


def _filters(language: Words) -> Mapping[str, Any]:
    return {
        "day": language.date,
        "when": language.time,
        "number": language.number,
        "percent": language.percent,
        "logged": language.logged_text,
        "modality": language.modality,
        "translated": language.text,
    }


def _compiled(catalogue: Any) -> bytes:
    from babel.messages.mofile import write_mo

    compiled = BytesIO()
    write_mo(compiled, catalogue)
    return compiled.getvalue()


def _patterns(catalogue: Any) -> Iterator[tuple[re.Pattern[str], str]]:
    """Yield the sentences of logs as patterns of their English text, and their translations."""
    for message in catalogue:
        if message.context == _LOGGED and message.string:
            pattern = re.escape(message.id).replace("%%", "%").replace(re.escape("%(count)s"), _COUNT)
            pattern = _PLACEHOLDER.sub(_VALUE, pattern)
            yield re.compile(pattern, re.DOTALL), message.string
