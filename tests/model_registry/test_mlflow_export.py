"""`registry export --mlflow`: each version is copied once, whole, and follows the registry."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from click.testing import CliRunner, Result
from uv import find_uv_bin

from model_registry.commands.main import registry
from model_registry.store import Registry
from tests.model_registry.bundles import make_bundle
from tests.orchestrator.test_dask import free_port
from tests.soak import SOAK

mlflow = pytest.importorskip("mlflow", reason="needs the extra mlflow")
pytestmark = pytest.mark.slow
METRICS = {"accuracy": 0.8, "accuracy_low": 0.6, "accuracy_high": 0.9}


@pytest.fixture
def models(tmp_path: Path) -> Registry:
    """A registry with two versions of ana's, the second a candidate, and one of ben's."""
    models = Registry(tmp_path / "models")
    described: dict[str, Any] = {"metrics": METRICS, "config": {"seed": 3, "data": {"since": None}}, "verdict": "weak"}
    for user, run, promote in (("ana", "r1", True), ("ana", "r2", False), ("ben", "r1", True)):
        models.publish(make_bundle(tmp_path, user=user, run=run, **described), promote=promote)
    return models


def call(models: Registry, *words: str, code: int = 0, to: str | Path = "") -> Result:
    address = str(to) or (models.root.parent / "mlruns").as_uri()
    result = CliRunner().invoke(registry, ["export", *words, "--mlflow", address, "--registry", str(models.root)])
    assert result.exit_code == code, result.output
    return result


def client(models: Registry) -> Any:
    place = (models.root.parent / "mlruns").as_uri()
    return mlflow.MlflowClient(place, place)


def runs(models: Registry) -> dict[str, Any]:
    """Return the runs by name; fails where two have the same."""
    there = client(models)
    found = there.search_runs([there.get_experiment_by_name("model-trainer").experiment_id])
    assert len({run.info.run_name for run in found}) == len(found)
    return {run.info.run_name: run for run in found}


def test_a_version_becomes_a_run_and_a_model_with_all_that_it_has_but_the_pickle(models: Registry) -> None:
    assert call(models).stdout.splitlines()[-1] == "3 exported, 0 exported before"
    exported = runs(models)
    assert set(exported) == {"ana/gesture v1", "ana/gesture v2", "ben/gesture v1"}
    run = exported["ana/gesture v1"]
    assert run.info.status == "FINISHED" and run.data.metrics == METRICS
    assert (run.data.params["config.seed"], run.data.params["config.data.since"]) == ("3", "")
    assert run.data.tags["model_trainer.verdict"] == "weak"
    assert "0.80 (0.60 to 0.90)" in run.data.tags["mlflow.note.content"]
    version = models.resolve("ana", "gesture", 1)
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    copied = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    description = copied.pop("MLmodel").decode()
    published = {path.name: path.read_bytes() for role, path in version.files.items() if role != "label_encoder"}
    assert copied == published and version.files["model"].name in description
    model = client(models).get_model_version_by_alias("ana-gesture", "active")
    assert model.run_id == run.info.run_id and Path(model.source.removeprefix("file://")) == folder / "model"


def test_a_version_is_exported_once_and_its_status_follows_the_registry(models: Registry, tmp_path: Path) -> None:
    call(models)
    before = runs(models)
    models.promote("ana", "gesture", 2)
    models.archive("ben", "gesture", 1, withdraw=True)
    models.publish(make_bundle(tmp_path, user="ben", run="r2"), promote=False)
    lines = call(models).stdout.splitlines()
    assert lines[-1] == "1 exported, 3 exported before" and lines[0].startswith("ben/gesture v2: file:///")
    after = runs(models)
    assert all(after[name].info.run_id == run.info.run_id for name, run in before.items())
    status = {name: run.data.tags["model_trainer.status"] for name, run in after.items()}
    assert status == {
        "ana/gesture v1": "archived",
        "ana/gesture v2": "active",
        "ben/gesture v1": "archived",
        "ben/gesture v2": "candidate",
    }
    there = client(models)
    assert there.get_model_version_by_alias("ana-gesture", "active").run_id == after["ana/gesture v2"].info.run_id
    assert not there.get_registered_model("ben-gesture").aliases
    assert call(models).stdout.splitlines() == ["0 exported, 4 exported before"]


def test_users_and_versions_can_be_chosen(models: Registry) -> None:
    call(models, "ana", "gesture", "--version", "v2")
    assert set(runs(models)) == {"ana/gesture v2"}
    call(models, "ben")
    assert set(runs(models)) == {"ana/gesture v2", "ben/gesture v1"}
    assert "name USER and MODALITY" in call(models, "--version", "v2", code=2).stderr
    assert "takes no TARGET" in call(models, "ana", "gesture", "file.tar", code=2).stderr


@pytest.mark.parametrize("step", ["log_artifacts", "create_model_version", "set_terminated"])
def test_an_interrupted_export_is_completed_by_the_next(
    models: Registry, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def refuse(*words: Any, **more: Any) -> None:
        raise mlflow.MlflowException("the disk is full\nand more of it")

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, step, refuse)
        failed = call(models, code=3)
    assert failed.stderr.startswith("error: file:///") and failed.stderr.endswith(": the disk is full\n")
    assert call(models).stdout.splitlines()[-1] == "3 exported, 0 exported before"
    exported = runs(models)
    assert {run.info.status for run in exported.values()} == {"FINISHED"}
    versions = client(models).search_model_versions("name = 'ana-gesture'")
    assert {version.run_id for version in versions} == {
        exported[f"ana/gesture v{number}"].info.run_id for number in (1, 2)
    }


def test_a_damaged_version_is_named_and_the_others_are_exported(models: Registry) -> None:
    models.resolve("ana", "gesture", 1).files["model"].write_bytes(b"other")
    result = call(models, code=3)
    assert result.stderr.startswith("damaged: ana/gesture v1") and "2 exported, 0 exported before" in result.stdout
    assert set(runs(models)) == {"ana/gesture v2", "ben/gesture v1"}


def test_where_models_went_is_recorded_before_they_go(models: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*words: Any, **more: Any) -> None:
        raise mlflow.MlflowException("no")

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", refuse)
    call(models, "ana", code=3)
    (line,) = (models.root / "copies.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert record["users"] == ["ana"] and record["path"].endswith(runs(models)["ana/gesture v1"].info.run_id)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Run MLflow's own server, of the client's version, from an environment of its own, and yield its address."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    mlflow_server = [
        "--no-project",
        "--python",
        sys.executable,
        "--with",
        f"mlflow=={mlflow.__version__}",
        "mlflow",
        "server",
    ]
    places = [
        "--backend-store-uri",
        f"sqlite:///{tmp_path / 'mlflow.db'}",
        "--artifacts-destination",
        str(tmp_path / "kept"),
    ]
    command = [find_uv_bin(), "run", "--quiet", *mlflow_server, "--port", str(port), *places]
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
        )
    try:
        for _ in range(600):
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{address}/health").status_code == 200:
                    break
            assert process.poll() is None, (tmp_path / "server.log").read_text()
            time.sleep(0.5)
        yield address
    finally:
        family = [*psutil.Process(process.pid).children(recursive=True), process]
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        process.wait(30)


@pytest.mark.skipif(not SOAK, reason="make soak runs it: MLflow's server takes a minute to install and start")
def test_a_server_gets_what_a_folder_gets(models: Registry, server: str, tmp_path: Path) -> None:
    assert call(models, to=server).stdout.splitlines()[-1] == "3 exported, 0 exported before"
    there = mlflow.MlflowClient(server, server)
    found = there.search_runs([there.get_experiment_by_name("model-trainer").experiment_id])
    by_name = {run.info.run_name: run for run in found}
    assert {run.info.status for run in found} == {"FINISHED"} and len(by_name) == 3
    assert by_name["ana/gesture v1"].data.metrics == METRICS
    model = there.get_model_version_by_alias("ana-gesture", "active")
    assert model.run_id == by_name["ana/gesture v1"].info.run_id
    copied = Path(there.download_artifacts(model.run_id, "model", str(tmp_path)))
    published = models.resolve("ana", "gesture", 1).files["model"]
    assert (copied / published.name).read_bytes() == published.read_bytes()

    models.promote("ana", "gesture", 2)
    assert call(models, to=server).stdout.splitlines() == ["0 exported, 3 exported before"]
    active = there.get_model_version_by_alias("ana-gesture", "active")
    assert active.run_id == by_name["ana/gesture v2"].info.run_id


def test_what_cannot_be_is_one_line(models: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for address, code, reason in (
        ("http://127.0.0.1:9", 3, "http://127.0.0.1:9: does not respond; start MLflow there, or correct the address"),
        ("https://ana:secret@example.org", 3, "MLFLOW_TRACKING_PASSWORD"),
        ("file://mlruns", 3, "write file:///mlruns or file:mlruns"),
        ("bogus://place", 3, "error: bogus://place: is no address of MLflow; write http(s)://… or file:…"),
    ):
        (line,) = call(models, code=code, to=address).stderr.splitlines()
        assert reason in line and "secret" not in line
    monkeypatch.setitem(sys.modules, "mlflow", None)
    result = call(models, code=2)
    assert result.stderr == "error: mlflow is missing: pip install 'model-trainer[mlflow]'\n" and not result.stdout
