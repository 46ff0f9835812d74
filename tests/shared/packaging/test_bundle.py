"""A bundle appears whole or not at all, and says what its model was made of."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from model_registry.storage.entry import BundleEntry, BundleManifest
from shared.errors import ConfigError, DiskFullError, TrainerError
from shared.packaging.bundle import (
    Bundle,
    bundle_files,
    bundle_manifest,
    label_encoder,
    label_map,
    stored_files,
    write_bundle,
)
from tests.shared.finished_runs import finished_run


def _write(out: Path) -> Bundle:
    files = {"model": b"m", "label_map": b"{}", "label_encoder": b"p", "training_log": b"{}"}
    entry = BundleEntry(
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
    manifest = BundleManifest(
        format=1,
        user_id="ana",
        modality="gesture",
        run_id="r1",
        created=entry.timestamp,
        files=stored_files(files),
        entry=entry,
    )
    return write_bundle(out, manifest, files)


def test_it_describes_every_file(tmp_path: Path) -> None:
    bundle = _write(tmp_path)
    assert bundle.folder == tmp_path / "gesture_ana_r1"
    assert sorted(p.name for p in bundle.folder.iterdir()) == sorted(
        ["bundle.json", *(stored.name for stored in bundle.manifest.files.values())]
    )
    assert [p.name for p in tmp_path.iterdir()] == ["gesture_ana_r1"], "nothing staged is left"


def test_a_run_id_is_used_once(tmp_path: Path) -> None:
    _write(tmp_path)
    with pytest.raises(ConfigError, match="--run-id: gesture_ana_r1 exists already"):
        _write(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_nothing_is_left_where_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failures: dict[type[TrainerError], OSError] = {
        DiskFullError: OSError(errno.ENOSPC, "No space left on device"),
        ConfigError: OSError(errno.EROFS, "Read-only file system"),
    }
    for expected, failure in failures.items():

        def refuse(*_: object, failure: OSError = failure) -> None:
            raise failure

        monkeypatch.setattr("os.fsync", refuse)
        with pytest.raises(expected, match=r"no room is left|read-only file system"):
            _write(tmp_path)
        assert list(tmp_path.iterdir()) == []


def test_an_out_that_is_a_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(ConfigError, match=r"out: --out: cannot be written: not a directory"):
        _write(tmp_path / "out")


@pytest.mark.parametrize(("named", "encoding"), [("", "video/mp4"), ("hands_xyz_v1", "hands_xyz_v1")])
def test_its_entry_says_what_the_samples_are_beside_the_features(named: str, encoding: str, tmp_path: Path) -> None:
    run = finished_run(tmp_path, encoding=named)
    entry = bundle_manifest(run, bundle_files(run, {"training_log": b"{}"}), "2026-01-01T00:00:00.000Z").entry
    assert entry.encoding == encoding
    assert entry.feature_spec_id == entry.vector_version == run.model.graph.spec_id
    assert (entry.example_count, entry.session_count, entry.labels) == (24, 3, ("come", "stop"))
    assert entry.metrics == run.report.metrics and entry.data_fingerprint == run.dataset.fingerprint


@pytest.mark.slow
def test_label_encoder_and_label_map_agree() -> None:
    """In a process of its own, as a consumer would: nothing of ours reads a pickle."""
    labels = ["come", "eat", "né", "да"]
    read = (
        "import io, json, sys, joblib\n"
        "encoder = joblib.load(io.BytesIO(sys.stdin.buffer.read()))\n"
        "names = encoder.inverse_transform(range(4)).tolist()\n"
        "kind = type(encoder)\n"
        "print(json.dumps([kind.__module__, kind.__name__, names, encoder.transform(names).tolist()]))"
    )
    done = subprocess.run([sys.executable, "-c", read], input=label_encoder(labels), capture_output=True, check=True)
    module, name, names, places = json.loads(done.stdout)
    assert (module, name) == ("sklearn.preprocessing._label", "LabelEncoder")
    assert dict(zip(names, places, strict=True)) == json.loads(label_map(labels))["index"]


@pytest.mark.slow
def test_the_same_labels_give_the_same_label_encoder_in_every_process() -> None:
    write = (
        "import sys\nfrom shared.packaging.bundle import label_encoder\n"
        "sys.stdout.buffer.write(label_encoder(['come', 'eat']))"
    )
    written = {
        subprocess.run(
            [sys.executable, "-c", write], capture_output=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert written == {label_encoder(["come", "eat"])}
