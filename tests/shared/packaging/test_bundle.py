"""A bundle appears whole or not at all."""

import pickle
from pathlib import Path

import pytest
from sklearn.preprocessing import LabelEncoder

from model_registry.storage.entry import BundleEntry
from shared.errors import ConfigError
from shared.packaging.bundle import Bundle, label_encoder, label_map, write_bundle


def _entry() -> BundleEntry:
    return BundleEntry(
        timestamp="2026-01-01T00:00:00.000Z",
        trainer_name="t",
        vector_version="f-1",
        feature_spec_id="f-1",
        config={},
        labels=("a", "b"),
        metrics={},
        example_count=4,
        session_count=2,
        examples_hash="sha256:" + "0" * 64,
        data_fingerprint="d",
        job_fingerprint="j",
    )


def _write(out: Path) -> Bundle:
    files = {"model": b"m", "label_map": b"{}", "label_encoder": b"p", "training_log": b"{}"}
    return write_bundle(out, "ana", "gesture", "r1", files, _entry())


def test_it_describes_every_file(tmp_path: Path) -> None:
    bundle = _write(tmp_path)
    assert bundle.folder == tmp_path / "gesture_ana_r1"
    assert sorted(p.name for p in bundle.folder.iterdir()) == sorted(
        ["bundle.json", *(stored.name for stored in bundle.manifest.files.values())]
    )
    assert [p.name for p in tmp_path.iterdir()] == ["gesture_ana_r1"], "nothing staged is left"


def test_a_run_id_is_used_once(tmp_path: Path) -> None:
    _write(tmp_path)
    with pytest.raises(ConfigError, match="r1: gesture_ana_r1 exists already"):
        _write(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_nothing_is_left_where_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        _write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_out_that_is_a_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(ConfigError, match=r"--out .*out: "):
        _write(tmp_path / "out")


def test_label_encoder_and_label_map_agree() -> None:
    encoder = pickle.loads(label_encoder(["come", "eat"]))  # noqa: S301  what a consumer would do
    assert encoder.inverse_transform([0, 1]).tolist() == ["come", "eat"]
    assert b'"eat": 1' in label_map(["come", "eat"])
    assert label_encoder(["come", "eat"]) == label_encoder(["come", "eat"])


def test_the_label_encoder_is_what_scikit_learn_would_make() -> None:
    made, expected = pickle.loads(label_encoder(["ja", "né"])), LabelEncoder().fit(["ja", "né"])  # noqa: S301
    assert type(made) is LabelEncoder
    assert made.__getstate__().keys() == expected.__getstate__().keys()
    assert made.__getstate__()["_sklearn_version"] == expected.__getstate__()["_sklearn_version"]
    assert (made.classes_ == expected.classes_).all()
    assert made.classes_.dtype == expected.classes_.dtype
