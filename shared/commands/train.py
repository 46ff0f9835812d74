"""The command that every trainer gets: options in, one training log entry out for each user, on success and failure."""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from model_registry.commands.completion import completion
from model_registry.commands.options import promote_settings, registry_settings
from model_registry.languages import LANGUAGES
from model_registry.messages import plain
from model_registry.names import DEFAULT_USER, InvalidNameError, Modality, parse_name
from model_registry.timestamps import utc_now
from shared.commands.completion import dotted_keys, recorded_users
from shared.commands.main import error_message, exit_code, run
from shared.commands.training_summary import training_summary
from shared.commands.worker import serve
from shared.errors import ConfigError, Fault, ReplayError, TrainerError
from shared.logs import RunLog
from shared.packaging.output import bundle_folder, failure_path, output_faults, write_failure
from shared.trainers import Trainer, all_trainers, find_trainer, parse_known_modality

if TYPE_CHECKING:
    from shared.recipe import Recipe
    from shared.schema_utils import TrainingRequest

Entry = dict[str, Any]

UNKNOWN_USER = "_unknown"  # in the log of a run that failed before its user was known


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
    click.Option(["--cache/--no-cache"], default=True, show_default=True, help="Keep features by content hash."),
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
        JSON object a user, the training log entry, on success and on failure.
        Exit codes: 0 done, 2 usage or configuration, 3 data, 4 quality gate, 5 internal error.

        \b
        Examples:
          {name} --user ana --data data --out out
          {name} --user ana --data data --out out --registry models --set seed=7
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
            log = _run_log(self.trainer, users if len(users) == 1 else (), understood.get("run_id"))
            entry = _failed(log, error, understood.get("out"))
            if _prints_json(understood):
                click.echo(json.dumps(entry, ensure_ascii=False))
            raise


def _train_all(trainer: Trainer, recipe: Recipe, given: Mapping[str, Any]) -> Iterator[tuple[Entry, int]]:
    """Yield the training log entry and the exit code of each user's run, or of the one run of a pool of users."""
    run_id = given["run_id"] or _new_run_id()
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
    log = _run_log(trainer, users, run_id)
    try:
        outcome = _train_despite_cache(recipe, *_prepare(trainer, recipe, users, run_id, log, given))
        entry = outcome.entry.model_dump(mode="json")
        code = 0
    except Exception as error:  # the one place of a trainer that catches everything
        return _failed(log, error, given["out"], time.perf_counter() - started), exit_code(error)
    entry["seconds"] = {**entry["seconds"], "total": round(time.perf_counter() - started, 4)}
    log.end(entry["status"])
    return entry, code


def _train_despite_cache(recipe: Recipe, job: Any, config: Any) -> Any:
    """Train; where replay contradicts features, train once more with what the feature cache holds computed anew."""
    try:
        return recipe.train(job, config)
    except ReplayError as error:
        if job.cache is None or job.cache.refresh:
            raise
        job.log.warn(f"the feature cache may be wrong, and what it holds of this run is computed again: {error}")
        return recipe.train(replace(job, cache=replace(job.cache, refresh=True)), config)


def _prepare(
    trainer: Trainer, recipe: Recipe, users: tuple[str, ...], run_id: str, log: RunLog, given: Mapping[str, Any]
) -> tuple[Any, Any]:
    """Return job and configuration; what is wrong with the command line is found here, before anything is trained."""
    from threadpoolctl import threadpool_limits

    from shared.config import config_from_request, load_config
    from shared.features.cache import FeatureCache
    from shared.job import Job

    threadpool_limits(1)  # sums in another order would give other bytes on another number of cores
    for user in users:
        parse_name(user, "--user")
    parse_name(run_id, "--run-id")
    request = _parse_request(given["request"], trainer, log)
    if given["registry"] is not None:
        given["registry"].check_writable()
    options: dict[str, dict[str, Any]] = {}
    if given["seed"] is not None:
        options["--seed"] = {"seed": given["seed"]}
    if given["demo_data"] is not None:
        options["--demo-data"] = {"data": {"include_demo": given["demo_data"]}}
    if given["sessions"]:
        options["--session"] = {"data": {"sessions": list(given["sessions"])}}
    faults = _path_faults(given, trainer.modality, log)
    try:
        config = load_config(recipe.config, given["config"], given["settings"], options)
    except ConfigError as error:
        raise ConfigError([*faults, *error.faults]) from None
    log.record(training_config=config.model_dump(mode="json"))
    if faults:
        raise ConfigError(faults)
    if request is not None:
        config = config_from_request(request.training_config, config)
        log.record(training_config=config.model_dump(mode="json"))
    if len(users) > 1 and not config.data.require_consent:
        raise ConfigError("data.require_consent: only consented examples may be pooled")
    job = Job(
        users=users,
        data=given["data"],
        out=given["out"],
        run_id=run_id,
        registry=given["registry"],
        data_format=given["data_format"],
        fingerprint=_fingerprint(trainer, users, given, request),
        package=trainer.package,
        promote=given["promote"],
        cache=FeatureCache() if given["cache"] else None,
        log=log,
        request=request,
    )
    log.record(job_fingerprint=job.fingerprint)
    return job, config


def _parse_request(text: str | None, trainer: Trainer, log: RunLog) -> TrainingRequest | None:
    """Return the request of `--request`. Raises ConfigError with all faults, or where it is for another model."""
    from pydantic import ValidationError

    from shared.schema_faults import faults_of
    from shared.schema_utils import TrainingRequest

    if text is None:
        return None
    try:
        request = TrainingRequest.model_validate_json(text)
    except ValidationError as error:
        raise ConfigError(faults_of(error, TrainingRequest, "--request", None)) from None
    log.record(**request.log_fields())
    user = log.fields["user_id"]
    if (request.user_id, request.modality) != (user, trainer.modality):
        requested = f"{request.user_id}'s {request.modality} model"
        raise ConfigError(f"--request: is for {requested}, but this run trains {user}'s {trainer.modality} model")
    return request


def _path_faults(given: Mapping[str, Any], modality: Modality, log: RunLog) -> list[Fault]:
    """Return what is wrong with the folders that the command line names."""
    data, out = given["data"], given["out"]
    faults = output_faults(out, bundle_folder(out, modality, log.fields["user_id"], log.fields["run_id"]))
    if data.exists() and not data.is_dir():
        faults.append(Fault(str(data), None, "--data", "is a file; name the folder that holds users/"))
    return faults


def _fingerprint(
    trainer: Trainer, users: tuple[str, ...], given: Mapping[str, Any], request: TrainingRequest | None
) -> str:
    """Return what this job depends on, as the orchestrator computes it beforehand."""
    from shared.features.pretrained import pretrained_folder
    from shared.fingerprint import Options, code_fingerprint, data_fingerprints, job_fingerprint

    options = Options(
        config=given["config"].read_bytes() if given["config"] else b"",
        overrides=given["settings"],
        sessions=given["sessions"],
        seed=given["seed"],
        demo_data=given["demo_data"],
        data_format=given["data_format"],
        training_config=request.training_config if request else {},
    )
    code = code_fingerprint(trainer.package, pretrained_folder())
    data = "+".join(data_fingerprints(given["data"], user, [trainer.modality])[trainer.modality] for user in users)
    return job_fingerprint(",".join(users), trainer.modality, data, options, code)


def _run_log(trainer: Trainer, users: Sequence[str], run_id: str | None) -> RunLog:
    """Return the log of one run, with what is known of it before anything is read."""
    log = RunLog()
    named = [user for user in users if _is_name(user)]
    user = DEFAULT_USER if len(users) > 1 else named[0] if named else UNKNOWN_USER
    log.record(
        user_id=user,
        users=named,
        modality=trainer.modality,
        run_id=run_id if run_id and _is_name(run_id) else _new_run_id(),
    )
    return log


def _new_run_id() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


def _is_name(text: str) -> bool:
    try:
        parse_name(text)
    except InvalidNameError:
        return False
    return True


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
