"""Images: decoded upright, refused with a reason, and turned into the same features by NumPy and the graph."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from shared.graph import FeatureGraph, TensorSpec
from shared.schema_utils import Box
from visual_environment_trainer.preprocessing.embeddings import PlaceFeatures
from visual_environment_trainer.preprocessing.images import VIEWS, UnreadableImageError, read_views

SIDE = 32


def _picture(height: int = 60, width: int = 100) -> np.ndarray:
    """Return (height, width, 3) uint8 RGB: red on the left, blue on the right, a green stripe on top."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2] = (220, 20, 20)
    image[:, width // 2 :] = (20, 20, 220)
    image[: height // 6] = (20, 220, 20)
    return image


def _saved(folder: Path, name: str, image: np.ndarray, **options: object) -> Path:
    path = folder / name
    Image.fromarray(image).save(path, **options)
    return path


def test_views_are_the_whole_its_centre_and_its_mirror_image(tmp_path: Path) -> None:
    views = read_views(_saved(tmp_path, "a.png", _picture()), SIDE)
    assert views.shape == (len(VIEWS), SIDE, SIDE, 3)
    assert views.dtype == np.uint8
    left, right = views[0, SIDE // 2, 2], views[0, SIDE // 2, -3]
    assert left[0] > 180 > 60 > left[2], "red green blue, in this order"
    assert right[2] > 180
    np.testing.assert_array_equal(views[2], views[0][:, ::-1])
    red = [(view[..., 0] > 180).mean() for view in views]
    assert red[0] == pytest.approx(red[2])


def test_the_centre_leaves_out_the_sides(tmp_path: Path) -> None:
    image = _picture(60, 180)
    image[:, :60] = 255
    views = read_views(_saved(tmp_path, "a.png", image), SIDE)
    assert (views[0] == 255).all(axis=2).any()
    assert not (views[1] == 255).all(axis=2).any()


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_picture_taken_sideways_is_turned_upright(orientation: int, tmp_path: Path) -> None:
    turns = {1: 0, 3: 2, 6: 1, 8: 3}[orientation]  # quarter turns, counter-clockwise, that the camera stored it by
    stored = np.rot90(_picture(96, 96), turns)
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = read_views(_saved(tmp_path, "a.jpg", np.ascontiguousarray(stored), exif=exif, quality=95), SIDE)[0]
    expected = read_views(_saved(tmp_path, "b.jpg", _picture(96, 96), quality=95), SIDE)[0]
    assert np.abs(upright.astype(int) - expected).mean() < 12


def test_a_box_is_all_that_is_seen(tmp_path: Path) -> None:
    path = _saved(tmp_path, "a.png", _picture())
    views = read_views(path, SIDE, Box(x=0.6, y=0.5, width=0.3, height=0.4))
    assert (views[0][..., 2] > 180).all(), "blue only"


def test_a_large_jpeg_is_decoded_smaller_and_looks_the_same(tmp_path: Path) -> None:
    large = cv2.resize(_picture(), (1600, 960), interpolation=cv2.INTER_NEAREST)
    small = read_views(_saved(tmp_path, "a.jpg", large, quality=95), SIDE)[0]
    exact = read_views(_saved(tmp_path, "a.png", large), SIDE)[0]
    assert np.abs(small.astype(int) - exact).mean() < 6


def _png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def test_what_cannot_be_used_is_refused_with_its_reason(tmp_path: Path) -> None:
    whole = _saved(tmp_path, "whole.jpg", _picture(200, 300)).read_bytes()
    cases = {
        "cut.jpg": (whole[: len(whole) // 2], "cut off"),
        "cut.png": (_saved(tmp_path, "w.png", _picture()).read_bytes()[:-20], "cut off"),
        "text.jpg": (b"hello", "no JPEG or PNG"),
        "empty.png": (b"", "no JPEG or PNG"),
        "lies.png": (whole, "is named .png but holds a JPEG"),
        "huge.png": (_png_that_claims(60_000, 60_000), "megapixels|no JPEG or PNG"),
        "bomb.png": (_png_that_claims(9_000, 6_000), "54 megapixels"),
        "damaged.png": (_png_that_claims(50, 50), "cannot be decoded|cut off"),
    }
    for name, (content, reason) in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(UnreadableImageError, match=reason):
            read_views(path, SIDE)
    with pytest.raises(UnreadableImageError):
        read_views(tmp_path / "nowhere.jpg", SIDE)
    gif = _saved(tmp_path, "a.gif", _picture())
    with pytest.raises(UnreadableImageError, match="use JPEG or PNG"):
        read_views(gif, SIDE)


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("weight", [0.0, 0.7])
@pytest.mark.parametrize("kind", ["random", "zeros", "huge"])
def test_features_are_the_same_in_the_graph(views: int, weight: float, kind: str) -> None:
    rng = np.random.default_rng(0)
    scale = {"random": 1.0, "zeros": 0.0, "huge": 1e6}[kind]
    sample = {"e": rng.random((3, 20)) * scale, "e_mid": rng.random((3, 7)) * scale}
    inputs = {name: value.astype(np.float32) for name, value in sample.items()}
    function = PlaceFeatures("e", views, weight)
    contract = (TensorSpec("e", "float32", (3, 20)), TensorSpec("e_mid", "float32", (3, 7)))
    (row,) = FeatureGraph("place", contract, function).run([inputs])
    expected = np.asarray(function(inputs))
    assert len(row) == 20 + (7 if weight else 0)
    np.testing.assert_allclose(row, expected, atol=1e-5)
    if kind != "zeros":
        assert np.linalg.norm(expected[:20]) == pytest.approx(1, abs=1e-4)
