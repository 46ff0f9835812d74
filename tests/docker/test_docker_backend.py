"""Batches in containers: the same models as in processes, and each way in which a container can fail."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from onnx import TensorProto, helper

from model_registry.store import Registry
from tests.docker.containers import Engine
from tests.paths import ROOT

pytestmark = pytest.mark.docker
FAKE = ROOT / "tests" / "orchestrator" / "fake_trainer.py"


@dataclass(frozen=True)
class Batch:
    """A folder with data, a run folder and a registry, and the command that trains there in containers."""

    root: Path

    @property
    def registry(self) -> Registry:
        return Registry(self.root / "registry")

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    def add(self, *users: str) -> None:
        """Add two transcripts of each user, which is enough for fake trainers."""
        for user in users:
            folder = self.root / "data" / "users" / user / "sessions" / "s1"
            folder.mkdir(parents=True)
            (folder / "session.json").write_text(json.dumps({"user_id": user, "session_id": "s1"}))
            example = {"user_id": user, "session_id": "s1", "timestamp": "2026-03-01T12:00:00.000Z", "label": "yes"}
            example |= {"modality": "speech", "consent_given": True, "transcript": "hello"}
            lines = [json.dumps({**example, "record_id": f"{user}-{number}"}) for number in range(2)]
            (folder / "examples.jsonl").write_text("\n".join(lines) + "\n")

    def command(self, *options: str, backend: str = "docker") -> list[str]:
        data = next((word for word in options if word.startswith("--data=")), f"--data={self.root / 'data'}")
        command = [sys.executable, "-m", "orchestrator.launch", data, f"--runs={self.runs}", f"--backend={backend}"]
        others = [word for word in options if word != data]
        return [*command, f"--registry={self.root / 'registry'}", "--backoff=0", *others]

    def launch(self, *options: str, backend: str = "docker", **environment: str) -> subprocess.CompletedProcess[str]:
        variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        command = self.command(*options, backend=backend)
        return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=500)

    def start(self, *options: str) -> subprocess.Popen[str]:
        variables = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            self.command(*options), env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def wait_for_training(self, batch: subprocess.Popen[str]) -> None:
        """Wait until a fake trainer is in its second stage."""
        for _ in range(3600):
            if any('"fit"' in path.read_text() for path in self.runs.glob("jobs/*/*/events.jsonl")):
                return
            assert batch.poll() is None, batch.communicate()
            time.sleep(0.05)
        raise AssertionError("no trainer came to its second stage")

    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.runs / "summary.json").read_text())
        return found

    def versions(self) -> dict[str, list[int]]:
        """Return the published versions of each user."""
        found: dict[str, list[int]] = {}
        for entry in self.registry.entries():
            found.setdefault(entry.user_id, []).append(entry.version)
        return found

    def containers(self, engine: Engine) -> list[Any]:
        """Return the containers that there are for this run folder."""
        found: list[Any] = engine.client.containers.list(all=True, filters={"label": f"model-trainer.runs={self.runs}"})
        return found


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    return Batch(tmp_path)


@pytest.fixture
def fake(engine: Engine, tmp_path: Path) -> Iterator[Callable[[Mapping[str, str]], str]]:
    """A function that builds a speech image whose trainer behaves as it is told, and gives the option that names it."""
    tag = f"fake-trainer:{uuid4().hex}"  # tests in other processes build theirs at the same time

    def build(behaviours: Mapping[str, str], changed: bool = False) -> str:
        context = tmp_path / "image"
        (context / "app").mkdir(parents=True)
        shutil.copy(FAKE, context / "app")
        if changed:
            (context / "app" / "speech_context_trainer").mkdir()
            (context / "app" / "speech_context_trainer" / "newer.py").write_text('"""Code that is not here."""\n')
        (context / "app" / "behaviours.json").write_text(json.dumps(dict(behaviours)))
        value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
        answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
        graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "fake", [value], [answer])
        (context / "app" / "fake.onnx").write_bytes(helper.make_model(graph).SerializeToString())
        (context / "Dockerfile").write_text(
            "FROM speech-trainer\nCOPY app /app\n"
            "ENV MODEL_TRAINER_FAKE=/app/behaviours.json MODEL_TRAINER_FAKE_ONNX=/app/fake.onnx\n"
            'ENTRYPOINT ["dumb-init", "--", "python", "/app/fake_trainer.py", "speech"]\n'
        )
        engine.client.images.build(path=str(context), tag=tag, rm=True)
        return f"--image=speech={tag}"

    yield build
    engine.client.images.remove(tag, force=True)


def test_containers_make_the_same_models_as_processes_and_know_what_is_up_to_date(
    engine: Engine, demo: Path, tmp_path: Path
) -> None:
    words = (f"--data={demo}", "--users=ana", "--demo-data", "--jobs=2")
    inside, here = Batch(tmp_path / "docker"), Batch(tmp_path / "process")
    done = inside.launch(*words)
    assert done.returncode == 0, done.stderr
    assert here.launch(*words, backend="process").returncode == 0
    hashes = [{e.modality: e.artifact_hash for e in each.registry.entries()} for each in (inside, here)]
    assert len(hashes[0]) == 4 and hashes[0] == hashes[1]
    for modality in hashes[0]:
        place = inside.runs / "jobs" / "ana" / modality
        stages = [json.loads(line).get("stage") for line in (place / "events.jsonl").read_text().splitlines()]
        assert "load" in stages and "bundle" in stages
        assert json.loads((place / "log.json").read_text())["status"] == "success"
    assert not inside.containers(engine)
    again = inside.launch(*words)
    assert again.returncode == 0 and inside.summary()["up_to_date"] == 4
    assert inside.launch(*words, backend="process").returncode == 0 and inside.summary()["up_to_date"] == 4


def test_one_container_serves_many_users_and_has_no_rights(
    engine: Engine, batch: Batch, fake: Callable[..., str]
) -> None:
    batch.add("ana", "ben", "cleo", "dora")
    image = fake({"dora speech": "slow 3"})
    running = batch.start(image, "--jobs=1", "--memory=500M", "--cpus=0.5", "--pids=77")
    batch.wait_for_training(running)
    (container,) = batch.containers(engine)
    config = container.attrs["HostConfig"]
    assert config["NetworkMode"] == "none" and config["ReadonlyRootfs"] and config["CapDrop"] == ["ALL"]
    assert config["SecurityOpt"] == ["no-new-privileges"]
    assert (config["Memory"], config["NanoCpus"], config["PidsLimit"]) == (500 << 20, 500_000_000, 77)
    writable = {mount["Target"] for mount in config["Mounts"] if not mount.get("ReadOnly")}
    assert writable == {str(batch.runs / "bundles"), "/cache"}
    assert container.attrs["Config"]["User"] == f"{os.getuid()}:{os.getgid()}"
    _, stderr = running.communicate(timeout=300)
    assert running.returncode == 0, stderr
    assert set(batch.versions()) == {"ana", "ben", "cleo", "dora"}
    assert not batch.containers(engine)
    filters = {"type": "container", "event": "create", "label": f"model-trainer.runs={batch.runs}"}
    created = engine.client.events(since=0, until=int(time.time()) + 1, filters=filters, decode=True)
    assert len(list(created)) == 1


def test_each_failure_costs_its_own_job_and_says_why_in_one_line(
    engine: Engine, batch: Batch, fake: Callable[..., str]
) -> None:
    behaviours = {"hog": "hog", "silent": "silent", "killed": "kill", "wrong": "data"}
    batch.add("ana", *behaviours)
    image = fake({f"{user} speech": how for user, how in behaviours.items()})
    done = batch.launch(image, "--jobs=1", "--memory=200M", "--retries=1")
    assert done.returncode == 1
    assert batch.versions() == {"ana": [1]}
    assert batch.summary()["failed_by_cause"] == {"crashed": 2, "memory": 1}
    assert batch.summary()["without_model"] == 1
    told = {line.split("] ")[1].split()[0]: line for line in done.stderr.splitlines() if line.startswith("[")}
    assert "memory: out of memory at 200 MiB; raise --memory" in told["hog"]
    assert "exit code 1 without a training log entry" in told["silent"] and "Segmentation fault" in told["silent"]
    assert "killed by signal 9" in told["killed"]
    journal = (batch.runs / "journal.jsonl").read_text()
    assert "out of memory at 200 MiB" in journal and "killed by signal 9" in journal
    result = json.loads((batch.runs / "jobs" / "hog" / "speech" / "result.json").read_text())
    assert result["cause"] == "memory"
    assert not batch.containers(engine)


def test_an_absent_image_fails_its_own_jobs_and_others_see_their_configuration(
    engine: Engine, demo: Path, batch: Batch
) -> None:
    words = (f"--data={demo}", "--users=ana", "--modalities=gesture,sound", "--demo-data")
    (batch.root / "a: gesture.yaml").write_text(
        "candidates: [{features: body_motion, classifier: {type: nearest_centroid}}]\n"
    )
    config = f"--config=gesture={batch.root / 'a: gesture.yaml'}"
    done = batch.launch(*words, "--image=sound=no-such-image", config)
    assert done.returncode == 1
    assert "ana sound: engine: no image no-such-image; build it with: make images" in done.stderr
    (entry,) = batch.registry.entries()
    assert entry.modality == "gesture" and entry.config["candidates"][0]["features"] == ["body_motion"]
    assert "no image no-such-image" in (batch.runs / "journal.jsonl").read_text()


def test_an_image_of_other_code_is_refused(engine: Engine, batch: Batch, fake: Callable[..., str]) -> None:
    batch.add("ana")
    done = batch.launch(fake({}, changed=True))
    assert done.returncode == 1
    assert "was built from other code than this; build it again with: make images" in done.stderr
    assert not batch.containers(engine)


def test_an_absent_engine_is_one_line_for_each_job(batch: Batch) -> None:
    batch.add("ana", "ben")
    done = batch.launch(DOCKER_HOST=f"unix://{batch.root}/nowhere.sock")
    assert done.returncode == 1
    told = [line for line in done.stderr.splitlines() if "no Docker engine responds; start it" in line]
    assert len(told) == 2 and "Traceback" not in done.stderr
    assert batch.summary()["failed_by_cause"] == {"engine": 2}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_batch_that_is_stopped_removes_its_containers(
    engine: Engine, batch: Batch, fake: Callable[..., str], number: signal.Signals
) -> None:
    batch.add("ana", "ben")
    running = batch.start(fake({"*": "hang"}), "--jobs=2", "--drain=0")
    batch.wait_for_training(running)
    assert batch.containers(engine)
    running.send_signal(number)
    running.communicate(timeout=200)
    assert running.returncode == 128 + number
    assert not batch.containers(engine)


def test_containers_of_a_killed_batch_are_removed_by_the_next_one(
    engine: Engine, batch: Batch, fake: Callable[..., str]
) -> None:
    batch.add("ana", "ben")
    image = fake({"ana speech": "slow 2"})
    running = batch.start(image, "--jobs=1")
    batch.wait_for_training(running)
    running.send_signal(signal.SIGKILL)
    running.communicate(timeout=200)
    assert batch.containers(engine)
    done = batch.launch(image, "--jobs=1")
    assert done.returncode == 0, done.stderr
    assert "removed 1 containers of an interrupted batch" in done.stderr
    assert batch.versions() == {"ana": [1], "ben": [1]}
    assert not batch.containers(engine)
