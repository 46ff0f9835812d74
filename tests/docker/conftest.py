"""Containers for tests. Without an engine they are skipped, or fail where MODEL_TRAINER_DOCKER says `required`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import docker
import pytest

from shared.fingerprint import code_fingerprint
from tests.docker.containers import PACKAGES, Engine


def without(reason: str) -> NoReturn:
    """Skip a test, or fail where `MODEL_TRAINER_DOCKER` says that none may be skipped."""
    if os.environ.get("MODEL_TRAINER_DOCKER") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The machine's Docker engine with all images, built from the code as it is."""
    try:
        client = docker.from_env(timeout=120)
        client.ping()
    except docker.errors.DockerException as error:
        without(f"no Docker engine answers: {error}")
    found = Engine(client)
    for image, package in PACKAGES.items():
        try:
            client.images.get(image)
        except docker.errors.ImageNotFound:
            without(f"no image {image}; make images builds it")
        inside = found.python(image, f"from shared.fingerprint import code_fingerprint as f; print(f({package!r}))")
        if inside.strip() != code_fingerprint(package):
            without(f"the image {image} is of other code; make images builds it again")
    yield found
    found.remove_all()


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's data root."""
    root = tmp_path_factory.mktemp("docker-demo") / "data"
    subprocess.run([sys.executable, "-m", "demo.make_data", str(root)], check=True, capture_output=True)
    return root


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder that a container's own user may write to."""
    folder = tmp_path / "out"
    folder.mkdir()
    folder.chmod(0o777)
    return folder
