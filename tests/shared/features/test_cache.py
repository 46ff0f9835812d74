from __future__ import annotations

import logging
import os
import pickle
import sqlite3
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from shared.features import cache as feature_cache
from shared.features.cache import FeatureCache, content_key, default_cache_path


def test_arrays_come_back_as_they_were_put(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "deep" / "f.sqlite")
    arrays = {
        "vector": np.arange(1280, dtype=np.float32),
        "half": np.arange(6, dtype=np.float16).reshape(2, 3),
        "scalar": np.float32(3).reshape(()),
        "empty": np.zeros((0, 96), np.float32),
        "strided": np.arange(12, dtype=np.float32).reshape(3, 4).T,
        "swapped": np.arange(3, dtype=">f4"),
    }
    cache.put_many("lite0/embedding", arrays)
    found = cache.get_many("lite0/embedding", [*arrays, "unknown"])
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].shape == array.shape
        assert found[name].dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found[name], array)


def test_specs_do_not_share_keys_and_a_key_put_again_is_replaced(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "f.sqlite")
    cache.put_many("a", {"k": np.float32([1])})
    cache.put_many("b", {"k": np.float32([2])})
    cache.put_many("a", {"k": np.float32([3])})
    assert cache.get_many("a", ["k"])["k"] == 3
    assert cache.get_many("b", ["k"])["k"] == 2


def test_more_keys_than_one_query_takes(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "f.sqlite")
    rows = {content_key(str(k)): np.full(4, k, np.float32) for k in range(1_700)}
    cache.put_many("s", rows)
    found = cache.get_many("s", rows)
    assert len(found) == 1_700
    assert all((found[key] == rows[key]).all() for key in rows)


def test_other_dtypes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="float64"):
        FeatureCache(tmp_path / "f.sqlite").put_many("s", {"k": np.zeros(2)})


def test_the_oldest_entries_go_when_it_is_full(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "f.sqlite", limit=400_000)
    for k in range(100):
        cache.put_many("s", {f"{k}-{i}": np.zeros(2_500, np.float32) for i in range(2)})  # 20 kB, 2 MB in all
    assert (tmp_path / "f.sqlite").stat().st_size < 1_000_000
    assert cache.get_many("s", ["99-0", "99-1"]).keys() == {"99-0", "99-1"}
    assert not cache.get_many("s", ["0-0", "0-1", "50-0"])


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 5_000])
def test_a_damaged_file_is_reported_once_and_done_without(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "f.sqlite"
    path.write_bytes(content)
    cache = FeatureCache(path)
    with caplog.at_level(logging.WARNING):
        cache.put_many("s", {"k": np.zeros(2, np.float32)})
        assert cache.get_many("s", ["k"]) == {}
        cache.put_many("s", {"k": np.zeros(2, np.float32)})
    assert [str(path) in record.getMessage() for record in caplog.records] == [True]
    assert path.read_bytes() == content


def test_damage_inside_a_good_file_is_done_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "f.sqlite"
    FeatureCache(path).put_many("s", {f"{k}": np.zeros(1_000, np.float32) for k in range(50)})
    whole = sqlite3.connect(path)
    whole.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole.close()
    copy = tmp_path / "copy.sqlite"
    raw = bytearray(path.read_bytes())
    raw[4096:] = b"\xa5" * (len(raw) - 4096)
    copy.write_bytes(raw)
    with caplog.at_level(logging.WARNING):
        assert FeatureCache(copy).get_many("s", ["1"]) == {}
    assert len(caplog.records) == 1


def test_a_place_that_cannot_be_written_is_done_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = FeatureCache(tmp_path / "file" / "f.sqlite")
    cache.put_many("s", {"k": np.zeros(2, np.float32)})
    assert cache.get_many("s", ["k"]) == {}
    assert len(caplog.records) == 1


def test_a_row_that_is_no_array_counts_as_absent(tmp_path: Path) -> None:
    path = tmp_path / "f.sqlite"
    cache = FeatureCache(path)
    cache.put_many("s", {"good": np.zeros(2, np.float32)})
    other = sqlite3.connect(path)
    rows = [
        ("<f4", "3", b"\0" * 8),
        ("<f4", "x", b""),
        ("<f4", "-1,-2", b"\0" * 8),
        ("|O", "1", b"\0" * 8),
        ("<f4", "2", "text"),
    ]
    with other:
        for k, row in enumerate(rows):
            other.execute("INSERT INTO features VALUES ('s', ?, ?, ?, ?)", [f"bad{k}", *row])
    other.close()
    assert cache.get_many("s", ["good", *(f"bad{k}" for k in range(len(rows)))]).keys() == {"good"}


def _work(path: Path, number: int) -> int:
    cache = FeatureCache(path)
    for k in range(20):
        cache.put_many("s", {f"{number}-{k}": np.full(100, number, np.float32)})
    return len(cache.get_many("s", [f"{number}-{k}" for k in range(20)]))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_several_processes_lose_nothing(tmp_path: Path, method: str) -> None:
    path = tmp_path / "f.sqlite"
    if method == "fork":  # a connection open before the fork must not be used after it
        FeatureCache(path).put_many("s", {"before": np.zeros(1, np.float32)})
    with ProcessPoolExecutor(4, get_context(method)) as pool:
        assert list(pool.map(_work, [path] * 6, range(6))) == [20] * 6
    found = FeatureCache(path).get_many("s", [f"{n}-{k}" for n in range(6) for k in range(20)])
    assert len(found) == 120
    assert all((found[f"{n}-3"] == n).all() for n in range(6))


def test_a_file_that_another_process_is_just_making_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = sqlite3.connect(tmp_path / "f.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")  # SQLite refuses the change to write-ahead logging at once while this lasts
    waits: list[float] = []

    def finish(seconds: float) -> None:
        waits.append(seconds)
        other.execute("COMMIT")
        other.close()

    monkeypatch.setattr(feature_cache.time, "sleep", finish)
    cache = FeatureCache(tmp_path / "f.sqlite")
    cache.put_many("s", {"k": np.zeros(1, np.float32)})
    assert cache.get_many("s", ["k"]).keys() == {"k"}
    assert len(waits) == 1


def test_a_cache_may_be_sent_to_another_process(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "f.sqlite")
    cache.get_many("s", ["k"])
    assert pickle.loads(pickle.dumps(cache)) == cache  # noqa: S301 - made a line before


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    (tmp_path / "f.sqlite-wal").touch(0o644)  # as releases before 0.3 left it
    before = os.umask(0)
    try:
        FeatureCache(tmp_path / "new" / "f.sqlite").put_many("s", {"k": np.zeros(2, np.float32)})
        FeatureCache(tmp_path / "f.sqlite").put_many("s", {"k": np.zeros(2, np.float32)})
    finally:
        os.umask(before)
    files = [*tmp_path.glob("f.sqlite*"), tmp_path / "new", *tmp_path.glob("new/*")]
    assert len(files) == 7 and [path for path in files if path.stat().st_mode & 0o077] == []


def test_the_default_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MODEL_TRAINER_CACHE", str(tmp_path))
    assert default_cache_path() == tmp_path / "features.sqlite"
    monkeypatch.delenv("MODEL_TRAINER_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert FeatureCache().path == tmp_path / ".cache" / "model-trainer" / "features.sqlite"


def test_content_keys_tell_content_apart() -> None:
    a = np.arange(6, dtype=np.float32)
    keys = [
        content_key(a),
        content_key(a.reshape(2, 3)),
        content_key(a.view(np.int32)),
        content_key(a.tobytes()),
        content_key("ab", "c"),
        content_key("a", "bc"),
        content_key("abc"),
        content_key(b"abc"),
    ]
    assert len(set(keys)) == len(keys)
    assert content_key(a[::2]) == content_key(a[::2].copy())
