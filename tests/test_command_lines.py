"""What holds for every command of the project."""

from __future__ import annotations

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
