"""Shells complete the command and its options, and every help text has examples."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).with_name("model-trainer")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script_and_completions(shell: str) -> None:
    environment = {**os.environ, "_MODEL_TRAINER_COMPLETE": f"{shell}_source"}
    script = subprocess.run([str(PROGRAM)], env=environment, capture_output=True, text=True, timeout=60)
    assert script.returncode == 0
    assert "_MODEL_TRAINER_COMPLETE" in script.stdout
    asked = {"_MODEL_TRAINER_COMPLETE": f"{shell}_complete", "COMP_WORDS": "model-trainer pre", "COMP_CWORD": "1"}
    if shell == "fish":
        asked["COMP_CWORD"] = "pre"
    told = subprocess.run([str(PROGRAM)], env={**os.environ, **asked}, capture_output=True, text=True, timeout=60)
    assert {"predict", "pretrained"} <= {
        word for line in told.stdout.splitlines() for word in line.replace(",", " ").split()
    }


@pytest.mark.parametrize("module", ["launch", "monitor", "registry_uploader"])
def test_help_has_examples(module: str) -> None:
    command = [sys.executable, "-m", f"orchestrator.{module}", "--help"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert told.returncode == 0
    assert "Examples:" in told.stdout
