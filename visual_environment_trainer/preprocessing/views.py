"""Files -> the square views that an encoder takes; the same for training and for whoever runs the model."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from shared.schema_utils import Box, Example, Schema
from visual_environment_trainer.preprocessing.images import Pixels, read_image
from visual_environment_trainer.preprocessing.videos import VIDEO_ENDINGS, read_frames

ViewName = Literal["centre", "start", "end"]
ONE_VIEW: tuple[ViewName, ...] = ("centre",)
TWO_VIEWS: tuple[ViewName, ...] = ("start", "end")
_SQUASH = 1.2  # the longer side is cut to so much of the shorter before the centre is squashed to a square

Views = NDArray[np.uint8]  # (views, side, side, 3) RGB


class Viewing(Schema):
    """How a file becomes views. Stands in a model's description, for whoever runs it."""

    side: int = Field(ge=8, le=1024, description="of a view, in pixels")
    views: tuple[ViewName, ...] = Field(min_length=1, description="of each image, or of each frame")
    region: Box | None = Field(default=None, description="all that is seen of an image")
    frames_per_second: float = Field(gt=0.0, le=30.0, description="that are looked at in a video")


def read_views(path: Path, viewing: Viewing, example: Example | None = None) -> Views:
    """Return (frames x views, side, side, 3) uint8 RGB, an image being one frame; the example's own box goes first.

    Raises UnreadableImageError for a file that cannot be used.
    """
    box = example.box if example is not None and example.box is not None else viewing.region
    if path.suffix.lower() in VIDEO_ENDINGS:
        onset, offset = (example.onset, example.offset) if example is not None else (None, None)
        frames = read_frames(path, viewing.frames_per_second, onset, offset, box)
    else:
        frames = [read_image(path, viewing.side, box)]
    return np.stack([_view(frame, view, viewing.side) for frame in frames for view in viewing.views])


def _view(image: Pixels, view: ViewName, side: int) -> Pixels:
    """Cut a part out of an image and resize it: `start` and `end` are the squares at both ends of the longer side."""
    height, width = image.shape[:2]
    short = min(height, width)
    if view == "centre":
        tall, wide = min(height, int(short * _SQUASH)), min(width, int(short * _SQUASH))
        top, left = (height - tall) // 2, (width - wide) // 2
    else:
        tall = wide = short
        top, left = (0, 0) if view == "start" else (height - short, width - short)
    part = image[top : top + tall, left : left + wide]
    shrinking = min(part.shape[:2]) > side
    resized = cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR)
    return np.asarray(resized, np.uint8)


def blurred(views: Views, sigma: float) -> Views:
    """Return the views as a camera out of focus would show them: Gaussian blur, sigma in pixels of a view."""
    return np.stack([np.asarray(cv2.GaussianBlur(view, (0, 0), sigma), np.uint8) for view in views])
