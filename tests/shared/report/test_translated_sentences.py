"""Reasons of a verdict and advice are in English in the log; pages must know every one of them to translate it."""

from __future__ import annotations

import ast
import inspect
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest

from model_registry.languages import LANGUAGES
from shared.data.records import Dropped
from shared.data.samples import label_faults
from shared.data_loader import reason_left_out
from shared.features.probes import Probe
from shared.report import audit
from shared.report.advice import advise
from shared.report.metrics import judge, with_probes
from shared.report.pages import page_words
from shared.schema_utils import LabelStatus
from shared.training_run import LabelReport, Unit
from sound_trainer.preprocessing.probes import _SLOPES
from tests.paths import ROOT
from tests.shared.finished_runs import finished_run

BAD = {"accuracy_low": 0.1, "majority_baseline": 0.3, "balanced_accuracy": 0.5, "coverage": 0.5}
ACCEPTING = {"false_acceptance_rate": 0.4, "false_acceptance_rate_high": 0.6}


def label(name: str, support: int, sessions: int, recall: float, within: bool = False) -> LabelReport:
    return LabelReport(name, 0.9, recall, 0.7, 1.0, 0.9, support, sessions, within)


def untranslated(sentences: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return language and sentence of those that some language does not know, or knows in part only."""
    found = []
    for language, sentence in itertools.product(LANGUAGES[1:], sentences):
        said = page_words(language).logged_text(sentence)
        if said == sentence or {"session", "sessions", "people", "sample", "samples"} & {*said.strip(".").split()}:
            found.append((language, sentence))
    return found


@pytest.mark.parametrize("unit", ["session", "person"])
def test_every_reason_of_a_verdict_is_translated(unit: Unit, tmp_path: Path) -> None:
    two = [label("drink water", 3, 1, 0.4, within=True), label("eat", 20, 3, 0.2, within=True)]
    many = [replace(row, support=20) for row in two]
    reasons: list[str] = []
    for metrics, labels, sessions, scheme in (
        (BAD, two, 1, "within-session"),
        (BAD, two, 3, "within-session"),
        (BAD, many, 3, "leave-one-session-out"),
        (BAD | ACCEPTING, many, 3, "leave-one-session-out"),
    ):
        reasons += judge(metrics, labels, sessions, scheme, unit)[1]
    result = replace(finished_run(tmp_path).report, reasons=())
    for kind in ("hum", "background"):
        reasons += with_probes(result, [Probe(kind, {})] * 4, np.arange(4) < 2).reasons
    assert len(set(reasons)) >= 12
    assert untranslated(tuple(reasons)) == []
    assert untranslated(("something that nobody says",)) != []


def test_every_kind_of_probe_is_translated() -> None:
    kinds = {"random numbers", *_SLOPES}
    for path in ROOT.glob("*_trainer/preprocessing/probes.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Yield) and isinstance(node.value, ast.Tuple):
                first = node.value.elts[0]
                kinds |= {str(first.value)} if isinstance(first, ast.Constant) else set()
    assert {"hum", "still", "noise", "random keys", "white noise"} <= kinds and len(kinds) >= 20
    assert untranslated(tuple(sorted(kinds))) == []


@pytest.mark.parametrize("unit", ["session", "person"])
def test_every_piece_of_advice_is_translated(unit: Unit, tmp_path: Path) -> None:
    result = replace(finished_run(tmp_path).report, unit=unit)
    lines: list[str] = []
    for support, sessions, recall in itertools.product((1, 4, 20), (1, 2, 3), (0.2, 0.95)):
        rows = (label("drink water", support, sessions, recall), label("eat", 20, 3, 0.95))
        for confused in (0, 10):
            table = np.array([[2, confused], [0, 20]])
            curve = ((10, 0.5), (20, 0.5))
            lines += advise(replace(result, labels=rows, confusion_matrix=table, learning_curve=curve))
    assert len(set(lines)) >= 8 and any("confused with `eat`" in line for line in lines)
    assert any("no single label" in line for line in lines) and any("More of the same" in line for line in lines)
    assert untranslated(tuple(lines)) == []


def returned_texts(function: Callable[..., object]) -> set[str]:
    """Return the strings that a function returns, as they are written."""
    tree = ast.parse(inspect.getsource(function))
    values = [node.value for node in ast.walk(tree) if isinstance(node, ast.Return)]
    parts = [part for value in values if value is not None for part in ast.walk(value)]
    return {part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)}


def test_every_reason_to_leave_a_sample_out_is_translated() -> None:
    reasons = returned_texts(reason_left_out) - {"label is "}
    reasons |= {f"label is {status}" for status in get_args(LabelStatus)}
    reasons |= {"duplicate", "no label", "its label is unknown", "features were extracted again"}  # of A3CP's logs
    assert len(reasons) >= 12 and untranslated(tuple(sorted(reasons))) == []


def test_what_makes_labels_unfit_for_training_is_translated() -> None:
    """Of each kind one; a fault's place and field stay as they are."""
    ledger = [Dropped("r1", "no consent", "data", 1), Dropped("r2", "demo data", "data", 2)]
    faults = [*label_faults([], "speech", 5, [], "data", False), *label_faults([], "speech", 5, ledger, "data", False)]
    for count in (1, 2):
        examples = [SimpleNamespace(example=SimpleNamespace(label="go home")) for _ in range(count)]
        faults += label_faults(examples, "speech", 5, [], "data", False)  # type: ignore[arg-type]
    said = [page_words("de").logged_text(str(fault)) for fault in faults]
    assert len(said) == 6 and untranslated(tuple(fault.reason for fault in faults)) == []
    assert (
        "data: speech: keine Aufnahme zum Trainieren: 1 ausgelassen (keine Einwilligung), 1 ausgelassen (Dem" in said[1]
    )
    assert "data: label: 'go home' hat 1 Aufnahme (speech); mindestens 5 sind n\u00f6tig" in said[2]


def test_every_warning_of_the_audit_is_translated(tmp_path: Path) -> None:
    report = finished_run(tmp_path).report
    report = replace(report, metrics=report.metrics | {"optimism_gap": 0.3, "random_split_accuracy": 0.9})
    warnings = [*audit._warnings(report, 1, (0.9, 0.2), 1), *audit._warnings(report, 5, None, 5)]
    assert len(set(warnings)) == 6
    assert untranslated(tuple(warnings)) == []
