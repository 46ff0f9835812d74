"""What the D numbers of a frame are: landmarks of a hand, of a body, points of a path, or channels of another kind."""

from __future__ import annotations

from typing import Literal

Layout = Literal["hand_xy", "hand_xyz", "hands_xyz", "body_xy", "path_xy", "channels"]

ENCODINGS: dict[str, Layout] = {
    "mediapipe_tasks_video_xy_v1": "body_xy",
    "hand_landmarks_xy_v1": "hand_xy",
    "hand_landmarks_xyz_v1": "hand_xyz",
    "mediapipe_tasks_hands_xyz_v1": "hands_xyz",
    "fingertip_history_xy_v1": "path_xy",
}
WIDTHS: dict[Layout, int] = {"hand_xy": 42, "hand_xyz": 63, "hands_xyz": 252, "body_xy": 214}
COORDINATES: dict[Layout, int] = {
    "hand_xy": 2,
    "hand_xyz": 3,
    "hands_xyz": 3,
    "body_xy": 2,
    "path_xy": 2,
    "channels": 0,
}
MOST_PATH_POINTS = 4


def layout_of(encoding: str, width: int) -> Layout:
    """Return the layout of an encoding, which its width must fit; an unknown encoding is channels."""
    layout = ENCODINGS.get(encoding, "channels")
    fits = WIDTHS.get(layout, width) == width and (
        layout != "path_xy" or width in range(2, 2 * MOST_PATH_POINTS + 1, 2)
    )
    return layout if fits else "channels"
