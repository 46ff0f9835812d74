"""What the registry's commands print on a terminal of 80 columns, for people, and elsewhere, for programs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from model_registry.store import Registry
from tests.model_registry.bundles import make_bundle
from tests.terminal import run_on_terminal

REGISTRY = (sys.executable, "-m", "model_registry")
METRICS = {"accuracy": 0.914, "accuracy_low": 0.851, "accuracy_high": 0.957, "f1_macro": 0.873}

pytestmark = pytest.mark.slow


@pytest.fixture
def models(tmp_path: Path) -> str:
    store = Registry(tmp_path / "models")
    for user, modality, verdict in (("ana", "sound", "good"), ("benjamin", "visual_environment", "insufficient data")):
        bundle = make_bundle(tmp_path, user=user, modality=modality, verdict=verdict, metrics=METRICS)
        store.publish(bundle, reason="this user has no active version yet")
    return str(store.root)


def test_the_list_fits_80_columns_and_shows_what_its_help_promises(models: str) -> None:
    code, shown = run_on_terminal([*REGISTRY, "list", "--registry", models], columns=80)
    lines = shown.splitlines()
    assert code == 0 and max(map(len, lines)) <= 80
    assert lines[0].split() == ["user", "modality", "version", "status", "verdict", "accuracy"]
    assert lines[1].split() == ["ana", "sound", "v1", "active", "good", "0.91", "(0.85–0.96)"]
    assert lines[2].split() == ["benjamin", "visual_environment", "v1", "active", "insufficient", "0.91", "(0.85–0.96)"]
    assert lines[3].split() == ["data"]


def test_a_file_gets_every_column(models: str) -> None:
    listed = subprocess.run([*REGISTRY, "list", "--registry", models], capture_output=True, text=True, timeout=60)
    assert listed.stdout.split()[:10][-4:] == ["f1_macro", "examples", "sessions", "trained"]
    assert "insufficient data" in listed.stdout and "0.873" in listed.stdout


def test_a_version_is_shown_to_people_in_80_columns(models: str) -> None:
    code, shown = run_on_terminal([*REGISTRY, "show", "ana", "sound", "v1", "--registry", models], columns=80)
    words = [line.split() for line in shown.splitlines()]
    assert code == 0 and max(map(len, shown.splitlines())) <= 80
    assert ["version", "ana/sound", "v1", "(active)"] in words and ["verdict", "good"] in words
    assert ["accuracy", "0.914", "0.851", "0.957"] in words and ["f1_macro", "0.873"] in words
    assert any(" ".join(line[2:]) == "publish v1 this user has no active version yet" for line in words)


def test_a_program_gets_the_same_as_json(models: str) -> None:
    words = [*REGISTRY, "show", "ana", "sound", "v1", "--registry", models]
    piped = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert json.loads(piped.stdout)["entry"]["metrics"] == METRICS
    assert json.loads(run_on_terminal([*words, "--json"], columns=4000)[1]) == json.loads(piped.stdout)
