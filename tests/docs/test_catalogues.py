"""Every message of the pages has a translation in every language, with the same placeholders."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path

import pytest

from docs.catalogues import all_messages, unique, write_catalogues
from model_registry.languages import CATALOGUES, LANGUAGES, Language, read_catalogue, words
from shared.trainers import modality_names
from tests.paths import ROOT

FOLDERS = all_messages()
TRANSLATED = [(folder, language) for folder in FOLDERS for language in LANGUAGES[1:]]


def placeholders(text: str) -> list[str]:
    return sorted(re.findall(r"%\(\w+\)s", text))


@pytest.mark.parametrize(("folder", "language"), TRANSLATED, ids=lambda each: getattr(each, "name", each))
def test_every_message_is_translated_with_its_placeholders(folder: Path, language: str) -> None:
    catalogue = read_catalogue(folder / f"{language}.po")
    messages = FOLDERS[folder]
    assert len(messages) > 50
    untranslated = [message for message in messages if message not in catalogue or not catalogue[message].string]
    assert not untranslated, "write the catalogues again and translate what is new: see CONTRIBUTING.md"
    for message in catalogue:
        if not message.id:
            continue
        texts = message.string if isinstance(message.string, tuple) else (message.string,)
        sources = message.id if isinstance(message.id, tuple) else (message.id,)
        assert all(texts), message.id
        for text in texts[1:] or texts:
            assert placeholders(text) == placeholders(sources[-1]), message.id
        assert all("%" not in re.sub(r"%\(\w+\)s|%%", "", text) for text in texts) or not placeholders(sources[-1])


@pytest.mark.parametrize(("folder", "language"), TRANSLATED, ids=lambda each: getattr(each, "name", each))
def test_a_catalogue_has_nothing_else_and_is_as_it_is_written(folder: Path, language: str, tmp_path: Path) -> None:
    copy = tmp_path / "locale"
    shutil.copytree(folder, copy)
    write_catalogues(copy, FOLDERS[folder])
    assert (copy / f"{language}.po").read_bytes() == (folder / f"{language}.po").read_bytes()
    write_catalogues(copy, FOLDERS[folder][1:])
    assert (copy / f"{language}.po").read_bytes() != (folder / f"{language}.po").read_bytes()


def test_the_catalogues_are_part_of_the_package() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["package-data"]["*"]
    for folder in FOLDERS:
        included = {path for pattern in patterns for path in folder.parent.glob(pattern)}
        assert included >= {folder / f"{language}.po" for language in LANGUAGES[1:]}


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_every_modality_has_a_name(language: Language) -> None:
    names = [words(language, CATALOGUES).modality(name) for name in modality_names()]
    assert len(set(names)) == len(names) >= 4 and not set(names) & {*modality_names(), "visual environment"}
    assert words(language, CATALOGUES).modality("heart_rate") == "heart rate"


def test_a_message_with_a_plural_stands_once() -> None:
    assert unique(["a", ("a", "as"), "b", "b"]) == [("a", "as"), "b"]
