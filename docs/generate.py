"""Write the parts of the documentation that the code itself knows: the command reference, the demo's table.

python -m docs.generate                  docs/cli.md, from the commands' --help
python -m docs.generate --demo .demo     also docs/demo.svg, from a run of the demo
"""

from __future__ import annotations

import copy
import io
import json
import re
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import click
from rich.console import Console

from demo.make_data import main as make_data
from orchestrator.jobs import Outcome
from orchestrator.report import print_report
from shared.cli import model_trainer
from shared.cli_trainer import trainer_command

ROOT = Path(__file__).resolve().parent.parent
CLI_PAGE = ROOT / "docs" / "cli.md"
DEMO_PICTURE = ROOT / "docs" / "demo.svg"
WIDTH = 100
ORCHESTRATION = {  # how a command is started -> where it is
    "orchestrator/launch_all.sh": "orchestrator.launch:main",
    "python -m orchestrator.registry_uploader": "orchestrator.registry_uploader:main",
    "python -m orchestrator.monitor": "orchestrator.monitor:main",
}


@click.command()
@click.option("--demo", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A folder of demo/run.sh.")
def main(demo: Path | None) -> None:
    """Write docs/cli.md, and docs/demo.svg where --demo is given."""
    CLI_PAGE.write_text(command_reference(), encoding="utf-8")
    if demo:
        DEMO_PICTURE.write_text(demo_picture(demo), encoding="utf-8")


def command_reference() -> str:
    """Return the page that shows the help of every command."""
    parts = [
        "# Commands\n",
        "<!-- Written by `python -m docs.generate` from the commands' own help. -->\n",
        "Exit codes: 0 done, 2 usage or configuration, 3 data, 4 quality gate, 5 internal; a batch ends with 1 where\n"
        "a job failed. After `make setup` the commands are in `.venv/bin`.\n",
    ]
    for name, command in commands():
        parts.append(f"## {name}\n\n```text\n{help_text(name, command)}\n```\n")
    return "\n".join(parts)


def commands() -> Iterator[tuple[str, click.Command]]:
    """Yield every command with the words that start it: model-trainer's, the trainers', the orchestrator's."""
    yield from _with_subcommands("model-trainer", model_trainer)
    for point in sorted(entry_points(group="model_trainer.trainers"), key=lambda point: point.name):
        trainer = point.load()
        yield trainer.console_script, trainer_command(trainer)
    for name, place in ORCHESTRATION.items():
        module, _, attribute = place.partition(":")
        yield name, getattr(import_module(module), attribute)
    yield "python -m demo.make_data", make_data


def _with_subcommands(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        with click.Context(command, info_name=name) as context:
            for word in command.list_commands(context):
                subcommand = command.get_command(context, word)
                if subcommand is not None and not subcommand.hidden:
                    yield from _with_subcommands(f"{name} {word}", subcommand)


def help_text(name: str, command: click.Command) -> str:
    """Return a command's help, of one width, with the project's folder left out of its defaults."""
    shown = copy.copy(command)
    shown.params = [_relative(parameter) for parameter in command.params]
    context = click.Context(shown, info_name=name, terminal_width=WIDTH, max_content_width=WIDTH)
    return "\n".join(line.rstrip() for line in shown.get_help(context).splitlines())


def _relative(parameter: click.Parameter) -> click.Parameter:
    if not isinstance(parameter.default, str | Path) or not str(parameter.default).startswith(f"{ROOT}/"):
        return parameter
    changed = copy.copy(parameter)
    changed.default = str(Path(parameter.default).relative_to(ROOT))
    return changed


def demo_picture(folder: Path) -> str:
    """Return an SVG of the table that the demo ended with; raises click.UsageError where it did not end well."""
    results = sorted((folder / "runs" / "jobs").glob("*/*/result.json"))
    outcomes = []
    for result in results:
        fields = json.loads(result.read_text(encoding="utf-8"))
        outcomes.append(
            Outcome.model_validate({key: value for key, value in fields.items() if key in Outcome.model_fields})
        )
    if not outcomes or not all(outcome.succeeded for outcome in outcomes):
        raise click.UsageError(f"{folder}: not every model of the demo was published; run demo/run.sh again")
    console = Console(record=True, width=108, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    print_report([outcome.model_copy(update={"model_card": ""}) for outcome in outcomes], console)
    picture = console.export_svg(title="make demo", unique_id="demo")
    return re.sub(r"\s*@font-face \{.*?\}", "", picture, flags=re.DOTALL)  # a font would be fetched from elsewhere


if __name__ == "__main__":
    main()
