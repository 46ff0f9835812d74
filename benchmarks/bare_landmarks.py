"""MediaPipe without this project: decode clips with OpenCV, run hand and pose landmarkers on 15 frames a second."""

from __future__ import annotations

import json
import sys

import cv2
import mediapipe
from mediapipe.tasks.python import vision
from mediapipe.tasks.python.core.base_options import BaseOptions

from shared.features.encoders import model_path

_RATE = 15.0  # frames a second


def main() -> None:
    """Print how many frames of the clips in the arguments were looked at."""
    print(json.dumps({"frames": sum(map(_frames, sys.argv[1:]))}))


def _frames(path: str) -> int:
    hand = vision.HandLandmarker.create_from_options(
        vision.HandLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(model_path("hand_landmarker"))),
            running_mode=vision.RunningMode.VIDEO,
            num_hands=2,
        )
    )
    pose = vision.PoseLandmarker.create_from_options(
        vision.PoseLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(model_path("pose_landmarker"))),
            running_mode=vision.RunningMode.VIDEO,
        )
    )
    film, number, looked_at = cv2.VideoCapture(path), 0, 0
    rate = film.get(cv2.CAP_PROP_FPS)
    with hand, pose:
        while film.grab():
            if number / rate >= looked_at / _RATE - 1e-3:
                picture = cv2.cvtColor(film.retrieve()[1], cv2.COLOR_BGR2RGB)
                image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=picture)
                for network in (hand, pose):
                    network.detect_for_video(image, round(looked_at * 1000 / _RATE))
                looked_at += 1
            number += 1
    return looked_at


if __name__ == "__main__":
    main()
