"""Pictures of made-up rooms, as files and as sessions to train on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

Picture = np.ndarray  # (height, width, 3) uint8 RGB
ROOMS = {"hall": (200, 60, 40), "pool": (40, 80, 200), "lawn": (60, 180, 50)}  # label -> its colour
SESSIONS = ("monday", "tuesday", "friday")


def flag(height: int = 60, width: int = 100) -> Picture:
    """Red on the left, blue on the right, a green stripe on top."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2] = (220, 20, 20)
    image[:, width // 2 :] = (20, 20, 220)
    image[: height // 6] = (20, 220, 20)
    return image


def room(label: str, number: int) -> Picture:
    """Return (90, 120, 3): blotches of the label's colour, others in every picture, under an own light."""
    rng = np.random.default_rng([*label.encode(), number])
    blotches = cv2.resize(rng.random((6, 8, 3), np.float32), (120, 90), interpolation=cv2.INTER_CUBIC)
    colour = np.array(ROOMS[label], np.float32) * rng.uniform(0.7, 1.2)
    return np.asarray(np.clip(colour * (0.5 + blotches), 0, 255), np.uint8)


def save(path: Path, image: Picture, quality: int = 92) -> Path:
    """Write JPEG or PNG by the path's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return path


def film(path: Path, frames: list[Picture], per_second: float = 10.0) -> Path:
    """Write a video; its container follows from the path's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    code = cv2.VideoWriter.fourcc(*("MJPG" if path.suffix == ".avi" else "mp4v"))
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, per_second, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return path


def write_sessions(
    root: Path,
    each: int = 4,
    draw: Callable[[str, int], Picture] = room,
    more: Mapping[str, Mapping[str, Any]] | None = None,
) -> Path:
    """Write `each` pictures of every room in three sessions for the user `ana`; `more` are fields by record id."""
    for place, session in enumerate(SESSIONS):
        folder = root / "users" / "ana" / "sessions" / session
        lines = []
        for label in ROOMS:
            for k in range(each):
                number = place * each + k
                path = save(folder / "media" / f"{label}{number}.jpg", draw(label, number))
                lines.append(example(folder, f"{label}-{number:02d}", label, path))
        write_lines(folder, [line | dict((more or {}).get(line["record_id"], {})) for line in lines])
    return root


def example(folder: Path, record_id: str, label: str, path: Path) -> dict[str, Any]:
    """Return the line of `examples.jsonl` for a file in a session's folder."""
    return {
        "record_id": record_id,
        "user_id": "ana",
        "session_id": folder.name,
        "timestamp": f"2026-03-0{SESSIONS.index(folder.name) + 1}T10:00:00.000Z",
        "modality": "visual_environment",
        "label": label,
        "consent_given": True,
        "media": {
            "path": str(path.relative_to(folder)),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        },
    }


def write_lines(folder: Path, lines: list[dict[str, Any]]) -> None:
    """Write a session's description and examples."""
    (folder / "session.json").write_text(json.dumps({"user_id": "ana", "session_id": folder.name}))
    (folder / "examples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
