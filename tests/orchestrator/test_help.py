"""Every help text of the orchestrator has examples."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest


@pytest.mark.parametrize("option", ["--help", "-h"])
@pytest.mark.parametrize("module", ["launch", "monitor", "registry_uploader"])
def test_help_has_examples(module: str, option: str) -> None:
    command = [sys.executable, "-m", f"orchestrator.{module}", option]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0
    assert "Examples:" in shown.stdout


@pytest.mark.parametrize("module", ["launch", "monitor", "registry_uploader"])
def test_the_version_is_printed(module: str) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", f"orchestrator.{module}", "--version"], capture_output=True, text=True, timeout=60
    )
    assert shown.stdout.rstrip().endswith(version("model-trainer"))
