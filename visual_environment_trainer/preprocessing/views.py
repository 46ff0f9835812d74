"""Files -> the square views that an encoder takes; the same for training and for whoever runs the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from shared.errors import DataError, Fault
from shared.schema_utils import Box, Example, Schema
from visual_environment_trainer.preprocessing.images import Pixels, UnreadableImageError, read_image
from visual_environment_trainer.preprocessing.validity import BLACK, UNIFORM, require_content
from visual_environment_trainer.preprocessing.videos import VIDEO_SUFFIXES, read_frames

ViewName = Literal["centre", "start", "end"]
ONE_VIEW: tuple[ViewName, ...] = ("centre",)
SEVERAL_VIEWS: tuple[ViewName, ...] = ("centre", "start", "end")
CHECK_SIDE = 260  # of a view, in pixels: what the larger encoder takes
_SQUASH = 1.2  # the longer side is cut to so much of the shorter before the centre is squashed to a square

Views = NDArray[np.uint8]  # (views, side, side, 3) RGB


class Viewing(Schema):
    """How a file becomes views. Part of a model's description, for whoever runs it."""

    side: int = Field(ge=8, le=1024, description="side of a view, in pixels")
    views: tuple[ViewName, ...] = Field(min_length=1, description="views of each image, or of each frame")
    region: Box | None = Field(default=None, description="the only part of an image that is used")
    frames_per_second: float = Field(gt=0.0, le=30.0, description="frames of a video that are used")


def read_views(path: Path, viewing: Viewing, example: Example | None = None) -> Views:
    """Return (V, side, side, 3) uint8 RGB: views of an image, or of each frame of a video; an example's box goes first.

    Raises UnreadableImageError for a file that cannot be used.
    """
    box = example.box if example is not None and example.box is not None else viewing.region
    if path.suffix.lower() in VIDEO_SUFFIXES:
        onset, offset = (example.onset, example.offset) if example is not None else (None, None)
        frames = read_frames(path, viewing.frames_per_second, onset, offset, box)
    else:
        frames = [read_image(path, viewing.side, box)]
    return frame_views(frames, viewing)


def preparation(viewing: Viewing) -> dict[str, Any]:
    """Return what `read_views` does, for whoever makes views without it."""
    return {
        "colours": "RGB",
        "layout": "view, row, column, colour",
        "range": [0, 255],
        "side": viewing.side,
        "views": list(viewing.views),
        "region": None if viewing.region is None else viewing.region.model_dump(mode="json"),
        "centre_aspect": _SQUASH,
        "steps": [
            "turn the image upright (EXIF orientation); cut out the region (shares of width and height), if any",
            f"cut the views: centre is the middle, its longer side at most {_SQUASH:g} times the shorter; start and "
            "end are the squares at both ends of the longer side; of views that are the same part keep one",
            "resize each to side x side pixels, whatever its shape: mean of the area where its shorter side is longer "
            "than that, else bilinear",
            f"without content it is unknown: where no view's 99th percentile of a colour reaches {BLACK}, or none's is "
            f"{UNIFORM} above its 1st, do not run the model",
        ],
        "frames_per_second": viewing.frames_per_second,
        "black_below": BLACK,
        "uniform_below": UNIFORM,
    }


def frame_views(frames: Sequence[Pixels], viewing: Viewing) -> Views:
    """Return (V, side, side, 3) uint8 RGB: the views of each frame, one after another."""
    return np.stack([view for frame in frames for view in _views(frame, viewing)])


def check_file(path: Path, example: Example) -> tuple[str, ...]:
    """Decode an image or the frames of a video. Raises DataError for a file that cannot be used."""
    viewing = Viewing(side=CHECK_SIDE, views=ONE_VIEW, frames_per_second=1.0)
    try:
        require_content(read_views(path, viewing, example))
    except UnreadableImageError as error:
        raise DataError([Fault(str(path), None, "media", str(error))]) from None
    return ()


def _views(image: Pixels, viewing: Viewing) -> list[Pixels]:
    """Cut parts out of an image and resize them; parts that are the same, as in a square image, are one view."""
    views = []
    for top, left, tall, wide in dict.fromkeys(_part(image.shape[0], image.shape[1], view) for view in viewing.views):
        part = image[top : top + tall, left : left + wide]
        method = cv2.INTER_AREA if min(tall, wide) > viewing.side else cv2.INTER_LINEAR
        views.append(np.asarray(cv2.resize(part, (viewing.side, viewing.side), interpolation=method), np.uint8))
    return views


def _part(height: int, width: int, view: ViewName) -> tuple[int, int, int, int]:
    """Return top, left, height and width: `start` and `end` are the squares at both ends of the longer side."""
    short = min(height, width)
    if view == "centre":
        tall, wide = min(height, int(short * _SQUASH)), min(width, int(short * _SQUASH))
        return (height - tall) // 2, (width - wide) // 2, tall, wide
    return (0, 0, short, short) if view == "start" else (height - short, width - short, short, short)


def blurred(views: Views, sigma: float) -> Views:
    """Return the views as a camera out of focus would show them: Gaussian blur, sigma in pixels of a view."""
    return np.stack([np.asarray(cv2.GaussianBlur(view, (0, 0), sigma), np.uint8) for view in views])
