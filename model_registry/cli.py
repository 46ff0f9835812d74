"""The registry on the command line: `model-trainer registry …`, or `python -m model_registry …`."""

from __future__ import annotations

import click

from model_registry import cli_changing, cli_reading, cli_service


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def registry() -> None:
    """Publish, find, check and withdraw models.

    \b
    Examples:
      model-trainer registry publish runs/bundles/gesture_user123_r1
      model-trainer registry list --user user123
      model-trainer registry resolve user123 gesture --json
    """


for _command in (
    cli_changing.publish,
    cli_reading.resolve,
    cli_reading.list_versions,
    cli_reading.show,
    cli_reading.diff,
    cli_reading.verify,
    cli_reading.export,
    cli_changing.restore,
    cli_changing.promote,
    cli_changing.rollback,
    cli_changing.archive,
    cli_changing.erase,
    cli_changing.gc,
    cli_changing.doctor,
    cli_changing.reindex,
    cli_service.serve,
    cli_service.token,
):
    registry.add_command(_command)
