"""Makes A3CP's folder for tests: session logs, feature files, final labels and transcripts, as the platform writes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from shared.data.feature_files import features_bytes

ENCODING = "mediapipe_tasks_video_xy_v1"


def event(record: str, session: str, second: int = 0, user: str = "anna", **fields: Any) -> dict[str, Any]:
    """Return an event; a field that is None is left away."""
    value = {
        "schema_version": "1.0.0",
        "record_id": record,
        "user_id": user,
        "session_id": session,
        "timestamp": f"2026-03-01T10:{second // 60:02d}:{second % 60:02d}.000Z",
    } | fields
    return {key: item for key, item in value.items() if item is not None}


def session_start(session: str, **fields: Any) -> dict[str, Any]:
    """Return the event with which a session begins, with consent and as training data."""
    given = {"start_time": "2026-03-01T10:00:00.000Z", "is_training_data": True, "consent_given": True} | fields
    return event(f"{session}-start", session, source="session_manager", performer_id="carer01", **given)


def capture_open(capture: str, session: str, second: int = 0, **fields: Any) -> dict[str, Any]:
    """Return the event with which a capture begins."""
    given = {"event": "capture.open", "capture_id": capture, "modality": "gesture"} | fields
    return event(f"{capture}-open", session, second, **given)


def features_ready(
    root: Path, capture: str, session: str, second: int = 0, array: Any = None, **fields: Any
) -> dict[str, Any]:
    """Write a feature file under `root/data` and return the event that announces it."""
    content = features_bytes(np.full((3, 214), 0.5, np.float32) if array is None else np.asarray(array, np.float32))
    shape = [3, 214] if array is None else list(np.shape(array))
    user = fields.get("user", "anna")
    uri = f"data/users/{user}/sessions/{session}/features/{capture}.npz"
    path = root / uri
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    reference = {
        "uri": uri,
        "hash": f"sha256:{hashlib.sha256(content).hexdigest()}",
        "encoding": ENCODING,
        "shape": shape,
        "dtype": "float32",
        "format": "npz",
    }
    given = {
        "event": "raw_features.ready",
        "source": "landmark_extractor",
        "modality": "gesture",
        "capture_id": capture,
        "raw_features_ref": reference,
    } | fields
    return event(f"{capture}-ready", session, second, **given)


def write_log(root: Path, session: str, events: list[dict[str, Any]], user: str = "anna", top: str = "logs") -> Path:
    """Write a session log."""
    path = root / top / "users" / user / "sessions" / f"{session}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"recorded_at": "2026-03-01T10:00:00.000Z", "event": value} for value in events]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_final_labels(root: Path, rows: list[dict[str, Any]], user: str = "anna") -> Path:
    """Write the labels that a partner accepted or corrected."""
    path = root / "data" / "users" / user / "training" / "training_examples.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_transcripts(root: Path, session: str, rows: list[dict[str, Any]]) -> Path:
    """Write a session's transcripts."""
    path = root / "transcripts" / f"session_{session}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def recorded_session(
    root: Path, session: str, labels: dict[str, str], user: str = "anna", **fields: Any
) -> list[dict[str, Any]]:
    """Return the events of a session in which each capture was opened with its intent."""
    events = [session_start(session, user=user, **fields)]
    for second, (capture, label) in enumerate(labels.items()):
        events.append(capture_open(capture, session, second, user=user, annotation={"intent": label}))
        events.append(features_ready(root, capture, session, second, user=user))
    return events
