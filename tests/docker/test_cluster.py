"""`deploy/cluster.yaml` as its head says: registry, scheduler, workers and monitor in containers, and a batch."""

from __future__ import annotations

import io
import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from model_registry.store import Registry
from tests.docker.conftest import without
from tests.docker.containers import CALLER, Engine
from tests.orchestrator.test_dask import free_port
from tests.paths import ROOT

pytestmark = pytest.mark.docker
DEPLOY = ROOT / "deploy"


@dataclass(frozen=True)
class Cluster:
    """A project of Compose with folders and ports of its own. `compose` is the command that this machine has."""

    compose: tuple[str, ...]
    root: Path
    environment: dict[str, str]

    def run(self, *words: str, **more: str) -> str:
        """Run a command of Compose and return what it printed."""
        done = subprocess.run(
            [*self.compose, "-f", str(DEPLOY / "cluster.yaml"), *words],
            env={**self.environment, **more},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def get(self, port: str, path: str, **headers: str) -> httpx.Response:
        """Ask a service that may be starting."""
        for _ in range(300):
            try:
                return httpx.get(f"http://127.0.0.1:{self.environment[port]}{path}", headers=headers, timeout=30)
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError(self.run("logs"))


def find_compose() -> tuple[str, ...]:
    """Return Docker's plugin, or the command that Debian's package docker-compose has."""
    for command in (("docker", "compose"), ("docker-compose",)):
        try:
            if subprocess.run([*command, "version"], capture_output=True, timeout=60).returncode == 0:
                return command
        except FileNotFoundError:
            pass
    without("no docker compose here; Debian's package docker-compose has it")


@pytest.fixture
def cluster(engine: Engine, demo: Path, tmp_path: Path) -> Iterator[Cluster]:
    """What the cluster needs: the workers' image, here with the trainer of speech alone, data and empty folders."""
    compose, name = find_compose(), f"cluster-{uuid4().hex}"
    others = ("gesture-trainer", "sound-trainer", "visual-trainer")
    lines = (DEPLOY / "workers.Dockerfile").read_text("utf-8").splitlines(keepends=True)
    dockerfile = "".join(line for line in lines if not line.startswith(tuple(f"COPY --from={each}" for each in others)))
    engine.client.images.build(fileobj=io.BytesIO(dockerfile.encode()), tag=name, rm=True)
    for folder in ("runs", "models"):
        (tmp_path / folder).mkdir()
    environment = {
        **os.environ,
        "COMPOSE_PROJECT_NAME": name,
        "CALLER": CALLER,
        "WORKER_IMAGE": name,
        "DATA": str(demo),
        "RUNS": str(tmp_path / "runs"),
        "MODELS": str(tmp_path / "models"),
        "REGISTRY_PORT": str(free_port()),
        "MONITOR_PORT": str(free_port()),
    }
    made = Cluster(compose, tmp_path, environment)
    try:
        yield made
    finally:
        made.run("--profile", "batch", "--profile", "monitor", "down")
        engine.client.images.remove(name, force=True)


def test_a_batch_runs_on_the_workers_and_publishes_to_the_registry(cluster: Cluster) -> None:
    scopes = ("--scope", "publish", "--scope", "read")
    token = cluster.run("run", "-T", "--rm", "registry", "registry", "token", "add", "cluster", *scopes).strip()
    cluster.run("up", "-d", "registry", "scheduler", "worker", MODEL_TRAINER_TOKEN=token)
    assert cluster.get("REGISTRY_PORT", "/health").json() == {"status": "ok"}
    assert cluster.get("REGISTRY_PORT", "/v1/models").status_code == 401
    page = cluster.get("REGISTRY_PORT", "/", Accept="text/html")
    assert page.status_code == 401 and page.headers["WWW-Authenticate"].startswith("Basic")

    options = ("--users", "ana", "--modalities", "speech", "--demo-data")
    printed = cluster.run("run", "-T", "--rm", "batch", *options, MODEL_TRAINER_TOKEN=token)
    assert "1 published" in printed
    served = cluster.get("REGISTRY_PORT", "/v1/models", Authorization=f"Bearer {token}")
    assert "ana" in served.text
    entries = Registry(cluster.root / "models").entries()
    assert [(entry.user_id, entry.modality, entry.version) for entry in entries] == [("ana", "speech", 1)]

    cluster.run("--profile", "monitor", "up", "-d", "monitor", MODEL_TRAINER_TOKEN=token)
    assert 'model_trainer_jobs{modality="speech",state="succeeded"} 1.0' in cluster.get("MONITOR_PORT", "/metrics").text
    summary = json.loads((cluster.root / "runs" / "summary.json").read_text("utf-8"))
    assert (summary["jobs"], summary["failed"]) == (1, 0)
