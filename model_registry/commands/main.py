"""The registry on the command line: `model-trainer registry …`, or `python -m model_registry …`."""

from __future__ import annotations

import click

from model_registry.commands import changing, keys, reading, service


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="model-trainer")
def registry() -> None:
    """Publish, find, check and withdraw models.

    \b
    Examples:
      model-trainer registry publish runs/bundles/gesture_user123_r1
      model-trainer registry list --user user123
      model-trainer registry resolve user123 gesture --json
    """


for _command in (
    changing.publish,
    reading.resolve,
    reading.list_versions,
    reading.show,
    reading.diff,
    reading.verify,
    reading.export,
    changing.restore,
    changing.promote,
    changing.rollback,
    changing.archive,
    changing.erase,
    changing.gc,
    changing.doctor,
    changing.reindex,
    service.protect,
    service.serve,
    service.token,
    keys.key,
):
    registry.add_command(_command)
