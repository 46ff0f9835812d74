"""Small copies of recordings for a page: sounds as MP3, pictures and videos as JPEG.

They are made anew from what was decoded, so nothing else that a file holds (place, camera, further sounds) gets into
them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.data.media_types import media_type
from shared.schema_utils import Box, Example
from shared.trainers import all_trainers

SECONDS = 10.0  # of a sound, or between the first and the last picture of a video
SIDE = 240  # pixels of the longer side of a picture
FRAMES = 4  # pictures of a video
_RATE = 16000  # Hz
_BITS = 32_000  # a second
_LARGEST = 500_000_000  # bytes of a file


def preview(path: Path, example: Example) -> tuple[str, bytes]:
    """Return the media type and the bytes of a small copy of the part of a media file that an example is.

    Raises UnreadableMediaError for a file that cannot be used, and ModuleNotFoundError without the packages that
    decode it.
    """
    onset = example.onset or 0.0
    seconds = SECONDS if example.offset is None else min(example.offset - onset, SECONDS)
    kind = media_type(path).split("/")[0]
    trainer = all_trainers().get(example.modality)
    listens = trainer is not None and "image" not in trainer.accepts  # of a video the sound alone counts
    if kind == "audio" or (kind == "video" and listens):
        return "audio/mpeg", _sound(path, onset, seconds)
    if kind == "video":
        return "image/jpeg", _jpeg(_film_strip(path, onset, seconds))
    return "image/jpeg", _jpeg(_picture(path, example.box))


def _sound(path: Path, start: float, seconds: float) -> bytes:
    import av

    from shared.data.media.audio import read_audio

    channels, rate = read_audio(path, _LARGEST, start, seconds)
    mono = channels.mean(axis=0, keepdims=True)
    mono *= min(1.0 / max(float(np.abs(mono).max(initial=0.0)), 1e-9), 1.0)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(mono, np.float32), format="fltp", layout="mono")
    frame.sample_rate = rate
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp3") as container:
        stream = container.add_stream("mp3", rate=_RATE, layout="mono")
        stream.bit_rate = _BITS
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=_RATE)
        for part in (frame, None):  # None: what the resampler still holds
            for resampled in resampler.resample(part):
                container.mux(stream.encode(resampled))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def _picture(path: Path, box: Box | None) -> Image.Image:
    from shared.data.media.pictures import read_picture

    image = Image.fromarray(read_picture(path, SIDE, 1.0 if box is None else min(box.width, box.height)))
    if box is not None:
        left, top = round(box.x * image.width), round(box.y * image.height)
        width, height = max(round(box.width * image.width), 1), max(round(box.height * image.height), 1)
        image = image.crop((left, top, left + width, top + height))
    return _small(image)


def _film_strip(path: Path, start: float, seconds: float) -> Image.Image:
    """Return FRAMES pictures beside one another, evenly spaced over the part of a video."""
    from shared.data.media.containers import UnreadableMediaError
    from shared.data.media.video import read_timing

    times = [time for time in read_timing(path).times if start <= time <= start + seconds]
    if not times:
        raise UnreadableMediaError("holds no picture in this part")
    wanted = [times[round(k * (len(times) - 1) / (FRAMES - 1))] for k in range(FRAMES)]
    pictures = [_small(Image.fromarray(pixels)) for pixels in _frames_at(path, sorted(set(wanted)))]
    strip = Image.new("RGB", (sum(picture.width for picture in pictures), pictures[0].height))
    left = 0
    for picture in pictures:
        strip.paste(picture, (left, 0))
        left += picture.width
    return strip


def _frames_at(path: Path, times: list[float]) -> Iterator[NDArray[np.uint8]]:
    """Yield (height, width, 3) uint8: the frame at each of the times (s), or the last one where a video ends before."""
    from shared.data.media.containers import UnreadableMediaError
    from shared.data.media.video import upright, video_frames

    waiting, frame = list(times), None
    for time, frame in video_frames(path):
        if waiting and time >= waiting[0] - 1e-3:
            waiting.pop(0)
            yield upright(frame)
        if not waiting:
            return
    if frame is None:
        raise UnreadableMediaError("holds no frame that can be decoded; record or export it again")
    yield upright(frame)


def _small(image: Image.Image) -> Image.Image:
    image.thumbnail((SIDE, SIDE))
    return image


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="jpeg", quality=75)
    return buffer.getvalue()
