"""One clip -> its landmarks, by MediaPipe's Tasks API. Runs in a process of its own: see `sandbox`.

Encodings: `mediapipe_tasks_video_xy_v1`, 107 points x (x, y): pose 33, left hand 21, right hand 21, face 32; and
`mediapipe_tasks_hands_xyz_v1`, 4 x 21 points x (x, y, z): left and right hand in the image, then in metres in their
own frames. Image coordinates go from 0 to 1, a missing point is at the origin.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gesture_trainer.preprocessing.clips import IMAGE_SUFFIXES, frames
from gesture_trainer.preprocessing.sandbox import UnusableItemError
from shared.data.files import RefusedFileError, private_copy
from shared.errors import ConfigError

ExtractedEncoding = Literal["mediapipe_tasks_video_xy_v1", "mediapipe_tasks_hands_xyz_v1"]
BODY: ExtractedEncoding = "mediapipe_tasks_video_xy_v1"
HANDS: ExtractedEncoding = "mediapipe_tasks_hands_xyz_v1"
EXTRACTED_WIDTHS: Mapping[ExtractedEncoding, int] = {BODY: 214, HANDS: 252}
RATE = 15.0  # frames a second
_POSE, _HAND = 33, 21
_WRISTS = (15, 16)  # of the pose: left, right
FACE_POINTS = (  # of the 478, in the encoding's order: irises, eyes, brows, nose, lips, chin
    *range(468, 476),
    *(33, 133, 159, 145, 263, 362, 386, 374),
    *(70, 63, 105, 336, 296, 334),
    *(1, 6, 197),
    *(61, 291, 13, 14, 78, 308),
    199,
)

Row = NDArray[np.float32]


def extract_clip(request: Mapping[str, Any]) -> NDArray[np.float32]:
    """Return (T, 214 or 252) float32 landmarks of the clip or image `request["path"]`, 15 frames a second.

    Raises UnusableItemError for a file that cannot be used, or is not the one with the sha256 `request["sha256"]`, and
    ConfigError where MediaPipe cannot be loaded.
    """
    try:
        with private_copy(Path(request["path"]), request["sha256"]) as path:
            return _extract(path, request)
    except RefusedFileError as error:
        raise UnusableItemError(str(error)) from None


def _extract(path: Path, request: Mapping[str, Any]) -> NDArray[np.float32]:
    encoding = request["encoding"]
    pictures = frames(path, RATE, request["longest"], request["onset"], request["offset"])
    first = next(pictures)  # a file that is not a clip is refused before the networks are opened
    networks = _open_landmarkers(request["tasks"], encoding, still=path.suffix.lower() in IMAGE_SUFFIXES)
    rows: list[Row] = []
    before = None
    for number, picture in enumerate(chain([first], pictures)):
        if picture is before:
            rows.append(rows[-1])
            continue
        results = {name: _detect(network, picture, number, path) for name, network in networks.items()}
        rows.append(_body_row(results) if encoding == BODY else _hands_row(results["hand"]))
        before = picture
    for network in networks.values():  # not where one raised: it may hang then, and the process is replaced anyway
        with suppress(RuntimeError):
            network.close()
    return np.stack(rows)


def _open_landmarkers(tasks: Mapping[str, str], encoding: str, still: bool) -> dict[str, Any]:
    """Return the landmarkers that an encoding needs, new for each clip, as they track from frame to frame."""
    try:
        from mediapipe.tasks.python import vision
        from mediapipe.tasks.python.core.base_options import BaseOptions
    except (ImportError, OSError) as error:
        raise ConfigError(f"MediaPipe cannot be loaded: {error}; install the packages libegl1 and libgles2") from None
    kinds = {
        "hand": (vision.HandLandmarker, vision.HandLandmarkerOptions, {"num_hands": 2}),
        "pose": (vision.PoseLandmarker, vision.PoseLandmarkerOptions, {}),
        "face": (vision.FaceLandmarker, vision.FaceLandmarkerOptions, {}),
    }
    mode = vision.RunningMode.IMAGE if still else vision.RunningMode.VIDEO
    networks = {}
    for name, (kind, options, more) in kinds.items():
        if name not in tasks or (encoding == HANDS and name != "hand"):
            continue
        try:
            base = BaseOptions(model_asset_path=tasks[name])
            networks[name] = kind.create_from_options(options(base_options=base, running_mode=mode, **more))
        except (OSError, AttributeError) as error:  # libraries that are loaded late
            raise ConfigError(
                f"MediaPipe cannot be loaded: {error}; install the packages libegl1 and libgles2"
            ) from None
        except (RuntimeError, ValueError) as error:
            raise ConfigError(f"extraction: MediaPipe refuses the {name} task file: {str(error)[:200]}") from None
    return networks


def _detect(network: Any, picture: NDArray[np.uint8], number: int, path: Path) -> Any:
    import mediapipe

    image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(picture))
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return network.detect(image)
    return network.detect_for_video(image, round(number * 1000 / RATE))


def _body_row(results: Mapping[str, Any]) -> Row:
    """Return (214,) float32; each hand is assigned to the side of the pose's nearest wrist."""
    points = np.zeros((107, 2), np.float32)
    if results["pose"].pose_landmarks:
        points[:_POSE] = _xyz(results["pose"].pose_landmarks[0])[:, :2]
    wrists = points[list(_WRISTS)] if results["pose"].pose_landmarks else None
    for hand, side in enumerate(hand_sides(results["hand"], wrists)):
        start = _POSE + _HAND * side
        points[start : start + _HAND] = _xyz(results["hand"].hand_landmarks[hand])[:, :2]
    if "face" in results and results["face"].face_landmarks:
        points[_POSE + 2 * _HAND :] = _xyz(results["face"].face_landmarks[0])[list(FACE_POINTS), :2]
    return points.reshape(-1)


def _hands_row(results: Any) -> Row:
    """Return (252,) float32: image coordinates of left and right hand, then their world coordinates."""
    points = np.zeros((2, 2, _HAND, 3), np.float32)
    for hand, side in enumerate(hand_sides(results, None)):
        points[0, side] = _xyz(results.hand_landmarks[hand])
        points[1, side] = _xyz(results.hand_world_landmarks[hand])
    return points.reshape(-1)


def hand_sides(results: Any, wrists: NDArray[np.float32] | None) -> list[int]:
    """Return 0 (left) or 1 (right) for each detected hand, no side twice.

    Where both wrists of the pose (2, 2) are known the nearest decides: handedness assumes a mirrored image.
    """
    hands = results.hand_landmarks[:2]
    if wrists is not None:
        starts = np.array([_xyz(hand)[0, :2] for hand in hands]).reshape(-1, 2)
        distances = np.linalg.norm(starts[:, None] - wrists[None], axis=2)
        if len(hands) == 2:
            return [0, 1] if distances[0, 0] + distances[1, 1] <= distances[0, 1] + distances[1, 0] else [1, 0]
        return [int(row.argmin()) for row in distances]
    sides = [0 if categories[0].category_name == "Left" else 1 for categories in results.handedness[:2]]
    if len(sides) == 2 and sides[0] == sides[1]:
        more_certain = int(results.handedness[1][0].score > results.handedness[0][0].score)
        sides[1 - more_certain] = 1 - sides[more_certain]
    return sides


def _xyz(landmarks: Any) -> NDArray[np.float32]:
    return np.array([(point.x, point.y, point.z) for point in landmarks], np.float32)
