"""The command that every trainer gets: options in, one training log entry out for each user, on success and failure."""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from model_registry.commands.options import registry_settings
from model_registry.names import DEFAULT_USER, parse_name
from model_registry.storage.durable import check_writable
from model_registry.timestamps import utc_now
from shared.commands.main import exit_code, run, told
from shared.commands.worker import serve
from shared.errors import ConfigError, DataError
from shared.logs import RunLog

if TYPE_CHECKING:
    from shared.job import Trainer

Entry = dict[str, Any]

_PATH = click.Path(path_type=Path)
_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)
_OPTIONS = (
    click.Option(["--user", "users"], multiple=True, help="Whose model; repeat for several."),
    click.Option(["--pool-users"], metavar="A,B,C", help="Train one default model from these users' data instead."),
    click.Option(["--consent-to-pool"], is_flag=True, help="All of --pool-users agreed to their data being pooled."),
    click.Option(["--data"], type=_FOLDER, required=True, help="Data root."),
    click.Option(["--out"], type=_PATH, required=True, help="Folder for the bundles."),
    click.Option(["--config"], type=_FILE, help="YAML configuration; see configs/."),
    click.Option(["--set", "settings"], multiple=True, metavar="KEY=VALUE", help="Override one configuration key."),
    click.Option(["--session", "sessions"], multiple=True, help="Use these sessions only; repeat for several."),
    click.Option(["--seed"], type=click.IntRange(0, 2**32 - 1), help="Overrides the configuration's seed."),
    click.Option(
        ["--registry"],
        **registry_settings("write", help="Publish there when the model is finished.", default=False),
    ),
    click.Option(
        ["--promote"],
        type=click.Choice(("always", "if-better", "never")),
        default="if-better",
        show_default=True,
        help="Whether what is published becomes the active version, or stays a candidate.",
    ),
    click.Option(["--demo-data/--no-demo-data"], default=None, help="Whether examples marked is_demo are used."),
    click.Option(["--data-format"], type=click.Choice(["auto", "own", "a3cp"]), default="auto", show_default=True),
    click.Option(["--run-id"], help="Name of this run; made up when absent."),
    click.Option(["--cache/--no-cache"], default=True, show_default=True, help="Keep features by content hash."),
)


def trainer_main(trainer: Trainer, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a trainer's command line and exit with its code; with `--worker` last, run one for each line of input.

    Options before `--worker` stand at the beginning of every job.
    """
    command = trainer_command(trainer)

    def train(words: Sequence[str]) -> int:
        return run(lambda: command(list(words), prog_name=trainer.console_script, standalone_mode=False))

    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[-1:] == ["--worker"]:
        sys.exit(serve(lambda job: train([*words[:-1], *job]), sys.stdin, sys.stdout))
    code = train(words)
    if arguments is None:
        _leave(code)
    sys.exit(code)


def _leave(code: int) -> NoReturn:
    """End the process at once: by now all files are closed, and taking Python down takes as long as a small model."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def trainer_command(trainer: Trainer) -> click.Command:
    """Return the command that trains one modality."""

    def command(**given: Any) -> int:
        codes = [0]
        for entry, code in _train_all(trainer, given):
            click.echo(json.dumps(entry, ensure_ascii=False))
            codes.append(code)
        return max(codes)

    name = trainer.console_script
    return _JsonCommand(
        name,
        callback=command,
        params=list(_OPTIONS),
        context_settings={"help_option_names": ["-h", "--help"]},
        help=f"""Train one user's {trainer.modality} model, validated by session.

        With --worker last, stay and train one model for each line {{"args": […]}} of standard input; options
        before --worker hold for every line.

        Standard output is one JSON object a user, the training log entry, on success and on failure.
        Exit codes: 0 done, 2 usage or configuration, 3 data, 4 quality gate, 5 internal error.

        \b
        Examples:
          {name} --user ana --data data --out out
          {name} --user ana --data data --out out --registry models --set seed=7
          {name} --pool-users ana,ben --consent-to-pool --data data --out out --registry models
        """,
    )


class _JsonCommand(click.Command):
    """A command whose usage errors are a training log entry on standard output, too."""

    def main(self, *arguments: Any, **settings: Any) -> Any:
        try:
            return super().main(*arguments, **settings)
        except click.UsageError as error:
            click.echo(json.dumps(_failure("", "", "", error, RunLog())))
            raise


def _train_all(trainer: Trainer, given: Mapping[str, Any]) -> Iterator[tuple[Entry, int]]:
    """Yield the training log entry and the exit code of each user's run, or of the one run of a pool of users."""
    run_id = given["run_id"] or f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
    pool = [name.strip() for name in (given["pool_users"] or "").split(",") if name.strip()]
    if bool(pool) == bool(given["users"]):
        raise click.UsageError("name whose model to train with --user, or several people with --pool-users")
    if pool and not given["consent_to_pool"]:
        raise click.UsageError("--pool-users needs --consent-to-pool: everyone named must have agreed to it")
    for users in [tuple(dict.fromkeys(pool))] if pool else [(user,) for user in dict.fromkeys(given["users"])]:
        yield _train(trainer, users, run_id, given)


def _train(trainer: Trainer, users: tuple[str, ...], run_id: str, given: Mapping[str, Any]) -> tuple[Entry, int]:
    started, log = time.perf_counter(), RunLog()
    try:
        outcome = trainer.train(*_prepare(trainer, users, run_id, log, given))
        entry, code = outcome.entry.model_dump(mode="json"), 0
    except Exception as error:  # the one place of a trainer that catches everything
        click.echo(told(error), err=True)
        name = users[0] if len(users) == 1 else DEFAULT_USER
        entry, code = _failure(name, trainer.modality, run_id, error, log), exit_code(error)
    entry["seconds"] = {**entry["seconds"], "total": round(time.perf_counter() - started, 4)}
    log.end(entry["status"])
    return entry, code


def _prepare(
    trainer: Trainer, users: tuple[str, ...], run_id: str, log: RunLog, given: Mapping[str, Any]
) -> tuple[Any, Any]:
    from threadpoolctl import threadpool_limits

    from shared.config import load_config
    from shared.features.cache import FeatureCache
    from shared.job import Job

    threadpool_limits(1)  # sums in another order would give other bytes on another number of cores
    for user in users:
        parse_name(user, "--user")
    parse_name(run_id, "--run-id")
    check_writable(given["out"])
    if given["registry"] is not None:
        given["registry"].check_writable()
    settings = list(given["settings"])
    if given["seed"] is not None:
        settings.append(f"seed={given['seed']}")
    if given["demo_data"] is not None:
        settings.append(f"data.include_demo={str(given['demo_data']).lower()}")
    if given["sessions"]:
        settings.append(f"data.sessions={json.dumps(list(given['sessions']))}")
    config = load_config(trainer.config, given["config"], settings)
    if len(users) > 1 and not config.data.require_consent:
        raise ConfigError("data.require_consent: only consented examples may be pooled")
    job = Job(
        users=users,
        data=given["data"],
        out=given["out"],
        run_id=run_id,
        registry=given["registry"],
        data_format=given["data_format"],
        fingerprint=_fingerprint(trainer, users, given),
        package=trainer.package,
        promote=given["promote"],
        cache=FeatureCache() if given["cache"] else None,
        log=log,
    )
    return job, config


def _fingerprint(trainer: Trainer, users: tuple[str, ...], given: Mapping[str, Any]) -> str:
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
    )
    code = code_fingerprint(trainer.package, pretrained_folder())
    data = "+".join(data_fingerprints(given["data"], user)[trainer.modality] for user in users)
    return job_fingerprint(",".join(users), trainer.modality, data, options, code)


def _failure(user: str, modality: str, run_id: str, error: Exception, log: RunLog) -> dict[str, Any]:
    """Return the training log entry of a run that failed; A3CP's required fields are there on failure too."""
    return {
        "schema_version": "1.0.0",
        "user_id": user,
        "modality": modality,
        "timestamp": utc_now(),
        "sample_count": 0,
        "training_config": {},
        "training_metrics": None,
        "status": "failure",
        "error_trace": "".join(traceback.format_exception(error)),
        "model_artifact_path": "",
        "label_encoder_path": "",
        "model_version": None,
        "run_id": run_id,
        "bundle": "",
        "stage": log.current,
        "error_type": type(error).__name__,
        "error_message": told(error).removeprefix("error: "),
        "faults": [vars(fault) for fault in error.faults] if isinstance(error, DataError) else [],
        "seconds": {name: round(value, 4) for name, value in log.seconds.items()},
        "session_count": 0,
        "metrics": {},
        "verdict": None,
        "warnings": log.warnings,
    }
