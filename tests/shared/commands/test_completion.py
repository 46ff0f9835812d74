"""Every command completes its words in the shells that docs/batches.md names."""

import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

from tests.paths import ROOT

COMMANDS = ("model-trainer", "gesture-train", "sound-train", "speech-train", "visual-train")


def _run(command: str, **environment: str) -> str:
    variable = f"_{command.upper().replace('-', '_')}_COMPLETE"
    known = {variable if name == "asked" else name: value for name, value in environment.items()}
    path = Path(sysconfig.get_path("scripts"), command)
    done = subprocess.run([str(path)], env=os.environ | known, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_is_told_how_to_ask_and_what_it_may_be(shell: str) -> None:
    told = _run("model-trainer", asked=f"{shell}_source")
    assert "_MODEL_TRAINER_COMPLETE" in told and "complet" in told
    begun = {"COMP_WORDS": "model-trainer re", "COMP_CWORD": "re" if shell == "fish" else "1"}
    answers = _run("model-trainer", asked=f"{shell}_complete", **begun).replace(",", " ").split()
    assert {"registry", "reproduce"} <= set(answers)
    page = (ROOT / "docs" / "batches.md").read_text("utf-8")
    assert f"_MODEL_TRAINER_COMPLETE={shell}_source model-trainer" in page


@pytest.mark.parametrize("command", COMMANDS)
def test_words_are_completed(command: str) -> None:
    begun = "re" if command == "model-trainer" else "--promo"
    answers = _run(command, asked="bash_complete", COMP_WORDS=f"{command} {begun}", COMP_CWORD="1")
    assert answers.split() == (
        ["plain,readmit", "plain,registry", "plain,reproduce"] if command == "model-trainer" else ["plain,--promote"]
    )
