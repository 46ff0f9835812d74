"""Write the parts of the documentation that follow from the code.

python -m docs.generate           docs/cli.md from the commands' --help, docs/architecture.svg from the imports
python -m docs.generate --demo    also docs/demo.svg, from a run of the demo
"""

from __future__ import annotations

import copy
import io
import itertools
import re
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from demo.make_data import main as make_data
from docs.architecture_picture import architecture_picture
from docs.configuration import configuration_page
from shared.commands.main import model_trainer
from shared.commands.train import trainer_command
from shared.trainers import all_trainers

ROOT = Path(__file__).resolve().parent.parent
CLI_PAGE = ROOT / "docs" / "cli.md"
CONFIGURATION_PAGE = ROOT / "docs" / "configuration.md"
DEMO_PICTURE = ROOT / "docs" / "demo.svg"
ARCHITECTURE_PICTURE = ROOT / "docs" / "architecture.svg"
WIDTH = 100


@click.command(epilog="Example: .venv/bin/python -m docs.generate --demo")
@click.option("--demo", is_flag=True, help="Run the demo in a temporary folder and draw its table.")
def main(demo: bool) -> None:
    """Write docs/cli.md, docs/configuration.md and docs/architecture.svg, and docs/demo.svg with --demo."""
    CLI_PAGE.write_text(command_reference(), encoding="utf-8")
    CONFIGURATION_PAGE.write_text(configuration_page(), encoding="utf-8")
    ARCHITECTURE_PICTURE.write_text(architecture_picture(ROOT, installed_packages()), encoding="utf-8")
    if demo:
        with tempfile.TemporaryDirectory() as folder:
            DEMO_PICTURE.write_text(demo_picture(Path(folder)), encoding="utf-8")


def installed_packages() -> list[str]:
    """Return the top-level packages that are type-checked and installed."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return list(settings["tool"]["mypy"]["packages"])


def command_reference() -> str:
    """Return the page that shows the help of every command."""
    parts = [
        "# Commands\n",
        "<!-- Written by `python -m docs.generate` from the commands' own help. -->\n",
        "Exit codes: 0 done, 2 usage or configuration, 3 data, 4 quality gate, 5 internal; a batch ends with 1 where\n"
        "a job failed. After `make setup` the commands are in `.venv/bin`.\n",
        "`gesture-train` is the same as `model-trainer train gesture`, and so on for every modality.\n"
        "`orchestrator/launch_all.sh` is the same as `model-trainer batch`, `python -m orchestrator.monitor` as\n"
        "`model-trainer monitor`, and `python -m orchestrator.registry_uploader` as `model-trainer upload`.\n",
    ]
    for context in commands():
        parts.append(f"## {context.command_path}\n\n```text\n{help_text(context)}\n```\n")
    return "\n".join(parts)


def commands() -> Iterator[click.Context]:
    """Yield every command in a context: model-trainer's, the trainers', the demo's."""
    for context in _with_subcommands("model-trainer", model_trainer, None):
        if context.parent is None or context.parent.info_name != "train":  # shown once, as gesture-train and so on
            yield context
    for trainer in all_trainers().values():
        yield from _with_subcommands(trainer.console_script, trainer_command(trainer), None)
    yield from _with_subcommands("python -m demo.make_data", make_data, None)


def _with_subcommands(name: str, command: click.Command, parent: click.Context | None) -> Iterator[click.Context]:
    settings = {**command.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    with click.Context(command, parent, info_name=name, **settings) as context:
        yield context
        if isinstance(command, click.Group):
            for word in command.list_commands(context):
                subcommand = command.get_command(context, word)
                if subcommand is not None and not subcommand.hidden:
                    yield from _with_subcommands(word, subcommand, context)


def help_text(context: click.Context) -> str:
    """Return a command's help, of one width, with the project's folder left out of its defaults."""
    shown = copy.copy(context.command)
    shown._help_option = None  # click keeps the option of the context in which help was first asked for
    shown.params = [_relative(parameter) for parameter in shown.params]
    return "\n".join(line.rstrip() for line in shown.get_help(context).splitlines())


def _relative(parameter: click.Parameter) -> click.Parameter:
    if not isinstance(parameter.default, str | Path) or not str(parameter.default).startswith(f"{ROOT}/"):
        return parameter
    changed = copy.copy(parameter)
    changed.default = str(Path(parameter.default).relative_to(ROOT))
    return changed


def demo_picture(folder: Path) -> str:
    """Run the demo in `folder` and return an SVG of the table that it ends with."""
    done = subprocess.run([ROOT / "demo" / "run.sh", folder], stdout=subprocess.PIPE, text=True, check=True)
    lines = itertools.takewhile(lambda line: not line.startswith("model cards"), done.stdout.splitlines())
    table = Text("\n".join(line.rstrip() for line in lines), style="default")
    table.highlight_words(["good"], "green")
    table.highlight_words(["weak", "insufficient data"], "yellow")
    console = Console(record=True, width=max(map(len, table.plain.splitlines())), file=io.StringIO())
    console.print(table, soft_wrap=True, highlight=False)
    picture = console.export_svg(title="make demo", unique_id="demo")
    return re.sub(r"\s*@font-face \{.*?\}", "", picture, flags=re.DOTALL)  # a font would be fetched from elsewhere


if __name__ == "__main__":
    main()
