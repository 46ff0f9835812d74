"""The table of real data sets, and what is read of each kind: labels, sessions, and nothing that is held out."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.data_sets import DataSet, data_root, data_sets, read_samples
from model_registry.names import Modality
from shared.data_loader import DataFilter, load_dataset, load_features
from shared.errors import ConfigError
from shared.trainers import modality_names


def _set(modality: Modality, **more: Any) -> DataSet:
    return DataSet(name="made", modality=modality, repository="owner/name", licence="none", about="made here", **more)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "owner" / "name"
    found.mkdir(parents=True)
    return found


def test_every_modality_has_at_least_five_sets() -> None:
    counts = Counter(one.modality for one in data_sets())
    assert set(counts) == set(modality_names()) and min(counts.values()) >= 5


def test_a_set_that_is_not_there_is_named_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"made: .*owner/name.* is not there; docs/data-sets\.md"):
        read_samples(_set("sound"), tmp_path)


def test_speakers_that_are_held_out_are_never_read(tmp_path: Path, folder: Path) -> None:
    names = [f"A{k:03d}" for k in range(40)]
    for name in names:
        (folder / "cough").mkdir(exist_ok=True)
        (folder / "cough" / f"{name}_1.wav").write_bytes(b"sound")
    one = _set("sound", pattern=r"(?P<label>\w+)/(?P<session>\w{4})_\d\.wav", half="even")
    found = {sample.session for sample in read_samples(one, tmp_path).samples}
    assert found == {n.lower() for n in names if int(hashlib.md5(n.encode()).hexdigest(), 16) % 2 == 0}
    assert 0 < len(found) < len(names)


def test_copies_are_left_out_and_a_limit_takes_labels_and_sessions_evenly(tmp_path: Path, folder: Path) -> None:
    for label, count in (("a", 30), ("b", 30), ("c", 3)):
        (folder / label).mkdir()
        for k in range(count):
            (folder / label / f"s{k % 3}_{k}.wav").write_bytes(f"{label}{k}".encode())
            (folder / label / f"s{k % 3}_copy{k}.wav").write_bytes(f"{label}{k}".encode())
    one = _set("sound", pattern=r"(?P<label>\w)/(?P<session>s\d)_.+", distinct=True, limit=23)
    found = read_samples(one, tmp_path).samples
    assert Counter(sample.label for sample in found) == {"a": 10, "b": 10, "c": 3}
    assert min(Counter((s.label, s.session) for s in found if s.label != "c").values()) >= 3
    assert len({sample.content.read_bytes() for sample in found if isinstance(sample.content, Path)}) == 23


def test_skeletons_of_a_hand_lose_the_palm(tmp_path: Path, folder: Path) -> None:
    joints = np.arange(2 * 66, dtype=np.float32).reshape(2, 66)
    for number in (1, 2):
        np.savetxt(folder / f"gesture_{number}.txt", joints)
        np.savetxt(folder / f"gesture_{number}_again.txt", joints)
    one = _set("gesture", reader="hand_skeletons", pattern=r"gesture_(?P<label>\d)(_again)?\.txt")
    sequence = read_samples(one, tmp_path).samples[0].content
    assert isinstance(sequence, np.ndarray) and sequence.shape == (2, 63)
    assert sequence[0, :6].tolist() == [0, 1, 2, 6, 7, 8]  # the second joint is the palm


def test_padded_series_end_where_their_numbers_end(tmp_path: Path, folder: Path) -> None:
    for day in ("TRAIN", "TEST"):
        (folder / f"W_{day}.tsv").write_text("1\t0.5\t0.25\tNaN\n1\t1\t2\t3\n")
    one = _set("gesture", reader="series_table", pattern=r"W_(?P<session>TRAIN|TEST)\.tsv")
    found = read_samples(one, tmp_path).samples
    assert [np.asarray(sample.content).shape for sample in found] == [(2, 1), (3, 1)] * 2
    assert {sample.session for sample in found} == {"train", "test"} and len({s.name for s in found}) == 4


def test_actions_of_a_body_are_cut_out_of_its_frames(tmp_path: Path, folder: Path) -> None:
    frames = np.concatenate([np.arange(100, 140)[:, None], np.zeros((40, 60))], axis=1)
    np.savetxt(folder / "joints_s01_e01.txt", frames)
    ranges = ["100 103", "NaN NaN", *(f"{100 + 2 * k} {101 + 2 * k}" for k in range(2, 10))]
    (folder / "data.txt").write_text("\n".join(["1 1", *ranges]) + "\n")
    one = _set("gesture", reader="body_skeletons").model_copy(update={"least": 1})
    found = {sample.label: np.asarray(sample.content).shape for sample in read_samples(one, tmp_path).samples}
    assert found.pop("action-1") == (4, 60) and "action-2" not in found
    assert set(found.values()) == {(2, 60)} and len(found) == 8


def test_frames_of_a_take_become_landmarks_in_their_order(tmp_path: Path, folder: Path) -> None:
    for take in (1, 2):
        (folder / "yes" / str(take)).mkdir(parents=True)
        for frame in (0, 2, 10):
            (folder / "yes" / str(take) / f"{frame}.json").write_text(json.dumps([64.0 * frame] * 158))
    one = _set("gesture", reader="frame_files", pattern=r"(?P<label>\w+)/\d/(?P<frame>\d+)\.json")
    sequence = np.asarray(read_samples(one, tmp_path).samples[0].content)
    assert sequence.shape == (3, 214) and sequence[:, 0].tolist() == pytest.approx([0.0, 0.2, 1.0])


def test_sentences_of_one_block_are_one_session(tmp_path: Path, folder: Path) -> None:
    block = "  - sentences: [turn it on, on please]\n    intent: {name: TurnOn}\n"
    (folder / "light.yaml").write_text(f"language: en\ntests:\n{block}{block}")
    (folder / "_fixtures.yaml").write_text("areas: []\n")
    found = read_samples(_set("speech", reader="test_blocks"), tmp_path).samples
    assert [sample.session for sample in found] == ["light-0", "light-0", "light-1", "light-1"]


def test_texts_and_labels_lie_in_two_files_line_by_line(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.data_sets.WORK", tmp_path / "work")
    (folder / "seq.in").write_text("what time is it\nwake me\nand now\nearly\n")
    (folder / "label").write_text("time\nalarm\ntime\nalarm\n")
    one = _set("speech", reader="line_pairs", sessions={"round_robin": 2})
    dataset = load_dataset(data_root(one, tmp_path), ["somebody"], "speech", DataFilter())
    assert sorted((s.label, s.session_id, s.example.transcript) for s in dataset.samples) == [
        ("alarm", "session-01", "wake me"),
        ("alarm", "session-02", "early"),
        ("time", "session-01", "what time is it"),
        ("time", "session-02", "and now"),
    ]


def test_a_new_person_begins_where_a_label_comes_again(tmp_path: Path, folder: Path) -> None:
    for number, label in enumerate("012021"):
        (folder / label).mkdir(exist_ok=True)
        (folder / label / f"IMG_{number}.JPG").write_bytes(b"picture")
    one = _set("visual_environment", reader="numbered_pictures", pattern=r"(?P<label>\d)/IMG_(?P<take>\d+)\.JPG")
    found = {sample.take: sample.session for sample in read_samples(one, tmp_path).samples}
    assert [found[str(k)] for k in range(6)] == ["person-000"] * 3 + ["person-001"] * 3


def test_of_a_hand_two_are_made_and_the_other_rests_in_every_second_session(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    for session in range(4):
        for label in ("a", "b"):
            file = folder / f"gesture_{label}" / f"subject_{session}.txt"
            file.parent.mkdir(exist_ok=True)
            np.savetxt(file, random.normal(scale=0.05, size=(5, 66)))
    pattern = r"gesture_(?P<label>\w)/subject_(?P<session>\d)\.txt"
    one = _set(
        "gesture", reader="hand_skeletons", pattern=pattern, encoding="hands_landmarks_xyz_v1", resting_hand=True
    )
    monkeypatch.setattr("benchmarks.data_sets.WORK", tmp_path / "work")
    dataset = load_dataset(data_root(one, tmp_path), ["somebody"], "gesture", DataFilter())
    assert len(dataset.samples) == 8
    for sample in dataset.samples:
        hands = load_features(sample).reshape(5, 2, 21, 3)
        assert np.ptp(hands[:, 1], axis=0).max() > 0.05, "the right hand is the one that was recorded"
        if int(sample.session_id) % 2:
            assert 0 < np.ptp(hands[:, 0], axis=0).max() < 0.02, "it trembles"
            assert hands[:, 0, :, 1].mean() > hands[:, 1, :, 1].mean() + 0.2, "and is lower, y being down"
        else:
            assert not hands[:, 0].any()
