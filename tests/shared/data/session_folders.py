"""Makes session folders of our own layout for tests, line by line, so that a test can break any of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from shared.data.feature_files import features_bytes

ENCODING = "mediapipe_tasks_video_xy_v1"


def session_folder(root: Path, user: str = "anna", session: str = "s1") -> Path:
    """Return a session's folder, made with a session.json."""
    folder = root / "users" / user / "sessions" / session
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "session.json").write_text(json.dumps({"start_time": "2026-03-01T10:00:00Z", "device": "tablet"}))
    return folder


def row(folder: Path, record: str, label: str, **changes: Any) -> dict[str, Any]:
    """Return an example of speech in `folder`; a change to None takes the field away."""
    value: dict[str, Any] = {
        "record_id": record,
        "user_id": folder.parent.parent.name,
        "session_id": folder.name,
        "timestamp": "2026-03-01T10:00:00.000Z",
        "modality": "speech",
        "label": label,
        "label_status": "confirmed",
        "performer_id": "carer01",
        "consent_given": True,
        "is_demo": False,
        "transcript": f"I want {label}",
    } | changes
    return {key: item for key, item in value.items() if item is not None}


def features_row(folder: Path, record: str, label: str, array: Any, **changes: Any) -> dict[str, Any]:
    """Write a feature file and return a gesture example that refers to it."""
    content = features_bytes(np.asarray(array, np.float32))
    (folder / "features").mkdir(exist_ok=True)
    (folder / "features" / f"{record}.npz").write_bytes(content)
    reference = {
        "uri": f"features/{record}.npz",
        "hash": f"sha256:{hashlib.sha256(content).hexdigest()}",
        "encoding": ENCODING,
        "shape": list(np.shape(array)),
        "dtype": "float32",
        "format": "npz",
    } | changes.pop("reference", {})
    return row(folder, record, label, modality="gesture", transcript=None, features=reference, **changes)


def media_row(folder: Path, record: str, label: str, content: bytes, **changes: Any) -> dict[str, Any]:
    """Write a media file and return a sound example that refers to it."""
    (folder / "media").mkdir(exist_ok=True)
    (folder / "media" / f"{record}.wav").write_bytes(content)
    reference = {"path": f"media/{record}.wav", "sha256": hashlib.sha256(content).hexdigest()}
    return row(folder, record, label, **{"modality": "sound", "transcript": None, "media": reference} | changes)


def write_rows(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """Write the examples of a session."""
    path = folder / "examples.jsonl"
    path.write_text("".join(json.dumps(value) + "\n" for value in rows), encoding="utf-8")
    return path


def two_sessions(root: Path, user: str = "anna") -> list[Path]:
    """Write two sessions with two samples of two labels each, of speech, and return their folders."""
    folders = []
    for session in ("s1", "s2"):
        folder = session_folder(root, user, session)
        rows = [
            row(folder, f"{user}-{session}-{label}-{k}", label, transcript=f"{label} {session} {k}")
            for label in ("eat", "drink")
            for k in range(2)
        ]
        write_rows(folder, rows)
        folders.append(folder)
    return folders
