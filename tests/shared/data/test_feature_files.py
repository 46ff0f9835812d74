"""Feature files are read as hostile: nothing is unpickled, nothing unpacks without end, every fault has a reason."""

from __future__ import annotations

import io
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from shared.data.feature_files import FeatureFileError, features_bytes, parse_features
from shared.data.files import parse_json


def saved(**named: object) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **named)  # type: ignore[arg-type]
    return buffer.getvalue()


def archive(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


@given(arrays.arrays(np.float32, arrays.array_shapes(min_dims=2, max_dims=2), elements=st.floats(-1e6, 1e6, width=32)))
def test_what_is_written_is_read(array: np.ndarray) -> None:
    content = features_bytes(array)
    assert content == features_bytes(array.copy(order="F"))
    np.testing.assert_array_equal(parse_features(content, "npz"), array)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_real_numbers_of_any_size_and_order_become_float32(dtype: str, order: str) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype)
    parsed = parse_features(saved(features=np.array(array, order=order)), "npz")  # type: ignore[call-overload]
    assert parsed.dtype == np.float32
    np.testing.assert_array_equal(parsed, array)


def test_one_vector_is_one_frame_and_points_are_laid_in_a_row() -> None:
    assert parse_features(saved(features=np.ones(5)), "npz").shape == (1, 5)
    assert parse_features(saved(features=np.ones((4, 21, 2))), "npz").shape == (4, 42)


def test_other_arrays_in_the_file_are_not_looked_at() -> None:
    content = saved(features=np.ones((2, 2), np.float32), meta=np.array([{"a": 1}], dtype=object))
    assert parse_features(content, "npz").shape == (2, 2)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a readable npz"),
        (b"PK\x03\x04 not a zip", "not a readable npz"),
        (saved(other=np.ones((2, 2))), "no array named 'features'"),
        (saved(features=np.array([{"a": 1}], dtype=object)), "float32"),
        (saved(features=np.ones((2, 2), np.complex64)), "float32"),
        (saved(features=np.array(["a"])), "float32"),
        (saved(features=np.ones((2, 2), np.int32)), "float32"),
        (saved(features=np.ones((0, 3), np.float32)), "must be frames"),
        (saved(features=np.float32(1)), "must be frames"),
        (saved(features=np.ones((1, 2, 2, 2), np.float32)), "must be frames"),
        (saved(features=np.array([[1, np.nan]], np.float32)), "NaN or infinite values in 1 of 1 frames"),
        (saved(features=np.array([[1.0], [1e300]])), "NaN or infinite values in 1 of 2 frames, first 1"),
        (archive({"features.npy": b"\x93NUMPY\x01\x00" + struct.pack("<H", 5) + b"hello"}), "not a readable array"),
        (archive({"features.npy": b"\x93NUM"}), "not a readable array"),
        (archive({"features.npy": b""}), "not a readable array"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_reason(content: bytes, reason: str) -> None:
    with pytest.raises(FeatureFileError, match=reason):
        parse_features(content, "npz")


def test_a_cut_off_array_is_refused() -> None:
    whole = zipfile.ZipFile(io.BytesIO(features_bytes(np.ones((10, 10), np.float32)))).read("features.npy")
    with pytest.raises(FeatureFileError, match="shorter or longer"):
        parse_features(archive({"features.npy": whole[:-4]}), "npz")


def test_an_archive_that_unpacks_without_end_is_refused_before_it_is_unpacked() -> None:
    with pytest.raises(FeatureFileError, match="200 times"):
        parse_features(archive({"features.npy": bytes(8 * 1024**2)}), "npz")
    bomb = bytearray(archive({"features.npy": bytes(1000)}))
    place = bomb.rfind(b"PK\x01\x02") + 24  # the size that the archive's directory declares
    bomb[place : place + 4] = struct.pack("<I", 2**31)
    with pytest.raises(FeatureFileError, match="64 MiB"):
        parse_features(bytes(bomb), "npz")


@pytest.mark.parametrize(
    ("text", "shape"),
    [("[[1, 2], [3, 4], [5, 6]]", (3, 2)), ("[1, 2, 3]", (1, 3)), ("[[[1, 2], [3, 4]]]", (1, 4))],
)
def test_json_frames(text: str, shape: tuple[int, int]) -> None:
    assert parse_features(text.encode(), "json").shape == shape


@pytest.mark.parametrize(
    "text", ["", "[]", "[[]]", "{}", "5", "[[1, 2], [3]]", '[["a"]]', "[[1, null]]", "[[NaN]]", "[[1e999]]", "[true]"]
)
def test_json_that_holds_no_frames_is_refused(text: str) -> None:
    with pytest.raises(FeatureFileError):
        parse_features(text.encode(), "json")


@given(st.binary(max_size=200), st.integers(0, 400), st.sampled_from(["npz", "json"]))
def test_no_bytes_make_the_parser_fail_otherwise(noise: bytes, at: int, file_format: str) -> None:
    good = features_bytes(np.ones((3, 3), np.float32)) if file_format == "npz" else b"[[1, 2], [3, 4]]"
    content = good[:at] + noise + good[at + len(noise) :]
    try:
        parsed = parse_features(content, file_format)
    except FeatureFileError:
        return
    assert parsed.ndim == 2
    assert np.isfinite(parsed).all()


@pytest.mark.parametrize("shape", ["(-1, -4)", "(True, 4)", "(2, -2)", "(1.0, 4)", "(99999999999999999999, 0)"])
def test_a_shape_that_is_none_is_refused(shape: str) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    raw = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(16)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("features.npy", raw)
    with pytest.raises(FeatureFileError):
        parse_features(buffer.getvalue(), "npz")


def test_a_key_that_appears_twice_in_a_line_is_a_fault() -> None:
    with pytest.raises(ValueError, match="appears twice"):
        parse_json(b'{"label": "yes", "label": "no"}')
    assert parse_json(b'{"label": "yes", "other": {"label": "no"}}')["label"] == "yes"
