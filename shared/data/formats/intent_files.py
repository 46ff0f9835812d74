"""Intents as Rasa and fastText keep them: YAML, Markdown, and lines that begin with `__label__`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from shared.data.formats.raw import Findings, RawSample, ReadOptions
from shared.data.formats.text_files import read_text
from shared.errors import Fault

_FASTTEXT = "__label__"
_ENTITY = re.compile(r"\[([^\]]+)\](?:\([^)]*\)|\{[^}]*\})")  # [word](entity) and [word]{"entity": …}
_HEADING = re.compile(r"##\s*intent:\s*(.+)", re.IGNORECASE)
_ITEM = re.compile(r"\s*[-*+]\s+(.+)")


def is_fasttext(text: str) -> bool:
    """Return whether a text's first line is one of fastText's."""
    return text.lstrip().startswith(_FASTTEXT)


def read_fasttext(path: Path, options: ReadOptions) -> Findings:
    """Read `__label__<label> <text>`, one a line."""
    findings = Findings()
    for line, text in enumerate(read_text(path).text.splitlines(), 1):
        words = text.split()
        labels = [word.removeprefix(_FASTTEXT) for word in words if word.startswith(_FASTTEXT)]
        said = " ".join(word for word in words if not word.startswith(_FASTTEXT))
        if not words:
            continue
        if len(labels) != 1 or not said:
            reason = "needs one __label__ and a text"
            findings.faults.append(Fault(str(path), line, "(line)", reason))
            continue
        findings.samples.append(RawSample(str(path), line, labels[0], said))
    findings.notes.append("read as: fastText")
    return findings


def read_rasa_yaml(path: Path, options: ReadOptions) -> Findings:
    """Read Rasa's `nlu: [{intent, examples}]`; other parts of the file are passed over."""
    findings = Findings()
    try:
        # Texts only: otherwise the words yes, no and on would become true and false.
        value = yaml.load(read_text(path).text, Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = None if mark is None else mark.line + 1
        findings.faults.append(Fault(str(path), line, "(file)", "is not valid YAML"))
        return findings
    sections = value.get("nlu") if isinstance(value, dict) else None
    if not isinstance(sections, list):
        findings.faults.append(Fault(str(path), None, "nlu", "is missing: a list of intents with examples is needed"))
        return findings
    for number, section in enumerate(sections):
        if not isinstance(section, dict) or "intent" not in section:
            continue
        label = section["intent"]
        if not isinstance(label, str) or not label.strip():
            findings.faults.append(Fault(str(path), None, f"nlu.{number}.intent", "must be the name of an intent"))
            continue
        texts = list(_examples(section.get("examples")))
        if not texts:
            findings.skipped.append((label, "is an intent without examples"))
        findings.samples += [RawSample(str(path), None, label, text) for text in texts]
        if number == 0:
            findings.notes.append("read as: Rasa")
    return findings


def read_rasa_markdown(path: Path, options: ReadOptions) -> Findings:
    """Read Rasa's older `## intent:<name>` headings with a list of examples under each."""
    findings = Findings()
    label: str | None = None
    for line, text in enumerate(read_text(path).text.splitlines(), 1):
        if text.startswith("#"):
            heading = _HEADING.fullmatch(text.strip())
            label = heading.group(1).strip() if heading else None
        elif label is not None and (item := _ITEM.fullmatch(text)):
            findings.samples.append(RawSample(str(path), line, label, _without_entities(item.group(1))))
    if findings.samples:
        findings.notes.append("read as: Rasa")
    return findings


def _examples(value: Any) -> Iterator[str]:
    lines = value.splitlines() if isinstance(value, str) else value if isinstance(value, list) else []
    for line in lines:
        text = line.get("text") if isinstance(line, dict) else line
        if isinstance(text, str) and text.strip():
            item = _ITEM.fullmatch(text)
            yield _without_entities(item.group(1) if item else text)


def _without_entities(text: str) -> str:
    return _ENTITY.sub(r"\1", text).strip()
