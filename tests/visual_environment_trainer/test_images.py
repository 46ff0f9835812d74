"""Images: decoded upright, cut into views, refused with a reason, and turned into the same features by the graph."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from shared.errors import DataError
from shared.features.graph import FeatureGraph, TensorSpec, joined
from shared.schema_utils import Box, Example
from tests.visual_environment_trainer.pictures import Picture, flag
from visual_environment_trainer.preprocessing.embeddings import PlaceFeatures
from visual_environment_trainer.preprocessing.handmade import SIDE as HANDMADE_SIDE
from visual_environment_trainer.preprocessing.handmade import Handmade
from visual_environment_trainer.preprocessing.images import UnreadableImageError, read_image
from visual_environment_trainer.preprocessing.views import (
    ONE_VIEW,
    SEVERAL_VIEWS,
    Viewing,
    blurred,
    check_file,
    read_views,
)

SIDE = 32


def _viewing(views: tuple[Any, ...] = ONE_VIEW, region: Box | None = None) -> Viewing:
    return Viewing(side=SIDE, views=views, region=region, frames_per_second=1.0)


def _saved(folder: Path, name: str, image: Picture, **options: Any) -> Path:
    path = folder / name
    Image.fromarray(image).save(path, **options)
    return path


def _example(**fields: Any) -> Example:
    return Example.model_validate(
        {
            "record_id": "r",
            "user_id": "ana",
            "session_id": "s",
            "timestamp": "2026-03-01T10:00:00Z",
            "modality": "visual_environment",
            "label": "hall",
            "media": {"path": "a.png", "sha256": "0" * 64},
            **fields,
        }
    )


@pytest.mark.parametrize("turned", [False, True])
def test_views_are_the_centre_and_the_squares_at_both_ends(turned: bool, tmp_path: Path) -> None:
    image = np.zeros((60, 180, 3), np.uint8)
    for place, channel in enumerate((0, 1, 2)):  # red, green, blue from start to end
        image[:, place * 60 : place * 60 + 60, channel] = 255
    image = np.ascontiguousarray(image.transpose(1, 0, 2)) if turned else image
    views = read_views(_saved(tmp_path, "a.png", image), _viewing(SEVERAL_VIEWS))
    assert views.shape == (3, SIDE, SIDE, 3)
    assert views.dtype == np.uint8
    strongest = [int(view.mean(axis=(0, 1)).argmax()) for view in views]
    assert strongest == [1, 0, 2]
    assert (views[1] == (255, 0, 0)).all()
    assert (views[2] == (0, 0, 255)).all()
    assert views[0][..., 0].max() > 0, "of the centre a little more than the square"


def test_a_square_image_is_seen_once(tmp_path: Path) -> None:
    views = read_views(_saved(tmp_path, "a.png", flag(50, 50)), _viewing(SEVERAL_VIEWS))
    assert len(views) == 1


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("side", [96, 960])  # the second is decoded at a fraction of its size
def test_a_picture_taken_sideways_is_turned_upright(orientation: int, side: int, tmp_path: Path) -> None:
    turns = {1: 0, 3: 2, 6: 1, 8: 3}[orientation]  # quarter turns, counter-clockwise, that the camera stored it by
    stored = np.rot90(flag(side, side), turns)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = _saved(tmp_path, "a.jpg", np.ascontiguousarray(stored), exif=exif, quality=95)
    upright = read_views(path, _viewing())[0]
    expected = read_views(_saved(tmp_path, "b.jpg", flag(side, side), quality=95), _viewing())[0]
    assert np.abs(upright.astype(int) - expected).mean() < 12
    corner = read_views(path, _viewing(region=Box(x=0.6, y=0.5, width=0.3, height=0.4)))[0]
    assert corner[..., 2].mean() > 180 > 60 > corner[..., 0].mean(), "the region is of the upright image"


def test_the_example_has_its_own_box_and_the_others_the_configured_region(tmp_path: Path) -> None:
    path = _saved(tmp_path, "a.png", flag())
    blue, red = Box(x=0.6, y=0.5, width=0.3, height=0.4), Box(x=0.1, y=0.5, width=0.3, height=0.4)
    for viewing, example, channel in (
        (_viewing(), _example(box=blue.model_dump()), 2),
        (_viewing(region=red), None, 0),
        (_viewing(region=red), _example(), 0),
        (_viewing(region=red), _example(box=blue.model_dump()), 2),
    ):
        view = read_views(path, viewing, example)[0]
        assert (view[..., channel] > 180).all()
        assert (view[..., 2 - channel] < 60).all()


def test_a_large_jpeg_is_decoded_smaller_and_looks_the_same(tmp_path: Path) -> None:
    large = cv2.resize(flag(), (1600, 960), interpolation=cv2.INTER_NEAREST)
    path = _saved(tmp_path, "a.jpg", large, quality=95)
    assert read_image(path, SIDE).shape == (120, 200, 3)
    small = read_views(path, _viewing())[0]
    exact = read_views(_saved(tmp_path, "a.png", large), _viewing())[0]
    assert np.abs(small.astype(int) - exact).mean() < 6


def test_of_a_small_box_enough_pixels_are_decoded(tmp_path: Path) -> None:
    large = cv2.resize(flag(), (1600, 960), interpolation=cv2.INTER_NEAREST)
    path = _saved(tmp_path, "a.jpg", large, quality=95)
    assert min(read_image(path, SIDE, Box(x=0.5, y=0.5, width=0.05, height=0.05)).shape[:2]) >= SIDE


def test_blurred_views_have_lost_their_edges_and_kept_their_light(tmp_path: Path) -> None:
    views = read_views(_saved(tmp_path, "a.png", flag()), _viewing())
    soft = blurred(views, 2.0)
    assert (soft.shape, soft.dtype) == (views.shape, views.dtype)
    assert np.abs(np.diff(soft.astype(int), axis=2)).max() < 0.6 * np.abs(np.diff(views.astype(int), axis=2)).max()
    assert soft.mean() == pytest.approx(views.mean(), abs=2)


def _png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def test_what_cannot_be_used_is_refused_with_its_reason(tmp_path: Path) -> None:
    whole = _saved(tmp_path, "whole.jpg", flag(200, 300)).read_bytes()
    cases = {
        "cut.jpg": (whole[: len(whole) // 2], "cut off"),
        "cut.png": (_saved(tmp_path, "w.png", flag()).read_bytes()[:-20], "cut off"),
        "text.jpg": (b"hello", "is not a picture"),
        "empty.png": (b"", "is not a picture"),
        "huge.png": (_png_that_claims(60_000, 60_000), "megapixels|not a picture"),
        "bomb.png": (_png_that_claims(9_000, 6_000), "54 megapixels"),
        "damaged.png": (_png_that_claims(50, 50), "cannot be decoded|cut off"),
    }
    for name, (content, reason) in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(UnreadableImageError, match=reason):
            read_image(path, SIDE)
    with pytest.raises(UnreadableImageError):
        read_image(tmp_path / "nowhere.jpg", SIDE)


@pytest.mark.parametrize("views", [1, 3, 40])
@pytest.mark.parametrize("kind", ["random", "zeros", "huge"])
def test_features_are_the_same_in_the_graph(views: int, kind: str) -> None:
    rng = np.random.default_rng(0)
    scale = {"random": 1.0, "zeros": 0.0, "huge": 1e6}[kind]
    sample = {"e": rng.random((views, 20)) * scale, "e_mid": (rng.random((views, 7)) - 0.5) * scale}
    inputs = {name: value.astype(np.float32) for name, value in sample.items()}
    functions = [PlaceFeatures("e"), PlaceFeatures("e_mid", 0.7)]
    blocks = [
        FeatureGraph(f.name, (TensorSpec(f.name, "float32", ("views", inputs[f.name].shape[1])),), f) for f in functions
    ]
    (row,) = joined("place", blocks).run([inputs])
    expected = np.concatenate([np.asarray(function(inputs)) for function in functions])
    assert row.shape == (27,)
    np.testing.assert_allclose(row, expected, atol=1e-5)
    if kind != "zeros":
        assert np.linalg.norm(row[:20]) == pytest.approx(1, abs=1e-4)
        assert np.linalg.norm(row[20:]) == pytest.approx(0.7, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["room", "noise", "black", "white"])
def test_handmade_features_are_the_same_in_the_graph(kind: str) -> None:
    shape = (HANDMADE_SIDE, HANDMADE_SIDE, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    picture = {"room": flag(*shape[:2]), "noise": noise, "black": noise * 0, "white": noise * 0 + 255}[kind]
    graph = FeatureGraph("handmade", (TensorSpec("image", "uint8", shape),), Handmade())
    (row,) = graph.run([{"image": picture}])
    assert np.isfinite(row).all()
    np.testing.assert_allclose(row, np.asarray(Handmade()({"image": picture})), atol=1e-5)


def test_handmade_features_tell_colour_and_texture_apart() -> None:
    size = HANDMADE_SIDE
    stripes = np.broadcast_to((np.arange(size) // 4 % 2 * 200)[None, :, None], (size, size, 3)).astype(np.uint8)
    pictures = [flag(size, size), flag(size, size)[..., ::-1], stripes, stripes.transpose(1, 0, 2)]
    rows = np.stack([np.asarray(Handmade()({"image": np.ascontiguousarray(p)})) for p in pictures])
    apart = np.linalg.norm(rows[:, None] - rows[None], axis=2)[~np.eye(4, dtype=bool)]
    assert apart.min() > 0.5


@pytest.mark.parametrize(("colour", "reason"), [((0, 0, 0), "is black"), ((90, 60, 200), "is of one colour")])
def test_a_check_refuses_the_blank_pictures_that_training_refuses(
    tmp_path: Path, colour: tuple[int, int, int], reason: str
) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (100, 80), colour).save(path)
    example = Example.model_validate(
        {
            "record_id": "r1",
            "user_id": "anna",
            "session_id": "s1",
            "timestamp": "2026-03-01T10:00:00Z",
            "modality": "visual_environment",
            "label": "kitchen",
            "media": {"path": path.name, "sha256": "0" * 64},
        }
    )
    with pytest.raises(DataError, match=reason):
        check_file(path, example)
