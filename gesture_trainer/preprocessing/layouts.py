"""What the D numbers of a frame are: landmarks of a hand or a body, points of a path, or channels of another kind."""

from __future__ import annotations

from typing import Literal

Layout = Literal["hand_xy", "hand_xyz", "hands_xyz", "body_xy", "path_xy", "channels"]

ENCODINGS: dict[str, Layout] = {
    "mediapipe_tasks_video_xy_v1": "body_xy",
    "hand_landmarks_xy_v1": "hand_xy",
    "hand_landmarks_xyz_v1": "hand_xyz",
    "mediapipe_tasks_hands_xyz_v1": "hands_xyz",
    "hands_landmarks_xyz_v1": "hands_xyz",
    "fingertip_history_xy_v1": "path_xy",
}
WIDTHS: dict[Layout, tuple[int, ...]] = {
    "hand_xy": (42,),
    "hand_xyz": (63,),
    "hands_xyz": (126, 252),
    "body_xy": (214,),
    "path_xy": (2, 4, 6, 8),
}
COORDINATES: dict[Layout, int] = {
    "hand_xy": 2,
    "hand_xyz": 3,
    "hands_xyz": 3,
    "body_xy": 2,
    "path_xy": 2,
    "channels": 0,
}
ORDER: dict[Layout, str] = {  # of the numbers of a frame
    "hand_xy": "21 points of one hand, (x, y) each",
    "hand_xyz": "21 points of one hand, (x, y, z) each",
    "hands_xyz": "21 points of the left hand, 21 of the right, (x, y, z) each; of 252 numbers the second half are the "
    "same points in metres, each hand in its own frame",
    "body_xy": "pose 33, left hand 21, right hand 21, face 32 points of MediaPipe, (x, y) each",
    "path_xy": "the points of a path, (x, y) each",
    "channels": "as in the training data",
}
_GUESSED: dict[int, Layout] = {42: "hand_xy", 63: "hand_xyz", 126: "hands_xyz", 214: "body_xy", 2: "path_xy"}


def layout_of(encoding: str, width: int) -> Layout:
    """Return the layout of an encoding whose width fits; an unknown encoding is treated as channels."""
    if is_guess(encoding, width):
        return _GUESSED[width]
    layout = ENCODINGS.get(encoding, "channels")
    return layout if width in WIDTHS.get(layout, ()) else "channels"


def is_guess(encoding: str, width: int) -> bool:
    """Whether the encoding does not say what the numbers are (`vector_42_v1`), but their count suggests a layout."""
    return encoding == f"vector_{width}_v1" and width in _GUESSED
