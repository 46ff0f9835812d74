"""Every help text of the orchestrator has examples."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.paths import ROOT


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


@pytest.mark.slow
@pytest.mark.parametrize("command", ["batch", "monitor", "upload"])
def test_the_commands_belong_to_model_trainer_too(command: str, tmp_path: Path) -> None:
    program = Path(sysconfig.get_path("scripts"), "model-trainer")
    shown = subprocess.run([program, command, "-h"], capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0 and f"  model-trainer {command} " in shown.stdout, shown.stderr
    wrong = subprocess.run([program, command, "--colour"], capture_output=True, text=True, timeout=60)
    assert wrong.returncode == 2 and f"Usage: model-trainer {command}" in wrong.stderr


@pytest.mark.slow
def test_a_batch_of_model_trainer_ends_with_the_exit_code_of_launch_all(tmp_path: Path) -> None:
    (tmp_path / "users").mkdir()
    words = ["--data", str(tmp_path), "--runs", str(tmp_path / "runs"), "--registry", str(tmp_path / "models")]
    codes = [
        subprocess.run([*program, *words, "--users", "ana"], capture_output=True, text=True, timeout=60).returncode
        for program in (
            [Path(sysconfig.get_path("scripts"), "model-trainer"), "batch"],
            [ROOT / "orchestrator" / "launch_all.sh"],
        )
    ]
    assert codes[0] == codes[1] != 0
