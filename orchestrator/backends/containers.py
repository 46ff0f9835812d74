"""Workers in containers of a Docker engine: one container for each worker, which runs many jobs of its modality.

A container has no network, no privileges and a read-only root; the data are mounted read-only, under the same paths as
here, so that logs and options need no translation. Its standard input is held by this process: when this process ends,
the trainer ends after its job, and the next batch in the same run folder removes what is left of the container.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import docker
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.types import Mount
from requests.exceptions import RequestException

from model_registry.names import Modality
from orchestrator.jobs import one_line
from orchestrator.trainer_process import with_last_line
from orchestrator.workers import ExitReason, WorkerHandle
from shared.errors import TrainerError
from shared.features.pretrained import pretrained_folder
from shared.fingerprint import code_fingerprint
from shared.trainers import Trainer

_LABEL = "model-trainer.runs"  # which run folder a container works for
_GRACE = 3  # seconds between SIGTERM and SIGKILL
_TIMEOUT = 60  # seconds that the engine may take to respond
_SETTLED = 0.05  # seconds without another frame after which a response is passed on: progress comes first
_CACHE = "/cache"
_PRINT_FINGERPRINT = (
    "import sys; from shared.fingerprint import code_fingerprint; "
    "from shared.features.pretrained import pretrained_folder; "
    "print(code_fingerprint(sys.argv[1], pretrained_folder()))"
)
_ERRORS = (DockerException, RequestException, OSError)


@dataclass(frozen=True)
class ContainerLimits:
    """What one container may use: bytes, processors, processes and threads."""

    memory: int | None = None  # none: what the trainer declares
    cpus: float = 1.0
    pids: int = 256


@dataclass(frozen=True)
class Containers:
    """How workers are started in containers, for one run folder."""

    runs: Path
    trainers: Mapping[Modality, Trainer]
    limits: ContainerLimits
    readable: tuple[Path, ...]  # the data root, configuration files, and the files that those name, as named there
    writable: tuple[Path, ...]  # the bundles
    cache: Path

    def start(self, modality: Modality) -> WorkerHandle:
        """Start a worker's container. Raises TrainerError in one line: no engine, no image, or one of other code."""
        trainer = self.trainers[modality]
        image, memory = trainer.image, self.limits.memory or trainer.cost.memory_bytes
        try:
            client = docker.DockerClient.from_env(timeout=_TIMEOUT)
            client.ping()
        except _ERRORS as error:
            raise TrainerError(
                f"no Docker engine responds; start it, or use --backend process: {one_line(error)}"
            ) from None
        try:
            container = client.api.create_container(
                image,
                ["--worker"],
                stdin_open=True,
                user=f"{os.getuid()}:{os.getgid()}",
                working_dir=str(Path.cwd()) if any(not path.is_absolute() for path in self.readable) else None,
                environment={"MODEL_TRAINER_CACHE": _CACHE},
                labels={_LABEL: str(self.runs)},
                host_config=self._host_config(client, memory),
            )["Id"]
        except ImageNotFound:
            raise TrainerError(f"no image {image}; build it with: make images") from None
        except _ERRORS as error:
            raise TrainerError(f"{image}: the engine cannot create a container: {_engine_message(error)}") from None
        try:
            connection = client.api.attach_socket(container, {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
            client.api.start(container)
            self._compare_code(client, container, trainer)
        except _ERRORS as error:
            _remove(client, container)
            raise TrainerError(f"{image}: the container does not start: {_engine_message(error)}") from None
        except TrainerError:
            _remove(client, container)
            raise
        return WorkerContainer(client, container, connection, memory)

    def _host_config(self, client: Any, memory: int) -> Any:
        self.cache.mkdir(parents=True, exist_ok=True)
        readable = dict.fromkeys(path.absolute() for path in self.readable)
        mounts = [Mount(str(path), str(path), type="bind", read_only=True) for path in readable]
        mounts += [Mount(str(path), str(path), type="bind") for path in self.writable]
        return client.api.create_host_config(
            mounts=[*mounts, Mount(_CACHE, str(self.cache), type="bind")],
            network_mode="none",
            read_only=True,
            tmpfs={"/tmp": ""},
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            mem_limit=memory,
            memswap_limit=memory,
            nano_cpus=int(self.limits.cpus * 1e9),
            pids_limit=self.limits.pids,
        )

    def _compare_code(self, client: Any, container: str, trainer: Trainer) -> None:
        """Raise TrainerError if the image holds other code than this project: its models would never be up to date."""
        command = client.api.exec_create(container, ["python", "-c", _PRINT_FINGERPRINT, trainer.package])
        inside = client.api.exec_start(command["Id"]).decode("utf-8", "replace").strip()
        if inside != code_fingerprint(trainer.package, pretrained_folder()):
            raise TrainerError(
                f"the image {trainer.image} was built from other code than this; build it again with: make images"
            )

    def remove_leftovers(self) -> int:
        """Remove the containers of an interrupted batch in this run folder; return how many there were."""
        try:
            client = docker.DockerClient.from_env(timeout=_TIMEOUT)
            leftovers = client.api.containers(all=True, filters={"label": f"{_LABEL}={self.runs}"})
        except _ERRORS:
            return 0  # each job will report it
        for container in leftovers:
            _remove(client, container["Id"])
        return len(leftovers)


class WorkerContainer:
    """A worker in a container; a thread splits the engine's stream into two pipes."""

    pid = 0  # it has none here; the engine limits its memory

    def __init__(self, client: Any, container: str, connection: Any, memory: int) -> None:
        self._client = client
        self._container = container
        self._memory = memory
        self._response = connection  # kept, or the socket would be closed
        self._socket: socket.socket = getattr(connection, "_sock", connection)
        self._socket.settimeout(None)
        (out, self._out), (err, self._err) = os.pipe(), os.pipe()
        for end in (out, err):
            os.set_blocking(end, False)
        self.stdout: IO[bytes] | None = os.fdopen(out, "rb", buffering=0)
        self.stderr: IO[bytes] | None = os.fdopen(err, "rb", buffering=0)
        self._closed = threading.Event()
        threading.Thread(target=self._pump, name=f"container {container[:12]}", daemon=True).start()

    def poll(self) -> int | None:
        return self._state().get("ExitCode") if self._closed.is_set() else None

    def send(self, line: bytes) -> None:
        self._socket.sendall(line)

    def close_stdin(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def wait(self, seconds: float) -> None:
        self._closed.wait(seconds)

    def stop(self) -> None:
        with contextlib.suppress(*_ERRORS):
            self._client.api.stop(self._container, timeout=0 if self._closed.is_set() else _GRACE)
        _remove(self._client, self._container)
        self._closed.wait(_GRACE)
        with contextlib.suppress(*_ERRORS):
            self._socket.close()
            self._client.close()
        for pipe in (self.stdout, self.stderr):
            if pipe is not None:
                pipe.close()

    def exit_reason(self, events: Path) -> ExitReason:
        try:
            code = int(self._client.api.wait(self._container, timeout=_TIMEOUT)["StatusCode"])
            state = self._client.api.inspect_container(self._container)["State"]
        except _ERRORS as error:
            return ExitReason(
                "engine", f"the Docker engine lost the container: {_engine_message(error)}", -1, transient=True
            )
        if state.get("OOMKilled"):
            reason = f"out of memory at {self._memory >> 20} MiB; raise --memory or give it less data"
            return ExitReason("memory", reason, code, transient=False)
        killed = code > 128
        reason = f"killed by signal {code - 128}" if killed else f"exit code {code} without a training log entry"
        return ExitReason("crashed", with_last_line(reason, events), code, transient=killed)

    def _state(self) -> Mapping[str, Any]:
        try:
            state: Mapping[str, Any] = self._client.api.inspect_container(self._container)["State"]
        except _ERRORS:
            return {"ExitCode": -1}
        return state

    def _pump(self) -> None:
        """Copy the engine's frames, each with a header of eight bytes, to the two pipes until the container ends.

        The engine copies both outputs concurrently, so progress may arrive after the response that follows it: a
        response is held back until nothing more arrives.
        """
        received, response = bytearray(), bytearray()
        with contextlib.suppress(OSError):
            while True:
                if response and not select.select([self._socket], [], [], _SETTLED)[0]:
                    _write(self._out, response)
                    response.clear()
                block = self._socket.recv(1 << 16)
                if not block:
                    break
                received += block
                while len(received) >= 8:
                    stream, size = struct.unpack(">BxxxL", received[:8])
                    if len(received) < 8 + size:
                        break
                    if stream == 1:
                        response += received[8 : 8 + size]
                    else:
                        _write(self._err, received[8 : 8 + size])
                    del received[: 8 + size]
        with contextlib.suppress(OSError):
            _write(self._out, response)
        self._closed.set()
        os.close(self._out)
        os.close(self._err)


def _write(pipe: int, content: bytes | bytearray) -> None:
    view = memoryview(bytes(content))
    while view:
        view = view[os.write(pipe, view) :]


def _remove(client: Any, container: str) -> None:
    with contextlib.suppress(NotFound, *_ERRORS):
        client.api.remove_container(container, force=True)


def _engine_message(error: Exception) -> str:
    """Return the engine's own message, on one line."""
    return one_line(error.explanation if isinstance(error, APIError) and error.explanation else error)
