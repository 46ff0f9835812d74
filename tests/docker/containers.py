"""Running images as they are meant to be run: without network, rights or a writable file system."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.backends.containers import kernel_variables

PACKAGES = {
    "gesture-trainer": "gesture_trainer",
    "sound-trainer": "sound_trainer",
    "speech-trainer": "speech_context_trainer",
    "visual-trainer": "visual_environment_trainer",
}
COMMANDS = {
    "gesture-trainer": "gesture-train",
    "sound-trainer": "sound-train",
    "speech-trainer": "speech-train",
    "visual-trainer": "visual-train",
}
MODALITIES = {
    "gesture-trainer": "gesture",
    "sound-trainer": "sound",
    "speech-trainer": "speech",
    "visual-trainer": "visual_environment",
}
IMAGES = (*PACKAGES, "model-trainer")
CALLER = f"{os.getuid()}:{os.getgid()}"


@dataclass(frozen=True)
class Ended:
    """How a container ended."""

    code: int
    stdout: str
    stderr: str
    out_of_memory: bool


@dataclass(frozen=True)
class Engine:
    """Starts containers and removes all of them in the end."""

    client: Any
    started: list[Any] = field(default_factory=list)

    def start(
        self,
        image: str,
        words: Sequence[str],
        mounts: Mapping[Path, str] | None = None,
        user: str | None = CALLER,
        memory: str = "2g",
        **options: Any,
    ) -> Any:
        """Start a container. `mounts` is folder here -> place in the container, such as /data:ro."""
        volumes = [f"{folder}:{place}" for folder, place in (mounts or {}).items()]
        hardened = {
            "network_mode": "none",
            "read_only": True,
            "tmpfs": {"/tmp": ""},
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
            "pids_limit": 256,
            "mem_limit": memory,
            "memswap_limit": memory,
            "environment": kernel_variables(),
        }
        container = self.client.containers.create(
            image, list(words), volumes=volumes, user=user, **{**hardened, **options}
        )
        self.started.append(container)
        container.start()
        return container

    def ended(self, container: Any) -> Ended:
        """Wait for a container's end and remove it."""
        container.wait(timeout=600)
        container.reload()
        state = container.attrs["State"]
        texts = [container.logs(stdout=out, stderr=not out).decode("utf-8", "replace") for out in (True, False)]
        container.remove(force=True)
        self.started.remove(container)
        return Ended(state["ExitCode"], *texts, out_of_memory=state["OOMKilled"])

    def run(self, image: str, words: Sequence[str], **options: Any) -> Ended:
        """Run a container to its end."""
        return self.ended(self.start(image, words, **options))

    def python(self, image: str, code: str) -> str:
        """Return what Python code prints in an image."""
        ended = self.run(image, ["-c", code], entrypoint=["python"])
        assert ended.code == 0, ended.stderr
        return ended.stdout

    def remove_all(self) -> None:
        """Remove what a failed test left behind."""
        for container in self.started:
            container.remove(force=True)


def tree_hash(root: Path) -> str:
    """Return a hash over the names, modes and contents of a whole folder."""
    total = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        total.update(f"{path.relative_to(root)} {path.stat().st_mode} {content}\n".encode())
    return total.hexdigest()


def model_hash(folder: Path) -> str:
    """Return the hash of the one model in a folder of bundles."""
    (model,) = folder.glob("*_*/model.onnx")
    return hashlib.sha256(model.read_bytes()).hexdigest()
