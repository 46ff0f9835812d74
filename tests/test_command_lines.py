"""What holds for every command of the project."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from build_tools.make import pretrained_command
from docs.generate import commands
from model_registry.commands.main import registry


def _all_commands() -> Iterator[click.Context]:
    yield from commands()
    for name, command in (("python -m build_tools", pretrained_command), ("python -m model_registry", registry)):
        yield click.Context(command, info_name=name, **command.context_settings)


ALL = {context.command_path: context for context in _all_commands()}


@pytest.mark.parametrize("name", ALL)
def test_every_command_has_a_short_option_for_help(name: str) -> None:
    assert {"-h", "--help"} <= set(ALL[name].help_option_names)


@pytest.mark.parametrize("name", [name for name, context in ALL.items() if context.parent is None])
def test_every_program_has_a_version(name: str) -> None:
    assert any("--version" in parameter.opts for parameter in ALL[name].command.params)


def test_all_programs_are_covered() -> None:
    assert {"model-trainer", "sound-train", "model-trainer batch", "model-trainer registry token add"} <= set(ALL)


SLOW = {
    "scipy",
    "sklearn",
    "onnx",
    "onnxruntime",
    "skl2onnx",
    "spox",
    "ndonnx",
    "cv2",
    "mediapipe",
    "librosa",
    "joblib",
}
SLOW |= {"fastapi", "httpx", "fsspec", "distributed", "docker", "mlflow", "babel", "jinja2"}


@pytest.mark.slow
def test_the_help_of_no_command_imports_what_takes_long() -> None:
    """So that it is there in 0.3 s; importing scikit-learn alone takes a second."""
    code = """
import sys
from shared.commands.main import _commands, model_trainer
for name in ("", *_commands()):
    before = {module.split(".")[0] for module in sys.modules}
    model_trainer([*name.split(), "--help"], standalone_mode=False)
    print("imports of", name or "model-trainer", *({module.split(".")[0] for module in sys.modules} - before))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    imported = {line.split()[2]: {*line.split()[3:]} for line in done.stdout.splitlines() if line.startswith("imports")}
    assert {"check", "import", "field", "demo", "registry", "train"} <= imported.keys()
    assert {name: modules & SLOW for name, modules in imported.items() if modules & SLOW} == {}
