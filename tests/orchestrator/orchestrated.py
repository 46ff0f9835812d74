"""A data root made in code, and a command line that trains there with trainers that do as they are told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_registry.store import Registry
from tests.paths import ROOT

FAKE = Path(__file__).with_name("fake_trainer.py")


@dataclass(frozen=True)
class Place:
    """A folder with data, a run folder and a registry, and the command line that trains there with fake trainers."""

    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def registry(self) -> Registry:
        return Registry(self.root / "registry")

    def tell(self, behaviours: Mapping[str, str]) -> None:
        """Tell the fake trainers how to behave: "<user> <modality>" or "*" -> behaviour."""
        (self.root / "behaviours.json").write_text(json.dumps(behaviours))

    def examples(self, user: str, session: str = "s1") -> Path:
        return self.data / "users" / user / "sessions" / session / "examples.jsonl"

    def add(self, user: str, modalities: Sequence[str] = ("speech",), session: str = "s1", count: int = 2) -> None:
        path = self.examples(user, session)
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "session.json").write_text(json.dumps({"user_id": user, "session_id": session}))
        with path.open("a") as stream:
            for modality in modalities:
                for number in range(count):
                    stream.write(json.dumps(_example(user, session, modality, number)) + "\n")

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(ROOT)))),
            "MODEL_TRAINER_FAKE": str(self.root / "behaviours.json"),
            "MODEL_TRAINER_FAKE_ONNX": str(self.root / "model.onnx"),
        }

    def command(self, *options: str) -> list[str]:
        return [
            *(sys.executable, "-m", "orchestrator.launch", "--data", str(self.data), "--runs", str(self.runs)),
            *("--registry", str(self.root / "registry"), "--trainer-commands", str(self.root / "commands.json")),
            *options,
        ]

    def launch(self, *options: str, timeout: float = 100) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*options), env=self.environment(), capture_output=True, text=True, timeout=timeout
        )

    def start(self, *options: str, quiet: bool = False) -> subprocess.Popen[str]:
        """Start a batch; `quiet` for one that says more than a pipe holds."""
        to = subprocess.DEVNULL if quiet else subprocess.PIPE
        return subprocess.Popen(self.command(*options), env=self.environment(), stdout=to, stderr=to, text=True)

    def wait_for_trainer(self, batch: subprocess.Popen[str], count: int = 1) -> int:
        """Wait until so many fake trainers are in their second stage, and return the batch's process id."""
        for _ in range(600):
            if sum('"fit"' in path.read_text() for path in self.runs.glob("jobs/*/*/events.jsonl")) >= count:
                return batch.pid
            assert batch.poll() is None, batch.communicate()
            time.sleep(0.05)
        raise AssertionError("no trainer came to its second stage")

    def summary(self) -> dict[str, Any]:
        return json.loads((self.runs / "summary.json").read_text())  # type: ignore[no-any-return]

    def versions(self) -> dict[str, list[str]]:
        """Return "<user> <modality>" -> its published versions."""
        found: dict[str, list[str]] = {}
        for entry in self.registry.entries():
            found.setdefault(f"{entry.user_id} {entry.modality}", []).append(entry.model_version)
        return found


def _example(user: str, session: str, modality: str, number: int) -> dict[str, object]:
    return {
        "record_id": f"{user}-{session}-{modality}-{number}",
        "user_id": user,
        "session_id": session,
        "timestamp": "2026-03-01T12:00:00.000Z",
        "modality": modality,
        "label": "yes",
        "consent_given": True,
        "transcript": "hello",
    }
