"""Languages: the reader's choice, dates and numbers, and the sentences that logs hold in English."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_registry.languages import CATALOGUES, LANGUAGES, preferred_language, words


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("fr, es-MX;q=0.7, de;q=0.3", "es"),
        ("en;q=0.5, es;q=0.9", "es"),
        ("fr,it", "en"),
        ("de;q=0, en;q=0.1", "en"),
        ("de;q=0", "en"),
        ("*", "en"),
        (";;q=,,\u00fc;q=9", "en"),
        ("de;q=" + "1" * 5000, "de"),
    ],
)
def test_a_browser_gets_the_first_language_that_it_asks_for(header: str, language: str) -> None:
    assert preferred_language(header) == language


def test_dates_and_numbers_are_written_as_each_language_does() -> None:
    moment = "2026-03-05T10:00:59.000Z"
    said = {language: words(language, CATALOGUES) for language in LANGUAGES}
    assert [each.date(moment) for each in said.values()] == ["5 March 2026", "5. M\u00e4rz 2026", "5 de marzo de 2026"]
    assert [each.percent(0.866) for each in said.values()] == ["87%", "87\u00a0%", "87\u00a0%"]
    assert said["de"].time(moment) == "5. M\u00e4rz 2026, 10:00 UTC"
    assert [each.number(0.5) for each in said.values()] == ["0.500", "0,500", "0,500"]
    assert said["de"].number(0.25, 2, sign=True) == "+0,25" and said["en"].number(-0.25, 2, sign=True) == "-0.25"


def test_a_sentence_of_a_log_is_translated_with_what_it_names_and_another_is_left() -> None:
    german = words("de", CATALOGUES)
    advice = "Record 6 more of `in a new session` in 2 new sessions: it has 4 samples from 1 session."
    assert german.logged_text(advice) == (
        "Nehmen Sie `in a new session` noch 6-mal in 2 neuen Sitzungen auf: Es gibt 4 Aufnahmen aus einer Sitzung."
    )
    assert german.logged_text("fewer than 5 samples of `a b`, `c`") == "weniger als 5 Aufnahmen von `a b`, `c`"
    assert german.logged_text("its false rejection rate is 25%, above 20%") == (
        "seine Falschr\u00fcckweisungsrate ist 25\u00a0% und damit \u00fcber 20\u00a0%"
    )
    assert german.logged_text("something else, 100% new") == "something else, 100% new"
    assert words("en", CATALOGUES).logged_text(advice) == advice


def test_a_catalogue_falls_back_on_the_next_and_then_on_english(tmp_path: Path) -> None:
    (tmp_path / "de.po").write_text('msgid "Labels"\nmsgstr "Zeichen"\n', encoding="utf-8")
    german = words("de", tmp_path, CATALOGUES)
    assert [german.text(each) for each in ("Labels", "Accuracy", "not in any")] == [
        "Zeichen",
        "Genauigkeit",
        "not in any",
    ]
