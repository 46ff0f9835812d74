"""What not every operating system has is missed in one clear line, and measured in the right unit."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

import model_trainer
from model_registry import platforms
from model_registry.errors import UnsupportedPlatformError

WITHOUT = """
import sys, types
missing = dict.fromkeys(("fcntl", "grp", "resource"))
sys.modules |= missing
from model_registry import platforms
platforms.platform = types.SimpleNamespace(system=lambda: "Windows")
for name in missing:
    del sys.modules[name]  # other libraries know without them what to do on Windows, but not here
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("shared.commands.main:main", ["--help"]),
        ("shared.commands.main:main", ["registry", "list"]),
        ("shared.commands.main:main", ["batch", "--data", "data"]),
        ("sound_trainer.train:main", ["--user", "ana"]),
    ],
)
def test_a_command_on_windows_says_in_one_line_that_it_cannot_work(place: str, words: list[str]) -> None:
    module, name = place.split(":")
    code = f"{WITHOUT}\nfrom {module} import {name}; sys.argv[1:] = {words!r}; {name}()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    (line,) = (done.stderr or done.stdout).splitlines()
    assert done.returncode == 2
    assert "Windows is not supported" in line and "WSL 2" in line


@pytest.mark.slow
@pytest.mark.parametrize(
    "call", ["load('models', user_id='ana', modality='sound')", "train('speech', ['a'], ['b'], sessions=['c'])"]
)
def test_the_python_api_on_windows_is_imported_and_says_so(call: str) -> None:
    code = f"{WITHOUT}\nimport model_trainer; model_trainer.{call}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stderr.splitlines()[-1].startswith(
        "model_registry.errors.UnsupportedPlatformError: Windows is not supported"
    )
    assert model_trainer.RegistryError in UnsupportedPlatformError.__mro__


@pytest.mark.parametrize(("system", "peak"), [("linux", 1024 * 7), ("darwin", 7)])
def test_the_peak_of_memory_is_in_bytes(monkeypatch: pytest.MonkeyPatch, system: str, peak: int) -> None:
    resource = SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda who: SimpleNamespace(ru_maxrss=7))
    monkeypatch.setattr(platforms, "_resource", resource)
    monkeypatch.setattr(sys, "platform", system)
    assert platforms.peak_memory() == peak
    monkeypatch.setattr(platforms, "_resource", None)
    assert platforms.peak_memory() is None


def test_where_there_are_no_groups_none_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platforms, "_grp", None)
    with pytest.raises(KeyError):
        platforms.group_number("root")
