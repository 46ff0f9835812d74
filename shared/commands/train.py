"""The command that every trainer gets: options in, one training log entry out for each user, on success and failure."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from model_registry.commands.completion import completion
from model_registry.commands.options import promote_settings, registry_settings
from model_registry.languages import LANGUAGES
from model_registry.messages import plain
from model_registry.names import InvalidNameError
from model_registry.timestamps import utc_now
from shared.commands.completion import dotted_keys, recorded_users
from shared.commands.main import error_message, exit_code, run
from shared.commands.training_summary import dry_run_summary, training_summary
from shared.commands.worker import serve
from shared.errors import TrainerError
from shared.logs import RunLog
from shared.packaging.output import failure_path, write_failure
from shared.trainers import Trainer, all_trainers, find_trainer, parse_known_modality
from shared.training import TrainingOptions, describe_training, new_run_id, run_log, train_model

if TYPE_CHECKING:
    from shared.recipe import Recipe

Entry = dict[str, Any]


@completion
def _config_keys(context: click.Context) -> Iterator[str]:
    """Complete KEY= of `--set`: the keys of the trainer's configuration."""
    if isinstance(context.command, _TrainingCommand):
        yield from (f"{key}=" for key in dotted_keys(_import_recipe(context.command.trainer).config))


_PATH = click.Path(path_type=Path)
_OPTIONS = (
    click.Option(
        ["--user", "users"], multiple=True, shell_complete=recorded_users, help="Whose model; repeat for several."
    ),
    click.Option(["--pool-users"], metavar="A,B,C", help="Train one default model from these users' data instead."),
    click.Option(["--consent-to-pool"], is_flag=True, help="All of --pool-users agreed to their data being pooled."),
    click.Option(["--data"], type=_PATH, required=True, help="Data root."),
    click.Option(["--out"], type=_PATH, required=True, help="Folder for the bundles, and the logs of failed runs."),
    click.Option(["--config"], type=_PATH, help="YAML configuration; see configs/."),
    click.Option(
        ["--set", "settings"],
        multiple=True,
        metavar="KEY=VALUE",
        shell_complete=_config_keys,
        help="Override one configuration key.",
    ),
    click.Option(["--lang"], type=click.Choice(LANGUAGES), help="Language of the model card, as --set lang=de does."),
    click.Option(["--session", "sessions"], multiple=True, help="Use these sessions only; repeat for several."),
    click.Option(["--seed"], type=click.IntRange(0, 2**32 - 1), help="Overrides the configuration's seed."),
    click.Option(
        ["--registry"],
        **registry_settings("write", help="Publish there when the model is finished.", default=False),
    ),
    click.Option(["--promote"], **promote_settings()),
    click.Option(["--demo-data/--no-demo-data"], default=None, help="Whether examples marked is_demo are used."),
    click.Option(["--data-format"], type=click.Choice(["auto", "own", "a3cp"]), default="auto", show_default=True),
    click.Option(["--run-id"], help="Name of this run; generated when absent."),
    click.Option(["--request"], metavar="JSON", help="The A3CP training request that this run fulfils."),
    click.Option(
        ["--add-label"],
        is_flag=True,
        help="Keep features and classifier of the active version in --registry: only labels are new.",
    ),
    click.Option(["--cache/--no-cache"], default=True, show_default=True, help="Keep features by content hash."),
    click.Option(
        ["--dry-run"], is_flag=True, help="Check data and configuration, estimate time and memory; write nothing."
    ),
    click.Option(["--json", "as_json"], is_flag=True, help="Print the training log entry on a terminal, too."),
    click.Option(["--verbose"], is_flag=True, help="Print the traceback of a failure, too."),
)


def trainer_main(trainer: Trainer, recipe: Recipe, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a trainer's command line and exit with its code; with `--worker` last, run one for each line of input.

    Options before `--worker` stand at the beginning of every job.
    """
    os.umask(0o077)  # whatever is written may be a person's data
    command = trainer_command(trainer, recipe)

    def train(words: Sequence[str]) -> int:
        return run(lambda: command(list(words), prog_name=trainer.console_script, standalone_mode=False))

    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[-1:] == ["--worker"]:
        sys.exit(serve(lambda job: train([*words[:-1], *job]), sys.stdin, sys.stdout))
    sys.exit(train(words))


class _TrainGroup(click.Group):
    """One command for each installed modality."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(all_trainers())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        try:
            return trainer_command(find_trainer(parse_known_modality(cmd_name)))
        except InvalidNameError:
            return None


@click.group("train", cls=_TrainGroup)
def train_group() -> None:
    """Train one user's model of a modality.

    Each modality's command is also there by itself: `sound-train` is the same as `model-trainer train sound`.

    \b
    Examples:
      model-trainer train sound --user ana --data data --out bundles --registry models
      model-trainer train sound --help
    """


def trainer_command(trainer: Trainer, recipe: Recipe | None = None) -> click.Command:
    """Return the command that trains one modality; without `recipe` it is imported to train, not for --help."""

    def command(**given: Any) -> int:
        codes = [0]
        for entry, code in _train_all(trainer, recipe or _import_recipe(trainer), given):
            _report(entry, given)
            codes.append(code)
        return max(codes)

    name = trainer.console_script
    training_command = _TrainingCommand(
        name,
        trainer,
        short_help=f"Train one user's {trainer.modality} model.",
        callback=command,
        params=list(_OPTIONS),
        context_settings={"help_option_names": ["-h", "--help"]},
        help=f"""Train one user's {trainer.modality} model, validated by session.

        With --worker last, stay and train one model for each line {{"args": […]}} of standard input; options
        before --worker hold for every line.

        On a terminal the result is a few lines a user. With --json, or where standard output is no terminal, it is one
        JSON object a user, the training log entry, on success and on failure. With --dry-run it is what would be
        trained: samples by label and session, candidates, seconds of a processor core, memory. Recordings are not
        decoded; `model-trainer check` does that.
        Exit codes: 0 done, 2 usage or configuration, 3 data, 4 quality gate, 5 internal error.

        \b
        Examples:
          {name} --user ana --data data --out out
          {name} --user ana --data data --out out --dry-run
          {name} --user ana --data data --out out --registry models --set seed=7
          {name} --user ana --data data --out out --registry models --add-label
          {name} --pool-users ana,ben --consent-to-pool --data data --out out --registry models
        """,
    )
    click.version_option(package_name="model-trainer")(training_command)
    return training_command


def _import_recipe(trainer: Trainer) -> Recipe:
    from shared.recipe import load_recipe

    return load_recipe(trainer)


def _report(entry: Entry, given: Mapping[str, Any]) -> None:
    """Print how a run ended: for a person on a terminal, as the training log entry for everything else."""
    if entry["status"] == "dry_run":
        click.echo(json.dumps(entry, ensure_ascii=False) if _prints_json(given) else dry_run_summary(entry))
        return
    if entry["status"] == "success":
        click.echo(json.dumps(entry, ensure_ascii=False) if _prints_json(given) else training_summary(entry))
        return
    click.echo(plain(f"error: {entry['error_message']}"), err=True)
    if _prints_json(given):
        click.echo(json.dumps(entry, ensure_ascii=False))
    elif (log := failure_path(given["out"], entry)).is_file():
        click.echo(f"log: {log}", err=True)
    if given["verbose"]:
        click.echo(plain(entry["error_trace"]), err=True)


def _prints_json(given: Mapping[str, Any]) -> bool:
    return bool(given.get("as_json")) or not sys.stdout.isatty()


class _TrainingCommand(click.Command):
    """A command whose usage errors are a training log entry, too: in a file, and wherever JSON is printed."""

    def __init__(self, name: str, trainer: Trainer, **settings: Any) -> None:
        super().__init__(name, **settings)
        self.trainer = trainer

    def main(self, args: Sequence[str] | None = None, *others: Any, **settings: Any) -> Any:
        words = list(sys.argv[1:] if args is None else args)
        try:
            return super().main(words, *others, **settings)
        except click.UsageError as error:
            understood = self.make_context(self.name, list(words), resilient_parsing=True).params
            users = understood.get("users") or ()
            log = run_log(self.trainer, users if len(users) == 1 else (), understood.get("run_id"))
            entry = _failed(log, error, None if understood.get("dry_run") else understood.get("out"))
            if _prints_json(understood):
                click.echo(json.dumps(entry, ensure_ascii=False))
            raise


def _train_all(trainer: Trainer, recipe: Recipe, given: Mapping[str, Any]) -> Iterator[tuple[Entry, int]]:
    """Yield the training log entry and the exit code of each user's run, or of the one run of a pool of users."""
    run_id = given["run_id"] or new_run_id()
    pool = [name.strip() for name in (given["pool_users"] or "").split(",") if name.strip()]
    if bool(pool) == bool(given["users"]):
        raise click.UsageError("name whose model to train with --user, or several people with --pool-users")
    if pool and not given["consent_to_pool"]:
        raise click.UsageError("--pool-users needs --consent-to-pool: everyone named must have agreed to it")
    if given["lang"] is not None:
        given = {**given, "settings": (*given["settings"], f"lang={given['lang']}")}
    for users in [tuple(dict.fromkeys(pool))] if pool else [(user,) for user in dict.fromkeys(given["users"])]:
        yield _train(trainer, recipe, users, run_id, given)


def _train(
    trainer: Trainer, recipe: Recipe, users: tuple[str, ...], run_id: str, given: Mapping[str, Any]
) -> tuple[Entry, int]:
    started = time.perf_counter()
    log = run_log(trainer, users, run_id)
    names = [field.name for field in fields(TrainingOptions) if field.name not in ("users", "run_id")]
    options = TrainingOptions(users, run_id, **{name: given[name] for name in names})
    try:
        if given["dry_run"]:
            entry = describe_training(trainer, recipe, options, log)
            log.end(entry["status"])
            return entry, 0
        entry = train_model(trainer, recipe, options, log).entry.model_dump(mode="json")
    except Exception as error:  # the one place of a trainer that catches everything
        out = None if given["dry_run"] else given["out"]
        return _failed(log, error, out, time.perf_counter() - started), exit_code(error)
    entry["seconds"] = {**entry["seconds"], "total": round(time.perf_counter() - started, 4)}
    log.end(entry["status"])
    return entry, 0


def _failed(log: RunLog, error: Exception, out: Path | None, seconds: float = 0.0) -> Entry:
    """Return the training log entry of a run that failed, and write it to `out` as well.

    It holds all that was known by then; fields that were not are empty.
    """
    entry = {
        "schema_version": "1.0.0",
        "timestamp": utc_now(),
        "status": "failure",
        "stage": log.current,
        "error_type": type(error).__name__,
        "error_message": error_message(error),
        "error_trace": "".join(traceback.format_exception(error)),
        "faults": [vars(fault) for fault in error.faults] if isinstance(error, TrainerError) else [],
        "model_artifact_path": "",
        "label_encoder_path": "",
        "model_version": None,
        "bundle": "",
        "training_config": {},
        "sample_count": 0,
        "labels": [],
        "label_counts": {},
        "session_count": 0,
        "sessions": [],
        "session_metadata": {},
        "dropped": [],
        "data_fingerprint": "",
        "job_fingerprint": "",
        "training_metrics": None,
        "metrics": {},
        "verdict": None,
        **log.fields,
        "seconds": {**log.rounded_seconds(), "total": round(seconds, 4)},
        "warnings": list(log.warnings),
    }
    try:
        if out is not None:
            write_failure(out, entry)
    except OSError as refused:
        log.warn(f"the log of this failure is not in {out}: {(refused.strerror or str(refused)).lower()}")
    log.end("failure")
    return {**entry, "warnings": list(log.warnings)}
