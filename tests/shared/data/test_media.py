"""Media files of phones, browsers and cameras: read whatever they are called, or refused with their reason."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import soundfile
from PIL import Image

from shared.data.media.containers import UnreadableMediaError, demuxer_of
from shared.data.media.pictures import read_picture
from shared.data.media.recorded import recorded_day
from shared.data.media.video import read_timing, upright, video_frames
from shared.schema_utils import Example
from sound_trainer.preprocessing.decode import (
    Decoding,
    UnreadableSoundError,
    check_file,
    read_wave,
)
from tests.shared.commands.test_import_data import refused, run
from tests.shared.data.session_folders import media_row
from tests.shared.data.test_cases import records
from tests.visual_environment_trainer.pictures import film, flag

Write = Callable[..., None]


def saved(path: Path, kind: str, **options: object) -> Path:
    import pillow_heif

    pillow_heif.register_heif_opener()
    Image.fromarray(flag(120, 200)).save(path, kind, **options)
    return path


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "HEIF"])
@pytest.mark.parametrize("name", ["picture", "wrong.png"])
def test_a_picture_is_read_whatever_it_is_called(tmp_path: Path, kind: str, name: str) -> None:
    pixels = read_picture(saved(tmp_path / name, kind))
    assert pixels.shape == (120, 200, 3)
    assert np.abs(pixels.astype(int) - flag(120, 200)).mean() < 12


@pytest.mark.parametrize("kind", ["JPEG", "HEIF", "WEBP"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_picture_that_is_cut_off_is_refused(tmp_path: Path, kind: str, part: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8)
    buffer = io.BytesIO()
    saved(tmp_path / "any", kind)  # which lets Pillow write HEIF
    Image.fromarray(noise).save(buffer, kind)
    content = buffer.getvalue()
    (tmp_path / "cut").write_bytes(content[: int(len(content) * part)])
    with pytest.raises(UnreadableMediaError, match=r"cut off|not a picture"):
        read_picture(tmp_path / "cut")


def test_a_jpeg_whose_middle_is_lost_is_refused(tmp_path: Path) -> None:
    content = saved(tmp_path / "whole", "JPEG").read_bytes()
    half = len(content) // 2
    (tmp_path / "grey").write_bytes(content[:half] + b"\xff\xd9")
    with pytest.raises(UnreadableMediaError, match="a part of the picture is missing"):
        read_picture(tmp_path / "grey")
    (tmp_path / "more").write_bytes(content + b"\0" * 100_000)  # as a motion photo has its film behind the picture
    read_picture(tmp_path / "more")


def test_a_picture_of_a_few_pixels_is_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "dot.png"), flag(15, 40))
    with pytest.raises(UnreadableMediaError, match="has 40 x 15 pixels; at least 16 each way"):
        read_picture(tmp_path / "dot.png")


def test_pictures_that_look_right_and_are_not(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((20, 20, 3), k * 60, np.uint8)) for k in range(3)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(UnreadableMediaError, match="holds 3 pictures"):
        read_picture(tmp_path / "moving.gif")
    cv2.imwrite(str(tmp_path / "dark.png"), np.full((20, 20), 200, np.uint16))
    with pytest.raises(UnreadableMediaError, match="8-bit values in 16-bit samples"):
        read_picture(tmp_path / "dark.png")
    cv2.imwrite(str(tmp_path / "deep.png"), np.full((20, 20), 200 << 8, np.uint16))
    assert read_picture(tmp_path / "deep.png").mean() == pytest.approx(200, abs=1)


def turned(content: bytes) -> bytes:
    """Return an MP4 whose track header says that it was recorded a quarter turn to the side."""
    place = content.index(b"tkhd") + 4 + 40  # version, flags, times, track, duration, layer, group, volume
    upright = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    assert content[place : place + 36] == upright
    return content[:place] + struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30) + content[place + 36 :]


def test_a_video_that_was_recorded_sideways_is_upright(tmp_path: Path) -> None:
    path = film(tmp_path / "film.mp4", [flag(96, 160)] * 5)
    path.write_bytes(turned(path.read_bytes()))
    (_, decoded), *_ = video_frames(path)
    frame = upright(decoded)
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    _, expected = capture.read()
    capture.release()
    assert frame.shape == (160, 96, 3) == expected.shape
    assert np.abs(frame.astype(int) - expected[..., ::-1]).mean() < 3


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".avi", ".mkv"])
def test_the_times_of_a_video_are_known_without_decoding_it(tmp_path: Path, suffix: str) -> None:
    path = film(tmp_path / f"film{suffix}", [flag(48, 80)] * 30)
    timing = read_timing(path)
    assert len(timing.times) == 30
    assert timing.seconds == pytest.approx(3.0, abs=0.05)
    np.testing.assert_allclose([time for time, _ in video_frames(path)], timing.times, atol=1e-6)
    timing.refuse_if_cut(None)


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
def test_a_video_that_is_cut_is_used_up_to_an_offset_only(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (60, 96, 160, 3), np.uint8)
    path = film(tmp_path / f"film{suffix}", list(noise))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    timing = read_timing(path)
    with pytest.raises(UnreadableMediaError, match=r"is cut off: [123]\.\d of 6\.0 s are there"):
        timing.refuse_if_cut(None)
    timing.refuse_if_cut(1.5)


@pytest.mark.parametrize(
    "content",
    [
        b"ffconcat version 1.0\nfile secret.mp4\n",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp4\n",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\n",
        b"<?xml version='1.0'?><MPD></MPD>",
        b"http://localhost/secret.mp4",
    ],
)
def test_a_text_that_names_other_files_is_never_followed(tmp_path: Path, content: bytes) -> None:
    film(tmp_path / "secret.mp4", [flag(48, 80)] * 3)
    (tmp_path / "film.mp4").write_bytes(content)
    assert demuxer_of(tmp_path / "film.mp4") is None
    with pytest.raises(UnreadableMediaError, match="is not a video"):
        read_timing(tmp_path / "film.mp4")
    with pytest.raises(UnreadableSoundError, match="unsupported audio format"):
        read_wave(tmp_path / "film.mp4", Decoding())


def hum(seconds: float, rate: int = 44_100) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * 220 * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def encode(path: Path, codec: str, rate: int = 44_100, seconds: float = 2.0) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        for start in range(0, round(seconds * rate), 1024):
            block = hum(seconds, rate)[start : start + 1024].reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
            frame.rate, frame.pts = rate, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("name", "codec"), [("a.m4a", "aac"), ("a.mp4", "aac"), ("a.mka", "aac"), ("a.aac", "aac")])
def test_sounds_that_libsndfile_does_not_read(tmp_path: Path, name: str, codec: str) -> None:
    path = encode(tmp_path / name, codec)
    wave, quality = read_wave(path, Decoding())
    assert len(wave) / 16_000 == pytest.approx(2.0, abs=0.1)
    assert quality.background_db == pytest.approx(-9, abs=1)
    part, _ = read_wave(path, Decoding(), onset=0.5, offset=1.5)
    assert len(part) / 16_000 == pytest.approx(1.0, abs=0.01)
    path.rename(tmp_path / "renamed.wav")
    assert len(read_wave(tmp_path / "renamed.wav", Decoding())[0]) == len(wave)


def test_a_sound_that_was_not_written_to_its_end_is_refused(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.m4a", "aac")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])  # its table of contents stands at its end
    with pytest.raises(UnreadableSoundError, match="unsupported audio format"):
        read_wave(path, Decoding())


def test_a_constant_is_silence_and_a_hum_on_a_constant_is_not(tmp_path: Path) -> None:
    for name, wave, silent in (("dc.wav", np.full(22_050, 0.7), True), ("hum.wav", 0.3 + hum(0.5), False)):
        soundfile.write(tmp_path / name, wave, 22_050)
        if silent:
            with pytest.raises(UnreadableSoundError, match="is silent"):
                read_wave(tmp_path / name, Decoding())
        else:
            read_wave(tmp_path / name, Decoding())


def test_channels_that_cancel_are_not_mixed_and_others_are(tmp_path: Path) -> None:
    wave = hum(0.5)
    example = Example.model_validate(media_row(tmp_path, "r1", "yes", b"any"))
    for name, other, notes in (("opposite.wav", -wave, 1), ("same.wav", wave, 0), ("quiet.wav", 0.1 * wave, 0)):
        soundfile.write(tmp_path / name, np.stack([wave, other], axis=1), 44_100)
        assert read_wave(tmp_path / name, Decoding())[1].peak_db > -12
        assert len(check_file(tmp_path / name, example)) == notes


def test_the_day_of_a_recording_is_its_own_and_not_the_files(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[306] = "2024:05:01 23:59:59"
    saved(tmp_path / "taken.jpg", "JPEG", exif=exif)
    saved(tmp_path / "plain.jpg", "JPEG")
    with av.open(str(tmp_path / "film.mp4"), "w") as container:
        container.metadata["creation_time"] = "2024-05-02T12:00:00Z"
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 80, 48, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(flag(48, 80), format="rgb24")))
        container.mux(stream.encode(None))
    for name in ("IMG-20240503-WA0001.jpg", "WhatsApp Audio 2024-05-04 at 10.00.00.ogg", "20241399.jpg"):
        (tmp_path / name).write_bytes(b"any")
    for path in tmp_path.iterdir():
        os.utime(path, (1_700_000_000, 1_700_000_000))
    days = {path.name: recorded_day(path) for path in tmp_path.iterdir()}
    file_day = f"{datetime.fromtimestamp(1_700_000_000):%Y-%m-%d}"
    assert days == {
        "taken.jpg": "2024-05-01",
        "film.mp4": "2024-05-02",
        "IMG-20240503-WA0001.jpg": "2024-05-03",
        "WhatsApp Audio 2024-05-04 at 10.00.00.ogg": "2024-05-04",
        "plain.jpg": file_day,
        "20241399.jpg": file_day,
    }


def test_a_recording_that_was_cut_short_is_used_as_far_as_it_is_whole_if_somebody_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "recordings" / "yes"
    folder.mkdir(parents=True)
    times = np.arange(32_000) / 16_000
    soundfile.write(folder / "a.wav", 0.3 * np.sin(2 * np.pi * 300 * times * (1 + times)), 16_000)
    whole = (folder / "a.wav").read_bytes()
    (folder / "a.wav").write_bytes(whole[:40_000])  # 1.25 of 2 s
    (folder / "b.wav").write_bytes(b"no sound at all")
    words = ("--user", "anna", "--decode", "--leave-out", "unusable")
    reason = refused(tmp_path / "recordings", tmp_path / "data", "sound", "--user", "anna", "--decode")
    assert "a.wav: (file): is cut short" in reason and "--use-partial takes what is whole of it" in reason
    result = run(tmp_path / "recordings", tmp_path / "data", "sound", *words, "--use-partial")
    assert "a.wav: (file): was cut short: used up to 1." in result.output
    assert "b.wav: (file): is damaged" in result.output and "imports the others" not in result.output
    (example,) = records(tmp_path / "data")
    assert example.offset is not None and 1.1 < example.offset < 1.25
    again = run(tmp_path / "recordings", tmp_path / "data", "sound", *words, "--use-partial")
    assert "0 new, 0 replaced, 1 unchanged" in again.output
    assert "needs --decode" in refused(folder, tmp_path / "data", "sound", "--user", "anna", "--use-partial")
