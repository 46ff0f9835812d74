"""Files of a data root: nothing outside it is opened, nothing but regular files, and no more than is allowed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from shared.data import files
from shared.data.files import (
    LINE_LIMIT,
    DataRoot,
    RefusedFileError,
    json_lines,
    parse_json,
    private_copy,
    read_bounded,
    sha256_of,
)
from shared.errors import Fault


@pytest.fixture
def root(tmp_path: Path) -> DataRoot:
    """A data root with a file in a folder, and beside it a folder whose name begins with the root's."""
    for folder in ("data/a", "data/b", "data/.hidden", "data2"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "file").write_bytes(b"x")
    return DataRoot.at(tmp_path / "data")


def test_a_data_root_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path)
    assert DataRoot.at(tmp_path / "link").real == os.path.realpath(tmp_path)
    for path in (tmp_path / "file", tmp_path / "missing"):
        with pytest.raises(RefusedFileError, match="is not a folder"):
            DataRoot.at(path)


def test_a_regular_file_within_the_root_is_located_also_through_links(root: DataRoot) -> None:
    (root.path / "linked").symlink_to(root.path / "a")
    (root.path / "b" / "link").symlink_to("../a/file")
    real = Path(root.real) / "a" / "file"
    for name in ("a/file", "linked/file", "b/link", "b/../a/file"):
        assert root.locate(root.path / name) == real
        assert root.locate(root.path / name) == real, "and again, from what is remembered"


@pytest.mark.parametrize("name", ["../data2/file", "file link", "folder link/file", "a/../../data2/file"])
def test_what_lies_outside_is_refused(root: DataRoot, name: str) -> None:
    (root.path / "file link").symlink_to(root.path.parent / "data2" / "file")
    (root.path / "folder link").symlink_to(root.path.parent / "data2")
    for _ in range(2):
        with pytest.raises(RefusedFileError, match="leads out of the data root"):
            root.locate(root.path / name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a/missing", "file not found"), ("missing/file", "file not found"), ("dangling", "file not found"),
        ("a/file/below", "not a directory"), ("loop", "symbolic links"), ("a", "is not a regular file"),
        ("fifo", "is not a regular file"), ("link to a folder", "is not a regular file"),
    ],
)  # fmt: skip
def test_what_is_no_regular_file_is_refused_with_its_reason(root: DataRoot, name: str, reason: str) -> None:
    (root.path / "dangling").symlink_to(root.path / "nothing")
    (root.path / "loop").symlink_to(root.path / "loop")
    (root.path / "link to a folder").symlink_to(root.path / "a")
    os.mkfifo(root.path / "fifo")
    with pytest.raises(RefusedFileError, match=reason):
        root.locate(root.path / name)


def test_folders_are_listed_by_name_without_hidden_ones_and_files(root: DataRoot) -> None:
    (root.path / "file").write_bytes(b"x")
    (root.path / "c").symlink_to(root.path / "a")
    assert root.folders(root.path) == [root.path / name for name in "abc"]
    with pytest.raises(RefusedFileError, match="leads out"):
        root.folders(root.path / "..")
    with pytest.raises(RefusedFileError, match="file not found"):
        root.folders(root.path / "missing")
    with pytest.raises(RefusedFileError, match="not a directory"):
        root.folders(root.path / "file")


def test_the_root_of_the_file_system_is_a_data_root_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    assert DataRoot.at(Path("/")).locate(tmp_path / "file") == Path(os.path.realpath(tmp_path / "file"))


def test_no_more_is_read_than_allowed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_bounded(tmp_path / "file", 5) == b"12345"
    with pytest.raises(RefusedFileError, match="is larger than 0 MiB"):
        read_bounded(tmp_path / "file", 4)
    (tmp_path / "large").write_bytes(b"x" * (2 * 1024**2 + 1))
    with pytest.raises(RefusedFileError, match="is larger than 2 MiB"):
        read_bounded(tmp_path / "large", 2 * 1024**2)
    for read in (lambda path: read_bounded(path, 5), sha256_of):
        with pytest.raises(RefusedFileError, match="file not found"):
            read(tmp_path / "missing")
        with pytest.raises(RefusedFileError, match="is a directory"):
            read(tmp_path)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(b"12345").hexdigest()


def test_a_private_copy_is_the_file_that_was_hashed_or_none(tmp_path: Path) -> None:
    place, sha256 = tmp_path / "clip.wav", hashlib.sha256(b"sound").hexdigest()
    place.write_bytes(b"sound")
    with private_copy(place, sha256) as copy:
        place.write_bytes(b"other")
        assert copy.read_bytes() == b"sound" and copy.name == "clip.wav" and copy.parent != tmp_path
    assert not copy.exists()
    for content in (b"other", b"sound and more", b"soun"):
        place.write_bytes(content)
        with pytest.raises(RefusedFileError, match="was exchanged"), private_copy(place, sha256):
            pass
    place.unlink()
    with pytest.raises(RefusedFileError, match="file not found"), private_copy(place, sha256):
        pass
    (tmp_path / "link").symlink_to("link")
    with pytest.raises(RefusedFileError, match="symbolic links"), private_copy(tmp_path / "link", sha256):
        pass


def test_what_takes_the_place_of_a_file_is_not_copied(tmp_path: Path) -> None:
    """A link to the very same bytes is refused, too: what it leads to may be exchanged meanwhile."""
    (tmp_path / "file").write_bytes(b"sound")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "folder").mkdir()
    for name in ("link", "folder"):
        with (
            pytest.raises(RefusedFileError, match="file not found"),
            private_copy(tmp_path / name, hashlib.sha256(b"sound").hexdigest()),
        ):
            pass


def lines(path: Path, content: bytes, *, growing: bool = False) -> tuple[list[object], list[Fault], list[Fault]]:
    """Return the values of a file with this content, its faults and its warnings."""
    path.write_bytes(content)
    faults, warnings = list[Fault](), list[Fault]()
    return list(json_lines(path, "name", faults, warnings if growing else None)), faults, warnings


def test_each_line_is_an_object_or_a_fault_with_its_number(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbf{"a": 1}\n\n  \n{"b": 2}\r\n[3]\n{"c": }\n{"d": 4, "d": 5}\n"\xff"\n{"e": NaN}\n{"f": 6}'
    values, faults, _ = lines(tmp_path / "file", content)
    assert values == [(1, {"a": 1}), (4, {"b": 2}), (10, {"f": 6})]
    assert [(fault.path, fault.line, fault.field) for fault in faults] == [
        ("name", number, "(line)") for number in (5, 6, 7, 8, 9)
    ]
    assert faults[0].reason == "must hold one JSON object"
    assert "see line 1, column 7" in faults[1].reason and "a key appears twice" in faults[2].reason


def test_only_the_first_line_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    values, faults, _ = lines(tmp_path / "file", b'{"a": 1}\n\xef\xbb\xbf{"b": 2}\n')
    assert values == [(1, {"a": 1})] and [fault.line for fault in faults] == [2]


def test_a_last_line_that_is_still_being_written_is_a_warning_where_a_log_may_grow(tmp_path: Path) -> None:
    half = b'{"a": 1}\n{"b": '
    values, faults, warnings = lines(tmp_path / "file", half, growing=True)
    assert values == [(1, {"a": 1})] and faults == [] and [warning.line for warning in warnings] == [2]
    assert [fault.line for fault in lines(tmp_path / "file", half)[1]] == [2]
    _, faults, warnings = lines(tmp_path / "file", half + b"\n", growing=True)
    assert [fault.line for fault in faults] == [2] and warnings == []
    assert lines(tmp_path / "file", b'{"a": 1}', growing=True) == ([(1, {"a": 1})], [], [])


@pytest.mark.parametrize("beyond", [1, LINE_LIMIT, 3 * LINE_LIMIT + 5])
def test_a_long_line_is_a_fault_and_the_next_one_is_read(tmp_path: Path, beyond: int) -> None:
    longest = b'{"a":"' + b"x" * (LINE_LIMIT - 9) + b'"}\n'
    assert len(longest) == LINE_LIMIT == 524_288, "A3CP's own limit"
    assert len(lines(tmp_path / "file", longest)[0]) == 1
    values, faults, _ = lines(tmp_path / "file", b"x" * beyond + longest + b'{"b": 2}\n' + b"y" * (LINE_LIMIT + 1))
    assert values == [(2, {"b": 2})]
    assert [(fault.line, fault.reason) for fault in faults] == [(k, "is longer than 512 KiB") for k in (1, 3)]


def test_a_file_that_cannot_be_opened_is_one_fault(tmp_path: Path) -> None:
    faults: list[Fault] = []
    assert list(json_lines(tmp_path / "missing", "name", faults)) == []
    assert faults == [Fault("name", None, "(file)", "file not found")]


@pytest.mark.parametrize("text", [b"", b"{", b"[1,]", b"\xff", b"Infinity", b'"\\ud800"', b"[" * 5000, b"1 2"])
def test_what_is_no_json_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"see line|cannot be parsed"):
        parse_json(text)


def test_a_key_that_comes_twice_is_refused_at_any_depth() -> None:
    assert parse_json(b'{"a": {"b": 1}, "b": {"a": [1.5, null]}}') == {"a": {"b": 1}, "b": {"a": [1.5, None]}}
    for text in (b'{"a": 1, "a": 1}', b'[{"x": {"a": 1, "b": 2, "a": 3}}]'):
        with pytest.raises(ValueError, match="a key appears twice"):
            parse_json(text)
    assert files.reason_of(OSError("odd")) == "cannot be read"
