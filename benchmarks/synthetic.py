"""Data roots of synthetic samples, as many and as wide as a benchmark of cost needs; what they hold means nothing."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import soundfile

from shared.data.session_writer import Addition, write_session
from shared.schema_utils import Example, FeaturesRef, FileRef, SessionMetadata

USER = "someone"
_START = datetime(2026, 1, 5, 9, tzinfo=UTC)
_RATE = 16_000  # of sounds, Hz


@dataclass(frozen=True)
class Shape:
    """How many samples of what a data root holds.

    With a `width` they are feature files of so many numbers a frame, else what the modality records: landmarks of a
    hand, sounds of about a second, texts of about nine words, pictures of 640 x 480 pixels.
    """

    modality: str
    samples: int
    labels: int
    sessions: int = 5
    width: int = 0
    frames: int = 1


def write_synthetic(root: Path, shape: Shape, seed: int = 0) -> Path:
    """Write a data root of one user and return it. The same shape and seed give the same bytes."""
    by_session: dict[int, list[Addition]] = {}
    for number in range(shape.samples):
        label = number % shape.labels
        session = number // shape.labels % shape.sessions  # each label in each session, where there is enough of it
        by_session.setdefault(session, []).append(_addition(shape, number, label, session, seed))
    for session, additions in by_session.items():
        write_session(root, SessionMetadata(user_id=USER, session_id=f"day{session}"), (), additions)
    return root


def _addition(shape: Shape, number: int, label: int, session: int, seed: int) -> Addition:
    rng = np.random.default_rng([seed, number])
    fields, content = _content(shape, label, f"{number:06d}", rng)
    example = Example(
        record_id=f"r{number:06d}",
        user_id=USER,
        session_id=f"day{session}",
        timestamp=_START + timedelta(days=session, seconds=number),
        modality=shape.modality,
        label=f"label{label}",
        consent_given=True,
        **fields,
    )
    return Addition(example, content)


def _content(shape: Shape, label: int, name: str, rng: np.random.Generator) -> tuple[dict[str, Any], bytes | None]:
    own = np.random.default_rng([7, label])  # what samples of a label have in common
    if shape.width or shape.modality == "gesture":
        return _features(shape, name, own, rng)
    if shape.modality == "sound":
        return _sound(name, own, rng)
    if shape.modality == "speech":
        vocabulary = [f"{word}{label}" for word in ("ba", "do", "ki", "lu", "me", "ro", "su", "ta")]
        common = [f"word{place}" for place in range(200)]
        words = [*rng.choice(vocabulary, 3), *rng.choice(common, int(rng.integers(4, 9)))]
        return {"transcript": " ".join(map(str, rng.permutation(words)))}, None
    return _picture(name, own, rng)


def _features(
    shape: Shape, name: str, own: np.random.Generator, rng: np.random.Generator
) -> tuple[dict[str, Any], bytes]:
    width = shape.width or 42
    encoding = f"vector_{width}_v1" if shape.width else "hand_landmarks_xy_v1"
    mean = own.normal(0, 1, width)
    sequence = (mean + rng.normal(0, 1, (shape.frames, width))).astype(np.float32)
    buffer = io.BytesIO()
    np.savez(buffer, features=sequence)
    content = buffer.getvalue()
    digest = hashlib.sha256(content).hexdigest()
    reference = FeaturesRef(
        uri=f"{name}.npz", hash=f"sha256:{digest}", encoding=encoding, shape=sequence.shape, dtype="float32"
    )
    return {"features": reference}, content


def _sound(name: str, own: np.random.Generator, rng: np.random.Generator) -> tuple[dict[str, Any], bytes]:
    """Half a second to a second and a half of three tones and noise."""
    time = np.arange(int(_RATE * rng.uniform(0.5, 1.5))) / _RATE
    tones = sum(np.sin(2 * np.pi * pitch * rng.uniform(0.97, 1.03) * time) for pitch in own.uniform(150, 3000, 3))
    wave = 0.1 * tones + rng.normal(0, 0.02, len(time))
    buffer = io.BytesIO()
    soundfile.write(buffer, wave.astype(np.float32), _RATE, format="WAV", subtype="PCM_16")
    return _media(f"{name}.wav", buffer.getvalue())


def _picture(name: str, own: np.random.Generator, rng: np.random.Generator) -> tuple[dict[str, Any], bytes]:
    """A picture of 640 x 480 pixels: blotches in the colours of the label."""
    coarse = own.integers(0, 256, (6, 8, 3)) + rng.normal(0, 40, (6, 8, 3))
    picture = cv2.resize(np.clip(coarse, 0, 255).astype(np.uint8), (640, 480), interpolation=cv2.INTER_LINEAR)
    _, encoded = cv2.imencode(".jpg", picture)
    return _media(f"{name}.jpg", encoded.tobytes())


def _media(path: str, content: bytes) -> tuple[dict[str, Any], bytes]:
    return {"media": FileRef(path=path, sha256=hashlib.sha256(content).hexdigest())}, content
