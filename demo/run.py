"""`model-trainer demo`: what `make demo` does, without a checkout."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator.launch import main as batch_command


@click.command("demo", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path("model-trainer-demo"))
def demo_command(folder: Path) -> None:
    """Generate data of three fictional people, train a model for each of their modalities, and print a table.

    All is written to FOLDER (default: model-trainer-demo). Running it again trains only what is missing or out of date.

    \b
    Example:
      model-trainer demo
    """
    from demo.make_data import write_demo_data  # which imports what draws and makes sounds

    write_demo_data(folder / "data", seed=0)
    places = ["--data", folder / "data", "--registry", folder / "registry", "--runs", folder / "runs"]
    batch_command.main([*map(str, places), "--demo-data"], prog_name="model-trainer batch", standalone_mode=False)
