"""Trainers declare themselves; what is known of them is known without importing what they train with."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, EntryPoints
from types import ModuleType

import pytest
from click.testing import CliRunner

from model_registry.names import InvalidNameError
from shared import trainers
from shared.commands.main import model_trainer
from shared.errors import ConfigError
from shared.trainers import Cost, Trainer, all_trainers, find_trainer, modality_names, parse_known_modality, title_of
from tests.paths import ROOT

SMELL = Trainer("smell", "Smells", "smell_trainer", "smell-train", "smell-trainer", Cost(1.0, 0.001))
Declare = Callable[..., None]
HEAVY = ("numpy", "scipy", "sklearn", "pydantic", "onnx", "onnxruntime", "shared.job", "gesture_trainer.train")


A3CP_MODALITIES = {"gesture", "audio", "speech", "image", "multimodal"}  # of its messages


def test_messages_have_the_names_that_a3cp_knows_and_that_lead_back() -> None:
    names = {trainer.message_name: modality for modality, trainer in all_trainers().items()}
    assert len(names) == len(all_trainers()) and names.keys() <= A3CP_MODALITIES
    assert {name: parse_known_modality(name) for name in names} == names


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Iterator[Declare]:
    """A function that declares values as the only trainers: entry point name -> value, None for a missing package."""
    cached = (trainers._entry_points, trainers.all_trainers)

    def declare(*declared: tuple[str, object]) -> None:
        points = []
        for number, (name, value) in enumerate(declared):
            package = f"declared_{number}"
            points.append(EntryPoint(name, f"{package}.modality:TRAINER", trainers.GROUP))
            if value is not None:
                module = ModuleType(f"{package}.modality")
                vars(module)["TRAINER"] = value
                monkeypatch.setitem(sys.modules, package, ModuleType(package))
                monkeypatch.setitem(sys.modules, f"{package}.modality", module)
        monkeypatch.setattr(trainers, "entry_points", lambda group: EntryPoints(points))
        for function in cached:
            function.cache_clear()

    yield declare
    monkeypatch.undo()
    for function in cached:
        function.cache_clear()


def test_every_trainer_here_is_declared_as_it_is_installed() -> None:
    assert modality_names() == tuple(all_trainers()) == ("gesture", "sound", "speech", "visual_environment")
    scripts = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for trainer in all_trainers().values():
        assert f'{trainer.console_script} = "{trainer.package}.train:main"' in scripts
        dockerfile = (ROOT / trainer.package / "Dockerfile").read_text(encoding="utf-8")
        assert f'image.title="{trainer.image}"' in dockerfile and f'"{trainer.console_script}"' in dockerfile
        assert f"{trainer.image}) echo {trainer.package}" in (ROOT / "images/build.sh").read_text(encoding="utf-8")
    assert title_of("visual_environment") == "Places and things"


def test_a_fifth_modality_is_known_by_its_declaration_alone(declare: Declare) -> None:
    declare(("smell", SMELL))
    assert modality_names() == ("smell",)
    assert find_trainer("smell") is SMELL
    assert (title_of("smell"), title_of("gesture")) == ("Smells", "gesture")
    assert parse_known_modality("smell") == "smell"
    with pytest.raises(InvalidNameError, match=r"'gesture': must be one of smell"):
        parse_known_modality("gesture")
    with pytest.raises(ConfigError, match=r"'gesture': no trainer is installed; there are smell"):
        find_trainer("gesture")


def test_a_trainer_whose_package_is_not_here_is_left_out(declare: Declare) -> None:
    declare(("smell", SMELL), ("taste", None))
    assert (modality_names(), tuple(all_trainers())) == (("smell", "taste"), ("smell",))
    with pytest.raises(ConfigError, match=r"'taste': no trainer is installed"):
        find_trainer("taste")


@pytest.mark.parametrize("declared", [[], [("smell", None)], [("smell", SMELL)]])
def test_help_shows_the_commands_of_the_trainers_that_are_here(
    declare: Declare, declared: list[tuple[str, object]]
) -> None:
    declare(*declared)
    shown = CliRunner().invoke(model_trainer, ["--help"])
    assert shown.exit_code == 0 and "predict" in shown.output and "extract" not in shown.output
    assert (
        ("smell-train" in shown.output) == ("Commands that train" in shown.output) == (declared == [("smell", SMELL)])
    )
    refused = CliRunner().invoke(
        model_trainer, ["import", str(ROOT), "--data", "x", "--modality", "taste", "--consent"]
    )
    assert refused.exit_code == 2 and "'taste': must be one of" in refused.output


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        ([("Smell", SMELL)], "is no name of a modality"),
        ([("smell", SMELL), ("smell", SMELL)], "has two trainers"),
        ([("taste", SMELL)], "is no Trainer of this modality"),
        ([("smell", "smell")], "is no Trainer of this modality"),
    ],
)
def test_a_wrong_declaration_is_named(declare: Declare, declared: list[tuple[str, object]], reason: str) -> None:
    declare(*declared)
    with pytest.raises(ConfigError, match=reason):
        all_trainers()


def loaded(*command: str) -> list[str]:
    """Return which heavy modules a command line has imported by its end."""
    code = f"""
import runpy, sys
sys.argv = {list(command)!r}
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
except SystemExit as stop:
    assert not stop.code, stop.code
import json
sys.stderr.write(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stderr))


@pytest.mark.slow
def test_help_lists_what_trainers_add_and_imports_nothing_heavy() -> None:
    assert loaded("shared", "--help") == []
    helped = subprocess.run([sys.executable, "-m", "shared", "--help"], capture_output=True, text=True, cwd=ROOT)
    assert re.search(r"extract +Find the landmarks of clips and images", helped.stdout)
    assert "numpy" not in loaded("orchestrator.launch", "--help")


def test_a_command_that_a_trainer_adds_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "shared", "extract", "--help"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0 and "landmarks" in done.stdout
    unknown = subprocess.run([sys.executable, "-m", "shared", "distil"], capture_output=True, text=True, cwd=ROOT)
    assert (unknown.returncode, "No such command 'distil'" in unknown.stderr) == (2, True)


@pytest.mark.parametrize("modality", [name for name, trainer in all_trainers().items() if trainer.check_file])
def test_files_are_checked_without_loading_what_learns(modality: str) -> None:
    """`import` and `check` would wait a second for it, and hold 100 MB, before the first file."""
    program = f"""
import sys
from shared.commands import check, import_data
from shared.commands.file_checks import load_file_check
from shared.trainers import find_trainer
assert load_file_check(find_trainer({modality!r})) is not None
print([name for name in ("sklearn", "scipy.stats", "numba", "onnx", "onnxruntime") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"
