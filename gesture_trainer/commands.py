"""The command that this package adds to `model-trainer`; what extracts is imported when it runs."""

from __future__ import annotations

from pathlib import Path

import click

_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("extract")
@click.option("--data", type=_FOLDER, help="Data root whose gesture clips are extracted.")
@click.option("--user", "users", multiple=True, help="Whose clips; repeat for several.")
@click.option("--out", required=True, type=_FOLDER, help="A new data root, or a folder for files.")
@click.option("--config", type=_FILE, help="Configuration of the gesture trainer; its section extraction is used.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override one configuration key.")
@click.option("--cache/--no-cache", default=True, show_default=True, help="Use cached landmarks.")
@click.argument("files", nargs=-1, type=_FILE)
def extract_command(
    data: Path | None,
    users: tuple[str, ...],
    out: Path,
    config: Path | None,
    settings: tuple[str, ...],
    cache: bool,
    files: tuple[Path, ...],
) -> int:
    """Extract the landmarks of clips and images into feature files that A3CP and `gesture-train` read.

    Takes FILES, which become OUT/NAME.npz, or a data root, whose sessions are written to OUT with feature files in
    place of clips; an example that is already there is kept. An interrupted run resumes where it stopped. One JSON
    line sums up the result.

    \b
    Examples:
      model-trainer extract --out features wave.mp4 nod.webm
      model-trainer extract --data recordings --user ana --out data
      model-trainer extract --out signs --set extraction.encoding=mediapipe_tasks_hands_xyz_v1 a.jpg b.jpg
    """
    if bool(files) == bool(data) or bool(data) != bool(users):
        raise click.UsageError("give files, or a data root with --data and users with --user")
    from gesture_trainer.extracting import extract

    return extract(data, users, out, config, settings, files, cache=cache)
