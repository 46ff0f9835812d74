"""What is decoded is what was hashed, whoever exchanges a file meanwhile."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from model_registry.storage.durable import file_sha256
from shared.data.files import RefusedFileError, private_copy
from shared.data_loader import DataFilter, load_dataset
from shared.errors import DataError
from shared.features.cache import FeatureCache
from shared.job import Job
from sound_trainer.preprocessing.decode import Decoding
from sound_trainer.preprocessing.recordings import open_recordings
from tests.shared.data.session_folders import media_row, session_folder, write_rows


def test_a_copy_keeps_name_and_content_and_goes_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    path = tmp_path / "hum.wav"
    path.write_bytes(b"one")
    with private_copy(path, file_sha256(path)) as copy:
        path.write_bytes(b"two")
        assert (copy.name, copy.read_bytes()) == ("hum.wav", b"one")
        assert copy.parent.stat().st_mode & 0o077 == 0
    assert not list((tmp_path / "temporary").iterdir())


def test_another_file_or_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hum.wav"
    path.write_bytes(b"one")
    sha256 = file_sha256(path)
    path.write_bytes(b"two")
    for reason in ("was exchanged", "file not found"):
        with pytest.raises(RefusedFileError, match=reason), private_copy(path, sha256):
            pass
        path.unlink(missing_ok=True)


def test_a_sound_exchanged_after_it_was_hashed_is_neither_used_nor_cached(tmp_path: Path) -> None:
    folder = session_folder(tmp_path / "data")
    rows = []
    for number in range(4):
        tone = np.sin(np.arange(8000) * 0.05 * (number + 1)).astype(np.float32)
        soundfile.write(tmp_path / "tone.wav", tone, 16000)
        content = (tmp_path / "tone.wav").read_bytes()
        rows.append(media_row(folder, f"r{number}", "yes" if number % 2 else "no", content))
    write_rows(folder, rows)
    dataset = load_dataset(tmp_path / "data", ["anna"], "sound", DataFilter(), minimum_per_label=1)
    cache = FeatureCache(tmp_path / "features.sqlite")
    job = Job(("anna",), tmp_path / "data", tmp_path / "out", "r1", cache=cache)
    path = dataset.samples[0].path
    assert path is not None
    original = path.read_bytes()
    path.write_bytes(dataset.samples[1].path.read_bytes())  # type: ignore[union-attr]
    with pytest.raises(DataError, match="was exchanged during the run"):
        open_recordings(job, dataset, Decoding())
    path.write_bytes(original)
    without = Job(("anna",), tmp_path / "data", tmp_path / "out", "r2")
    recordings = open_recordings(job, dataset, Decoding())
    assert recordings.report() == open_recordings(without, dataset, Decoding()).report()
