"""The usual names of columns, JSON keys and folders, in the order in which they are preferred."""

from __future__ import annotations

import re
from collections.abc import Iterable

LABELS = (
    *("label", "labels", "class", "class_name", "class_label", "intent", "category", "gesture", "gesture_label"),
    *("gesture_name", "sign", "choice", "target", "tag", "topic", "annotation", "gloss", "species", "event_label"),
)
TEXTS = ("text", "transcript", "utterance", "sentence", "transcription", "query", "phrase", "message")
VECTORS = (
    *("features", "vector", "sequence", "landmarks", "keypoints", "points", "hand_landmarks", "pose_landmarks"),
    *("multi_hand_landmarks", "frames", "data", "x", "embedding"),
)
SESSIONS = ("session", "session_id", "sitting", "client_id", "fold")
USERS = ("user", "user_id")
TAKES = ("take",)
PATHS = (
    *("path", "file", "filename", "file_name", "file_path", "filepath", "slice_file_name", "audio", "audio_path"),
    *("audio_file", "wav", "image", "image_path", "video", "video_path"),
)
RECORDED = ("timestamp", "recorded", "recorded_at", "date", "datetime", "created_at")
ONSETS = ("onset", "start", "start_time", "begin", "begin_time", "begin_time_(s)", "start_s", "start_sec",
          "start_seconds", "onset_s", "tmin", "start_ms", "start_time_ms", "onset_ms", "begin_ms")  # fmt: skip
OFFSETS = ("offset", "end", "end_time", "stop", "end_time_(s)", "end_s", "end_sec", "end_seconds", "offset_s", "tmax",
           "end_ms", "end_time_ms", "offset_ms", "stop_ms")  # fmt: skip
DURATIONS = ("duration", "length", "duration_s", "duration_sec", "duration_(s)", "duration_ms")
SEQUENCES = ("sequence_id", "sequence", "seq_id", "seq", "clip_id", "sample_id", "video_id", "gesture_id", "take_id")
FRAMES = (
    *("frame", "frame_id", "frame_index", "frame_idx", "frame_number", "frame_num", "frame_no", "time", "timestamp"),
    *("time_ms", "timestep", "time_step", "t"),
)
INDICES = ("", "unnamed:_0", "index", "id", "idx", "row", "row_id", "row_number", "no", "nr", "#")
SPLITS = frozenset(["train", "training", "valid", "validation", "val", "dev", "test", "testing", "eval"])
_KIND = re.compile(
    r"(?:audio|wav|mp3|clip|sound|recording|image|img|photo|picture|frame|video|file|sample|text|transcript|feature"
    r"|landmark|keypoint)s?|media|data(?:set)?|csv|npy",
    re.IGNORECASE,
)
_SESSION = re.compile(
    r"(?:s|sess|session|sitting|day|date|week|fold|rec|recording|run|batch|round|block|visit|trial"
    r"|p|person|participant|subject|sub|speaker|spk)[-_ ]?\d+"
    r"|(?:mon|tue|wed|thu|fri|sat|sun)(?:[a-z]*day)?(?:[-_ ].*)?|\d{4}[-_.]?\d{2}[-_.]?\d{2}.*|[0-9a-f]{8}",
    re.IGNORECASE,
)


def normal(name: object) -> str:
    """Return a column's or key's name in small letters, with `_` for blanks and hyphens."""
    return re.sub(r"[\s-]+", "_", str(name).strip().lower())


def first_of(usual: Iterable[str], present: Iterable[str]) -> str | None:
    """Return the name in `present` that stands first in `usual`, as it is written there; None where there is none."""
    written: dict[str, str] = {}
    for name in present:
        written.setdefault(normal(name), name)
    return next((written[name] for name in usual if name in written), None)


def looks_like_session(name: str) -> bool:
    """Return whether a folder's name is one of a session or person rather than of a label: `s1`, `fold3`, `mon`."""
    return _SESSION.fullmatch(name) is not None


def looks_like_kind(name: str) -> bool:
    """Return whether a folder is called after the kind of its files, such as `wav` or `images`."""
    return _KIND.fullmatch(name) is not None
