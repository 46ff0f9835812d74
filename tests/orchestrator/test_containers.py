"""What a container is given, as far as it can be tested without a Docker engine; tests/docker runs real ones."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("docker", reason="the docker extra is not installed")

from docker.errors import ImageNotFound

from orchestrator.backends import containers
from orchestrator.backends.containers import ContainerLimits, Containers
from shared.errors import TrainerError
from shared.trainers import Cost, Trainer

SMELL = Trainer("smell", "Smells", "smell_trainer", "smell-train", "smell-trainer", Cost(1.0, 0.001, 3 << 30))


@pytest.mark.parametrize(("limit", "expected"), [(None, 3 << 30), (1 << 30, 1 << 30)])
def test_a_container_has_the_image_and_memory_that_its_trainer_declares_unless_a_limit_is_set(
    limit: int | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    created: list[tuple[str, dict[str, Any]]] = []

    def create_container(image: str, words: list[str], *, host_config: dict[str, Any], **options: Any) -> None:
        created.append((image, host_config))
        raise ImageNotFound("no such image")

    api = SimpleNamespace(create_host_config=dict, create_container=create_container)
    client = SimpleNamespace(api=api, ping=lambda: True)
    monkeypatch.setattr(containers.docker.DockerClient, "from_env", lambda timeout: client)
    started = Containers(tmp_path, {"smell": SMELL}, ContainerLimits(limit), (tmp_path,), (), tmp_path / "cache")
    with pytest.raises(TrainerError, match=r"no image smell-trainer; build it"):
        started.start("smell")
    ((image, settings),) = created
    assert image == "smell-trainer"
    assert (settings["mem_limit"], settings["memswap_limit"], settings["network_mode"]) == (expected, expected, "none")
