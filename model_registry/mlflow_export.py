"""Copying published versions to MLflow: each becomes a run, and a version of a registered model.

The runs are those of the experiment `model-trainer`. The registered model of ana's gestures is `ana-gesture`; its alias
`active` follows the registry. MLflow gets the files of the version, its settings and its metrics, and nothing else.
The package mlflow-skinny is imported late: it takes seconds.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from model_registry.errors import CorruptError, MlflowError, MlflowMissingError, NotFoundError, RegistryError
from model_registry.location import ReadableRegistry
from model_registry.messages import plain
from model_registry.storage.durable import temporary_folder
from model_registry.storage.entry import RegistryEntry
from model_registry.storage.resolution import ResolvedVersion
from model_registry.storage.verification import Damage, OnDamage, log_damage

EXPERIMENT = "model-trainer"
ALIAS = "active"
_PREFIX = "model_trainer."  # of the tags that name a version
_LONGEST = 5000  # characters of a tag or parameter; servers refuse longer ones
_AT_ONCE = 100  # parameters in a request; servers refuse more
_STATUS = f"{_PREFIX}status"
_MODEL_ROLES = ("model", "label_map")
_NOT_COPIED = ("label_encoder",)  # a pickle; label_map says the same
_REASON = 300  # characters of what MLflow says
_RUN = "/#/experiments/"  # before experiment and run in the address of a run, as MLflow's own pages have it


@dataclass(frozen=True)
class ExportedVersion:
    """A version that goes to MLflow, and the address of its run there."""

    version: ResolvedVersion
    run: str


def export_versions(
    registry: ReadableRegistry, entries: Iterable[RegistryEntry], address: str, on_damage: OnDamage = log_damage
) -> Iterator[ExportedVersion]:
    """Copy the versions that MLflow does not have yet, and yield each before its files are copied.

    The status of those that it has is brought up to date. A run that was not finished is made again. What is damaged is
    passed over and given to `on_damage`. Raises MlflowError, MlflowMissingError.
    """
    address = _absolute(address)
    with _faults(address):
        client = _client(address)
        experiment = _experiment(client)
        runs = {_identity(run.data.tags): run for run in _runs(client, experiment)}
        for entry in entries:
            run = runs.get(_identity(_tags(entry)))
            if run is not None and run.info.status == "FINISHED":
                _update_status(client, run, entry)
                continue
            try:
                with registry.open_version(entry.user_id, entry.modality, entry.version) as version:
                    if run is not None:
                        _remove(client, run)
                    run = _create_run(client, experiment, entry)
                    yield ExportedVersion(version, f"{address}{_RUN}{experiment}/runs/{run.info.run_id}")
                    _copy(client, run, version, entry)
            except (CorruptError, NotFoundError) as error:
                on_damage(Damage(entry.user_id, entry.modality, entry.version, str(error)))


def is_run_address(text: str) -> bool:
    """Return whether a text is the address of a run that `export_versions` made."""
    return _RUN in text


def remove_run(run: str) -> bool:
    """Delete the run at an address, and its model, for good; return whether its files are gone, too.

    A server keeps the files of a deleted run until `mlflow gc`. Raises MlflowError, MlflowMissingError.
    """
    address, _, rest = run.partition(_RUN)
    with _faults(address):
        client = _client(address)
        from mlflow import MlflowException

        try:
            known = client.get_run(rest.rpartition("/")[2])
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return True
            raise
        _remove(client, known)
        if urlsplit(address).scheme != "file":
            return False
        shutil.rmtree(Path(unquote(urlsplit(known.info.artifact_uri).path)).parent)
        return True


def _experiment(client: Any) -> str:
    """Return the id of our experiment, which the first export creates."""
    known = client.get_experiment_by_name(EXPERIMENT)
    return str(known.experiment_id if known else client.create_experiment(EXPERIMENT))


def _runs(client: Any, experiment: str) -> Iterator[Any]:
    """Yield all runs of an experiment but deleted ones."""
    token = None
    while True:
        page = client.search_runs([experiment], max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _create_run(client: Any, experiment: str, entry: RegistryEntry) -> Any:
    time = int(datetime.fromisoformat(entry.timestamp).timestamp() * 1000)
    name = f"{entry.user_id}/{entry.modality} {entry.model_version}"
    return client.create_run(experiment, start_time=time, tags=_tags(entry), run_name=name)


def _copy(client: Any, run: Any, version: ResolvedVersion, entry: RegistryEntry) -> None:
    """Fill a run; it is FINISHED only when all is there, so that the next export knows what is not."""
    from mlflow.entities import Metric, Param

    run_id, time = run.info.run_id, run.info.start_time
    metrics = [Metric(_key(name), value, time, 0) for name, value in entry.metrics.items()]
    settings = {"features": entry.feature_spec_id, "trainer": entry.trainer_name, **_flat(entry.config, "config")}
    params = [Param(_key(name), _text(value)) for name, value in settings.items()]
    for start in range(0, max(len(metrics), len(params)), _AT_ONCE):
        end = start + _AT_ONCE
        client.log_batch(run_id, metrics=metrics[start:end], params=params[start:end])
    with temporary_folder() as folder:
        _write_model(folder, version, run_id)
        client.log_artifacts(run_id, str(folder), "model")
    for role, path in version.files.items():
        if role not in (*_MODEL_ROLES, *_NOT_COPIED):
            client.log_artifact(run_id, str(path))
    model = _model_name(entry)
    if not client.search_registered_models(f"name = '{model}'"):
        client.create_registered_model(model)
    source = f"{run.info.artifact_uri}/model"
    tags = _tags(entry)
    number = client.create_model_version(model, source, run_id, tags=tags, await_creation_for=0).version
    if entry.status == "active":
        client.set_registered_model_alias(model, ALIAS, number)
    client.set_terminated(run_id, "FINISHED", time)


def _write_model(folder: Path, version: ResolvedVersion, run_id: str) -> None:
    """Write the network, its labels, and the description from which `mlflow.onnx` and `mlflow.pyfunc` load it."""
    import onnx
    from mlflow.models import Model

    for role in _MODEL_ROLES:
        shutil.copyfile(version.files[role], folder / version.files[role].name)
    data, library, providers = version.files["model"].name, onnx.__version__, ["CPUExecutionProvider"]
    model = Model(artifact_path="model", run_id=run_id)
    model.add_flavor("onnx", onnx_version=library, data=data, providers=providers, onnx_session_options=None)
    model.add_flavor("python_function", loader_module="mlflow.onnx", data=data)
    model.save(folder / "MLmodel")


def _update_status(client: Any, run: Any, entry: RegistryEntry) -> None:
    """Bring status and alias of an exported version up to date; there is nothing to do where neither changed."""
    if run.data.tags.get(_STATUS) == entry.status:
        return
    model = _model_name(entry)
    for version in client.search_model_versions(f"run_id = '{run.info.run_id}'"):
        if entry.status == "active":
            client.set_registered_model_alias(model, ALIAS, version.version)
        elif str(client.get_registered_model(model).aliases.get(ALIAS)) == str(version.version):
            client.delete_registered_model_alias(model, ALIAS)
        client.set_model_version_tag(model, version.version, _STATUS, entry.status)
    client.set_tag(run.info.run_id, _STATUS, entry.status)


def _remove(client: Any, run: Any) -> None:
    """Delete a run with its version of a registered model, and the registered model that has no other version."""
    for version in client.search_model_versions(f"run_id = '{run.info.run_id}'"):
        client.delete_model_version(version.name, version.version)
        if not client.search_model_versions(f"name = '{version.name}'"):
            client.delete_registered_model(version.name)
    if run.info.lifecycle_stage == "active":
        client.delete_run(run.info.run_id)


def _client(address: str) -> Any:
    """Return MLflow's client of a server or folder. Raises MlflowMissingError."""
    for name, value in (
        ("MLFLOW_DISABLE_TELEMETRY", "true"),  # it would report its use to its makers
        ("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true"),
        ("MLFLOW_ALLOW_FILE_STORE", "true"),  # the user named a folder; without it MLflow takes databases alone
        ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2"),  # the next export does what this one cannot
    ):
        os.environ.setdefault(name, value)
    try:
        from mlflow import MlflowClient
    except ModuleNotFoundError:
        raise MlflowMissingError("mlflow is missing: pip install 'model-trainer[mlflow]'") from None
    return MlflowClient(address, address)


def _absolute(address: str) -> str:
    """Return the address of a server as it is, and a folder's as a `file:` URI. Raises MlflowError for any other."""
    parts = urlsplit(address)
    if parts.username or parts.password:
        raise MlflowError(
            "the address has a password: leave it out, and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    if parts.scheme == "file" and parts.netloc:
        raise MlflowError(f"{address}: write file:///{parts.netloc}{parts.path} or file:{parts.netloc}{parts.path}")
    if parts.scheme in ("", "file"):
        return Path(unquote(parts.path)).absolute().as_uri()
    if parts.scheme not in ("http", "https"):
        raise MlflowError(f"{address}: is no address of MLflow; write http(s)://… or file:…")
    return address.rstrip("/")


@contextmanager
def _faults(address: str) -> Iterator[None]:
    """Raise what MLflow raises as MlflowError: one line with the address."""
    try:
        yield
    except RegistryError:
        raise
    except ModuleNotFoundError as error:
        raise MlflowMissingError(f"{address}: needs the package {error.name}: pip install mlflow") from None
    except Exception as error:  # MLflow's client lets through what its stores and HTTP raise
        reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        if "failed with exception" in reason:  # the connection's, in the words of its libraries
            reason = "does not respond; start MLflow there, or correct the address"
        raise MlflowError(f"{address}: {plain(reason)[:_REASON]}") from error


def _model_name(entry: RegistryEntry) -> str:
    return f"{entry.user_id}-{entry.modality}"  # a modality has no hyphen


def _identity(tags: Mapping[str, str]) -> tuple[str | None, ...]:
    """Return what tells a version from every other, of this registry or another."""
    names = ("user_id", "modality", "model_version", "artifact_hash", "run_id")
    return tuple(tags.get(f"{_PREFIX}{name}") for name in names)


def _tags(entry: RegistryEntry) -> dict[str, str]:
    """Return the tags of a version, with a sentence of its accuracy for MLflow's page."""
    facts: dict[str, Any] = {
        name: getattr(entry, name)
        for name in (
            *("user_id", "modality", "model_version", "run_id", "status", "verdict", "artifact_hash"),
            *("example_count", "session_count", "examples_hash", "data_fingerprint", "job_fingerprint"),
        )
    }
    facts |= {"labels": ", ".join(entry.labels), "encoders": ", ".join(ref.name for ref in entry.encoder_refs)}
    note = f"Verdict: {entry.verdict or 'none'}."
    value, low, high = (entry.metrics.get(name) for name in ("accuracy", "accuracy_low", "accuracy_high"))
    if value is not None and low is not None and high is not None:
        note += f" Accuracy on sessions that the model was not trained on: {value:.2f} ({low:.2f} to {high:.2f})."
    return {f"{_PREFIX}{name}": _text(value) for name, value in facts.items()} | {"mlflow.note.content": note}


def _flat(value: Any, name: str) -> dict[str, Any]:
    """Return nested settings under dotted names."""
    if not isinstance(value, dict) or not value:
        return {name: value}
    return {key: item for part, inner in value.items() for key, item in _flat(inner, f"{name}.{part}").items()}


def _key(name: str) -> str:
    """Return a name as MLflow takes it."""
    return re.sub(r"[^A-Za-z0-9_./ -]", "_", name)[:250]


def _text(value: Any) -> str:
    return ("" if value is None else str(value))[:_LONGEST]
