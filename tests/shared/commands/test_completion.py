"""Every command completes its words in the shells that docs/batches.md names."""

import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

from model_registry.store import Registry
from tests.model_registry.bundles import make_bundle
from tests.paths import ROOT
from tests.speech_context_trainer.talk import ENGLISH, write_sessions

COMMANDS = ("model-trainer", "gesture-train", "sound-train", "speech-train", "visual-train")


def _run(command: str, **environment: str) -> str:
    variable = f"_{command.upper().replace('-', '_')}_COMPLETE"
    known = {variable if name == "request" else name: value for name, value in environment.items()}
    path = Path(sysconfig.get_path("scripts"), command)
    done = subprocess.run([str(path)], env=os.environ | known, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script_and_its_candidates(shell: str) -> None:
    script = _run("model-trainer", request=f"{shell}_source")
    assert "_MODEL_TRAINER_COMPLETE" in script and "complet" in script
    typed = {"COMP_WORDS": "model-trainer re", "COMP_CWORD": "re" if shell == "fish" else "1"}
    candidates = _run("model-trainer", request=f"{shell}_complete", **typed).replace(",", " ").split()
    assert {"registry", "reproduce"} <= set(candidates)
    page = (ROOT / "docs" / "batches.md").read_text("utf-8")
    assert f"_MODEL_TRAINER_COMPLETE={shell}_source model-trainer" in page


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_words_are_completed(command: str) -> None:
    typed = "re" if command == "model-trainer" else "--promo"
    candidates = _run(command, request="bash_complete", COMP_WORDS=f"{command} {typed}", COMP_CWORD="1")
    assert candidates.split() == (
        ["plain,readmit", "plain,registry", "plain,reproduce"] if command == "model-trainer" else ["plain,--promote"]
    )


def _completed(line: str, folder: Path) -> list[str]:
    """Return what bash offers for the last word of a command line of model-trainer, typed in `folder`."""
    environment = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), "_MODEL_TRAINER_COMPLETE": "bash_complete"}
    program = Path(sysconfig.get_path("scripts"), "model-trainer")
    done = subprocess.run(
        [program], cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [row.removeprefix("plain,") for row in done.stdout.split()]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data root `data` of ana, and a registry `models` of two users."""
    folder = tmp_path_factory.mktemp("completion")
    write_sessions(folder / "data", ENGLISH)
    store = Registry(folder / "models")
    for run in ("r1", "r2"):
        store.publish(make_bundle(folder, user="ben", modality="sound", run=run))
    store.publish(make_bundle(folder, user="bea", modality="gesture"))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "candidates"),
    [
        ("data list --data data --user a", ["ana"]),
        ("data list --data data --user ana --label ", ["hungry", "outside", "pain", "tired"]),
        ("data list --data nowhere --user a", []),
        ("train speech --data data --registry models --user ", ["ana", "bea", "ben"]),
        ("train speech --set evaluation.fo", ["evaluation.folds="]),
        ("train so", ["sound"]),
        ("registry show --registry models be", ["bea", "ben"]),
        ("registry show --registry models ben ", ["sound"]),
        ("registry show --registry models ben sound ", ["v1", "v2"]),
        ("registry show --registry models nobody sound ", []),
        ("registry show --registry models ../x ", []),
        ("registry diff --registry models ben sound v1 v", ["v1", "v2"]),
        ("registry show --registry http://127.0.0.1:1 b", []),
        ("predict --registry models --user ben --modality sound --version ", ["v1", "v2"]),
        ("predict --modality s", ["sound", "speech"]),
    ],
)
def test_values_are_completed(line: str, candidates: list[str], places: Path) -> None:
    assert _completed(f"model-trainer {line}", places) == candidates
