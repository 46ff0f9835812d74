"""Every help text of the orchestrator has examples."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["launch", "monitor", "registry_uploader"])
def test_help_has_examples(module: str) -> None:
    command = [sys.executable, "-m", f"orchestrator.{module}", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0
    assert "Examples:" in shown.stdout
