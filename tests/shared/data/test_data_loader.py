"""Session folders become a dataset, or every fault in them is told at once."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.data_loader import DataFilter, Dataset, batches, known_users, load_dataset, load_features, users_with_data
from shared.errors import DataError
from shared.schema_utils import BACKGROUND
from tests.shared.data.session_folders import features_row, media_row, row, session_folder, two_sessions, write_rows


def load(root: Path, modality: str = "speech", users: tuple[str, ...] = ("anna",), **given: Any) -> Dataset:
    minimum = given.pop("minimum_per_label", 2)
    return load_dataset(root, users, modality, DataFilter(**given), minimum_per_label=minimum)


def refusal(root: Path, modality: str = "speech", users: tuple[str, ...] = ("anna",), **given: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        load(root, modality, users, **given)
    return caught.value


def test_samples_are_sorted_and_carry_labels_and_sessions(tmp_path: Path) -> None:
    two_sessions(tmp_path)
    dataset = load(tmp_path)
    assert len(dataset) == 8
    assert [sample.record_id for sample in dataset.samples] == sorted(s.record_id for s in dataset.samples)
    assert dataset.labels == ("drink", "eat")
    assert dataset.label_index.tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
    assert dataset.session_ids == ("s1",) * 4 + ("s2",) * 4
    assert dataset.sessions["s1"].device == "tablet"
    assert dataset.ledger == ()


def test_a_feature_file_becomes_frames(tmp_path: Path) -> None:
    folder = session_folder(tmp_path)
    arrays = [np.full((frames, 3), frames, np.float32) for frames in (1, 2, 3, 4)]
    write_rows(folder, [features_row(folder, f"r{k}", "ab"[k % 2], array) for k, array in enumerate(arrays)])
    dataset = load(tmp_path, "gesture")
    assert [load_features(sample).shape for sample in dataset.samples] == [(1, 3), (2, 3), (3, 3), (4, 3)]
    assert load_features(dataset.samples[3]).dtype == np.float32
    assert float(load_features(dataset.samples[3])[0, 0]) == 4.0


def test_a_landmark_sequence_in_json_becomes_frames(tmp_path: Path) -> None:
    import hashlib

    folder = session_folder(tmp_path)
    rows = []
    for k in range(4):
        content = json.dumps([[[0.1, 0.2], [0.3, k]], [[0.5, 0.6], [0.7, 0.8]]]).encode()
        (folder / f"r{k}.json").write_bytes(content)
        reference = {
            "uri": f"r{k}.json",
            "hash": f"sha256:{hashlib.sha256(content).hexdigest()}",
            "encoding": "points",
            "shape": [2, 4],
            "format": "json",
        }
        rows.append(row(folder, f"r{k}", "ab"[k % 2], modality="gesture", transcript=None, features=reference))
    write_rows(folder, rows)
    features = load_features(load(tmp_path, "gesture").samples[3])
    np.testing.assert_allclose(features, [[0.1, 0.2, 0.3, 3], [0.5, 0.6, 0.7, 0.8]], rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "chosen", "reason"),
    [
        ({"consent_given": False}, {}, "no consent"),
        ({"consent_given": None}, {}, "no consent"),
        ({"is_demo": True}, {}, "demo data"),
        ({"label_status": "rejected"}, {}, "label is rejected"),
        ({"label_status": "unconfirmed"}, {"label_status": ("confirmed",)}, "label is unconfirmed"),
        ({"performer_id": "carer02"}, {"performers": ("carer01",)}, "performer not chosen"),
        ({"performer_id": None}, {"performers": ("carer01",)}, "performer not chosen"),
        ({"timestamp": "2026-02-28T23:59:59Z"}, {"since": "2026-03-01"}, "recorded before the chosen time"),
        ({"timestamp": "2026-03-02T00:00:00Z"}, {"until": "2026-03-02"}, "recorded after the chosen time"),
        ({"is_partial": True}, {}, "partial transcript"),
    ],
)
def test_what_is_left_out_stands_in_the_ledger(
    tmp_path: Path, changes: dict[str, Any], chosen: dict[str, Any], reason: str
) -> None:
    folder = two_sessions(tmp_path)[0]
    path = folder / "examples.jsonl"
    before = path.read_text()
    path.write_text(before + json.dumps(row(folder, "extra", "eat", **changes)) + "\n")
    dataset = load(tmp_path, **chosen)
    assert [(d.record_id, d.reason, d.path, d.line) for d in dataset.ledger] == [("extra", reason, str(path), 5)]
    assert "extra" not in {sample.record_id for sample in dataset.samples}
    assert len(dataset) == 8


def test_switches_take_in_demo_data_and_what_nobody_consented_to(tmp_path: Path) -> None:
    folder = session_folder(tmp_path)
    write_rows(folder, [row(folder, f"r{k}", "ab"[k % 2], is_demo=True, consent_given=False) for k in range(4)])
    assert len(load(tmp_path, include_demo=True, require_consent=False)) == 4
    error = refusal(tmp_path)
    assert "no sample to train on: 4 left out (no consent)" in str(error)


def test_chosen_sessions_only_and_the_rest_in_the_ledger(tmp_path: Path) -> None:
    two_sessions(tmp_path)
    (tmp_path / "users/anna/sessions/s2/examples.jsonl").open("a").write("broken\n")
    dataset = load(tmp_path, sessions=("s1",))
    assert set(dataset.session_ids) == {"s1"}
    assert {dropped.reason for dropped in dataset.ledger} == {"session not chosen"}
    assert len(dataset.ledger) == 4
    assert "there is no session 's3'; there are s1, s2" in str(refusal(tmp_path, sessions=("s3",)))


def test_several_users_are_merged_and_their_sessions_stay_apart(tmp_path: Path) -> None:
    two_sessions(tmp_path, "anna")
    two_sessions(tmp_path, "ben")
    dataset = load(tmp_path, users=("ben", "anna"))
    assert dataset.user_id == "_default"
    assert len(dataset) == 16
    assert set(dataset.session_ids) == {"anna/s1", "anna/s2", "ben/s1", "ben/s2"}
    assert set(dataset.sessions) == set(dataset.session_ids)


def test_a_record_that_comes_twice_counts_once(tmp_path: Path) -> None:
    folder = two_sessions(tmp_path)[0]
    path = folder / "examples.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[0]]) + "\n")
    dataset = load(tmp_path)
    assert len(dataset) == 8
    assert [(d.reason, d.path, d.line) for d in dataset.ledger] == [("duplicate", str(path), 5)]


def test_every_fault_is_told_at_once_with_its_place(tmp_path: Path) -> None:
    folder = session_folder(tmp_path)
    arrays = np.ones((2, 3), np.float32)
    good = [features_row(folder, f"r{k}", "ab"[k % 2], arrays) for k in range(4)]
    changed = features_row(folder, "changed", "a", arrays)
    (folder / "features/changed.npz").write_bytes(b"other")
    missing = features_row(folder, "missing", "a", arrays)
    (folder / "features/missing.npz").unlink()
    rows = [
        *good,
        row(folder, "modality", "a", modality="Smell!"),
        missing,
        changed,
        {k: v for k, v in good[0].items() if k != "label"} | {"record_id": "label"},
        features_row(folder, "nan", "a", [[1.0, np.nan, 1.0]]),
        features_row(folder, "infinite", "b", [[1.0, np.inf, 1.0]]),
        features_row(folder, "shape", "b", arrays, reference={"shape": [5, 3]}),
        features_row(folder, "r0", "b", arrays),
        features_row(folder, "single", "once", arrays),
        features_row(folder, "outside", "a", arrays, reference={"uri": "../../../../secret.npz"}),
        features_row(folder, "absolute", "a", arrays, reference={"uri": "/etc/passwd"}),
        features_row(folder, "other user", "a", arrays, user_id="ben"),
        features_row(folder, "misspelt", "a", arrays, labell="x"),
        features_row(folder, "reserved", "Unknown", arrays),
        features_row(folder, "naive", "a", arrays, timestamp="2026-03-01T10:00:00"),
    ]
    path = write_rows(folder, rows)
    with path.open("a") as file:
        file.write("{not json\n[1]\n")
    error = refusal(tmp_path, "gesture")
    found = {(fault.line, fault.field) for fault in error.faults}
    expected = {
        (5, "modality"),
        (6, "features"),
        (7, "features"),
        (8, "label"),
        (9, "features"),
        (10, "features"),
        (11, "features"),
        (12, "record_id"),
        (None, "label"),
        (14, "features.uri"),
        (15, "features.uri"),
        (16, "user_id"),
        (17, "labell"),
        (18, "label"),
        (19, "timestamp"),
        (20, "(line)"),
        (21, "(line)"),
    }
    assert expected <= found
    text = str(error)
    for told in (
        f"{path}:6: features: features/missing.npz: file not found",
        "features/changed.npz: its content has changed",
        "NaN or infinite values in 1 of 1 frames",
        "its shape is (2, 3), the reference says (5, 3)",
        "'once' has 1 gesture sample; at least 2 are needed",
        "is not a known key; valid keys: ",
        "label: is missing",
        "must carry a time zone",
    ):
        assert told in text
    assert error.exit_code == 3


def test_a_mixture_of_encodings_is_refused_by_name(tmp_path: Path) -> None:
    folder = session_folder(tmp_path)
    rows = [features_row(folder, f"r{k}", "ab"[k % 2], np.ones((2, 3))) for k in range(4)]
    rows += [
        features_row(folder, f"q{k}", "ab"[k % 2], np.ones((2, 5)), reference={"encoding": "e2"}) for k in range(2)
    ]
    write_rows(folder, rows)
    (fault,) = refusal(tmp_path, "gesture").faults
    assert fault.field == "encoding"
    assert "'mediapipe_tasks_video_xy_v1' with 3 numbers a frame (4 samples)" in fault.reason
    assert "'e2' with 5 numbers a frame (2 samples)" in fault.reason


def test_a_single_class_is_refused_and_one_sample_a_label_only_where_allowed(tmp_path: Path) -> None:
    folder = session_folder(tmp_path)
    write_rows(folder, [row(folder, f"r{k}", "eat") for k in range(3)])
    assert "all speech samples are 'eat'; at least two labels are needed" in str(refusal(tmp_path))
    write_rows(folder, [row(folder, "r0", "eat"), row(folder, "r1", "drink")])
    assert len(refusal(tmp_path).faults) == 2
    assert len(load(tmp_path, minimum_per_label=1)) == 2


def test_another_modality_does_not_stop_this_one(tmp_path: Path) -> None:
    folder = two_sessions(tmp_path)[0]
    with (folder / "examples.jsonl").open("a") as file:
        file.write(json.dumps({"modality": "audio", "label": 5}) + "\n")
    assert len(load(tmp_path)) == 8
    assert "record_id: is missing" in str(refusal(tmp_path, "sound"))


def test_lines_of_a_modality_that_nothing_here_trains_are_skipped_with_a_warning(tmp_path: Path) -> None:
    folder = two_sessions(tmp_path)[0]
    lines = len((folder / "examples.jsonl").read_text().splitlines())
    with (folder / "examples.jsonl").open("a") as file:
        file.write('{"modality": "gestrue"}\n{"modality": "gestrue"}\n{"modality": "sound"}\n')
    dataset = load(tmp_path)
    assert len(dataset) == 8
    (warning,) = dataset.warnings
    assert (warning.line, warning.field) == (lines + 1, "modality")
    assert "'gestrue' has no trainer here" in warning.reason and "gesture, sound" in warning.reason


def test_a3cps_names_of_modalities_are_accepted_and_ours_are_written(tmp_path: Path) -> None:
    folder = session_folder(tmp_path)
    write_rows(folder, [media_row(folder, f"r{k}", "ab"[k % 2], b"RIFF%d" % k, modality="audio") for k in range(4)])
    dataset = load(tmp_path, "audio")
    assert dataset.modality == "sound"
    assert dataset.samples[0].example.model_dump(mode="json")["modality"] == "sound"
    assert dataset.samples[0].path == (folder / "media/r0.wav").resolve()


def test_an_empty_media_file_is_refused(tmp_path: Path) -> None:
    folder = session_folder(tmp_path)
    write_rows(folder, [media_row(folder, f"r{k}", "ab"[k % 2], b"x" * k) for k in range(4)])
    assert "media/r0.wav: is empty" in str(refusal(tmp_path, "sound"))


@pytest.mark.parametrize("user", ["../../x", "", ".", "a/b", "_default", "x" * 65, "ann\x00a"])
def test_a_user_that_is_no_name_is_refused(tmp_path: Path, user: str) -> None:
    two_sessions(tmp_path)
    assert [fault.field for fault in refusal(tmp_path, users=(user,)).faults] == ["user_id"]


def test_unknown_user_and_modality_are_told_with_what_is_there(tmp_path: Path) -> None:
    two_sessions(tmp_path)
    assert "no such user; there are anna" in str(refusal(tmp_path, users=("anne",)))
    assert "must be one of gesture, sound, speech, visual_environment" in str(refusal(tmp_path, "smell"))
    assert "is not a folder" in str(refusal(tmp_path / "nowhere"))
    for name in "bcdefghi":
        (tmp_path / "users" / name).mkdir()
    assert "there are anna, b, c, d, e, f, g, h and 1 more" in str(refusal(tmp_path, users=("anne",)))


@pytest.mark.parametrize("linked", ["file", "session", "user", "examples"])
def test_links_out_of_the_data_root_are_refused(tmp_path: Path, linked: str) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    folder = session_folder(root)
    write_rows(folder, [media_row(folder, f"r{k}", "ab"[k % 2], b"wave%d" % k) for k in range(4)])
    assert len(load(root, "sound")) == 4
    moved = {
        "file": folder / "media/r0.wav",
        "session": folder,
        "user": root / "users/anna",
        "examples": folder / "examples.jsonl",
    }[linked]
    moved.rename(outside)
    moved.symlink_to(outside)
    assert "leads out of the data root" in str(refusal(root, "sound"))


def test_a_link_that_stays_inside_is_followed(tmp_path: Path) -> None:
    folder = session_folder(tmp_path)
    write_rows(folder, [media_row(folder, f"r{k}", "ab"[k % 2], b"wave%d" % k) for k in range(4)])
    (folder / "media/r0.wav").rename(folder / "elsewhere.wav")
    (folder / "media/r0.wav").symlink_to(folder / "elsewhere.wav")
    assert load(tmp_path, "sound").samples[0].path == (folder / "elsewhere.wav").resolve()


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    folder = session_folder(tmp_path)
    write_rows(folder, [media_row(folder, f"r{k}", "ab"[k % 2], b"wave%d" % k) for k in range(4)])
    (folder / "media/r0.wav").unlink()
    os.mkfifo(folder / "media/r0.wav")
    assert "is not a regular file" in str(refusal(tmp_path, "sound"))


def test_long_lines_deep_nesting_and_bad_bytes_are_faults(tmp_path: Path) -> None:
    folder = two_sessions(tmp_path)[0]
    path = folder / "examples.jsonl"
    hostile = [b'{"a": "' + b"x" * 600_000 + b'"}', b"[" * 100_000, b"\xff\xfe", b'{"confidence": NaN}', b'"\\ud800"']
    path.write_bytes(path.read_bytes() + b"\n".join(hostile) + b"\n")
    error = refusal(tmp_path)
    assert [fault.line for fault in error.faults] == [5, 6, 7, 8, 9]
    assert "is longer than 512 KiB" in error.faults[0].reason


def test_a_session_needs_its_files(tmp_path: Path) -> None:
    first, second = two_sessions(tmp_path)
    (first / "session.json").unlink()
    (second / "session.json").write_text("[]")
    third = session_folder(tmp_path, session="s3")
    found = {(fault.path, fault.reason) for fault in refusal(tmp_path).faults}
    assert (str(first / "session.json"), "file not found") in found
    assert (str(third / "examples.jsonl"), "file not found") in found
    assert any(path == str(second / "session.json") for path, _ in found)


def test_the_fingerprint_follows_what_is_learnt_from_and_nothing_else(tmp_path: Path) -> None:
    two_sessions(tmp_path / "one")
    folder = two_sessions(tmp_path / "two")[0]
    path = folder / "examples.jsonl"
    original = path.read_text()
    fingerprint = load(tmp_path / "one").fingerprint
    path.write_text("\n".join(reversed(original.replace("10:00:00", "11:30:00").splitlines())) + "\n")
    assert load(tmp_path / "two").fingerprint == fingerprint
    for before, after in (('"eat"', '"food"'), ("eat s1 0", "eat s1 9"), ("anna-s1-eat-0", "anna-s1-eat-7")):
        path.write_text(original.replace(before, after))
        assert load(tmp_path / "two").fingerprint != fingerprint
    path.write_text(original.replace('"transcript"', '"language": "de", "transcript"'))
    assert load(tmp_path / "two").fingerprint != fingerprint


def test_batches_hold_every_sample_once(tmp_path: Path) -> None:
    two_sessions(tmp_path)
    dataset = load(tmp_path)
    parts = list(batches(dataset, 3))
    assert [len(part) for part in parts] == [3, 3, 2]
    assert tuple(sample for part in parts for sample in part) == dataset.samples


def test_users_and_modalities_are_counted_without_being_checked(tmp_path: Path) -> None:
    folder = two_sessions(tmp_path)[0]
    two_sessions(tmp_path, "ben")
    with (folder / "examples.jsonl").open("a") as file:
        file.write('{"modality": "image"}\nbroken\n{"modality": "smell"}\n')
    (tmp_path / "users/.hidden").mkdir()
    (tmp_path / "users/empty").mkdir()
    anna = {"smell": 1, "speech": 8, "visual_environment": 1}
    assert users_with_data(tmp_path) == {"anna": anna, "ben": {"speech": 8}}
    with pytest.raises(DataError):
        users_with_data(tmp_path / "users/empty")


@given(
    st.lists(st.one_of(st.binary(max_size=60), st.integers(0, 3)), max_size=6), st.integers(0, 10), st.text(max_size=9)
)
def test_no_content_makes_loading_fail_otherwise(
    tmp_path_factory: pytest.TempPathFactory, noise: list[bytes | int], cut: int, text: str
) -> None:
    folder = two_sessions(tmp_path_factory.mktemp("noise"))[0]
    path = folder / "examples.jsonl"
    lines = path.read_bytes().splitlines()
    spoilt = [lines[part][: cut * 40] if isinstance(part, int) else part for part in noise]
    fields = [json.dumps(json.loads(lines[0]) | {name: text}).encode() for name in ("label", "session_id", "modality")]
    path.write_bytes(b"\n".join([*lines, *spoilt, *fields]))
    with pytest.raises(DataError):
        load(folder.parents[3])


def test_a_sample_knows_its_file_and_line_whatever_the_folder_is_called(tmp_path: Path) -> None:
    """A place is two values: a folder's name with colons and digits in it cannot be mistaken for a line."""
    root = tmp_path / "taken:12:30"
    folder, _ = two_sessions(root)
    sample = next(s for s in load(root).samples if s.session_id == "s1" and s.line == 3)
    fault = sample.fault("transcript", "is in another language")
    assert (fault.path, fault.line) == (str(folder / "examples.jsonl"), 3)
    with pytest.raises(DataError) as caught:
        load_features(sample)
    assert [(f.path, f.line) for f in caught.value.faults] == [(str(folder / "examples.jsonl"), 3)]
    dropped = sample.dropped("not wanted")
    assert (dropped.record_id, dropped.path, dropped.line) == (sample.record_id, str(folder / "examples.jsonl"), 3)


def test_several_people_are_validated_by_person_whatever_their_sessions_are_called(tmp_path: Path) -> None:
    for user in ("anna", "ben"):
        two_sessions(tmp_path, user)
    dataset = load(tmp_path, users=("anna", "ben"))
    assert set(dataset.session_ids) == {"anna/s1", "anna/s2", "ben/s1", "ben/s2"}
    assert dataset.groups == tuple(sample.user_id for sample in dataset.samples)


@pytest.mark.parametrize(
    ("changes", "chosen"),
    [
        ({"timestamp": "2026-03-01T00:00:00Z"}, {"since": "2026-03-01"}),
        ({"timestamp": "2026-03-01T23:59:59.999Z"}, {"until": "2026-03-02"}),
        ({"label_status": "corrected"}, {}),
        ({"label_status": "unconfirmed"}, {}),
        ({"performer_id": None}, {}),
        ({"consent_given": None, "is_demo": True}, {"require_consent": False, "include_demo": True}),
    ],
)
def test_what_is_just_within_the_filter_is_used(
    tmp_path: Path, changes: dict[str, Any], chosen: dict[str, Any]
) -> None:
    folder = two_sessions(tmp_path)[0]
    path = folder / "examples.jsonl"
    path.write_text(path.read_text() + json.dumps(row(folder, "extra", "eat", **changes)) + "\n")
    dataset = load(tmp_path, **chosen)
    assert "extra" in {sample.record_id for sample in dataset.samples}


def test_of_one_person_sessions_are_the_groups_and_keep_their_names(tmp_path: Path) -> None:
    two_sessions(tmp_path)
    dataset = load(tmp_path)
    assert dataset.groups == dataset.session_ids == ("s1",) * 4 + ("s2",) * 4
    assert (dataset.user_id, dataset.users, set(dataset.sessions)) == ("anna", ("anna",), {"s1", "s2"})


def test_of_several_people_their_samples_are_in_the_order_of_record_ids(tmp_path: Path) -> None:
    for user in ("ben", "anna"):
        for session in ("s2", "s1"):
            folder = session_folder(tmp_path, user, session)
            write_rows(folder, [row(folder, f"{k}-{session}", "ab"[k % 2], transcript=f"{user}{k}") for k in (3, 0)])
    dataset = load(tmp_path, users=("ben", "anna"))
    assert [(s.record_id, s.user_id) for s in dataset.samples] == [
        (f"{k}-{session}", user) for k in (0, 3) for session in ("s1", "s2") for user in ("anna", "ben")
    ]
    assert dataset.label_index.dtype == np.int64 and dataset.label_index.tolist() == [0] * 4 + [1] * 4


def test_the_ledger_is_in_the_order_of_files_and_lines(tmp_path: Path) -> None:
    for session in ("s2", "s1"):
        folder = session_folder(tmp_path, session=session)
        rows = [row(folder, f"{session}-{k}", "ab"[k % 2], transcript=f"{session}{k}") for k in range(4)]
        refused = [row(folder, f"{session}-z{k}", "a", consent_given=False) for k in (2, 1)]
        write_rows(folder, [*rows, *refused])
    assert [(Path(d.path).parent.name, d.line) for d in load(tmp_path).ledger] == [
        ("s1", 5), ("s1", 6), ("s2", 5), ("s2", 6)
    ]  # fmt: skip


def test_recordings_without_any_label_are_the_background_and_count_in_the_fingerprint(tmp_path: Path) -> None:
    folder = session_folder(tmp_path)
    rows = [media_row(folder, f"r{k}", "ab"[k % 2], b"wave%d" % k) for k in range(4)]
    write_rows(folder, rows)
    without = load(tmp_path, "sound").fingerprint
    write_rows(folder, [*rows, media_row(folder, "noise", BACKGROUND, b"noise")])
    dataset = load(tmp_path, "sound")
    assert [sample.record_id for sample in dataset.background] == ["noise"]
    assert (len(dataset), dataset.labels) == (4, ("a", "b")) and dataset.fingerprint != without
    assert [sample.record_id for sample in dataset.of_background.samples] == ["noise"]
    assert dataset.of_background.background == dataset.of_background.ledger == ()


def test_a_recording_of_two_labels_is_a_fault_and_a_text_of_two_labels_a_warning(tmp_path: Path) -> None:
    folder = session_folder(tmp_path)
    contents = [b"one", b"two", b"three", b"one"]
    path = write_rows(folder, [media_row(folder, f"r{k}", "ab"[k % 2], data) for k, data in enumerate(contents)])
    (fault,) = refusal(tmp_path, "sound").faults
    assert (fault.path, fault.line, fault.field) == (str(path), 4, "label")
    assert fault.reason == f"the same content is 'a' at {path}:1 and 'b' here; remove one of the two"
    write_rows(folder, [row(folder, f"r{k}", "ab"[k % 2], transcript=data.decode()) for k, data in enumerate(contents)])
    (warning,) = load(tmp_path).warnings
    assert "the same text stands under several labels in 1 cases, for example 'one': a and b" in warning.reason


def test_the_fingerprint_of_the_same_data_is_the_same_in_every_release(tmp_path: Path) -> None:
    """Another one would have a batch train everything again."""
    two_sessions(tmp_path)
    two_sessions(tmp_path, "ben")
    assert load(tmp_path).fingerprint == "0a4e3e695218ba2ccc59849b2a20fa92f979517690f97ef9e25504cbaee7f634"
    both = load(tmp_path, users=("anna", "ben"))
    assert both.fingerprint == "8df18af6c264b80e1b87842ba00c793e18f941b59054e37218399004d507dcb7"


def test_two_examples_with_one_id_are_a_fault_at_the_second(tmp_path: Path) -> None:
    folder = two_sessions(tmp_path)[0]
    path = folder / "examples.jsonl"
    path.write_text(path.read_text() + json.dumps(row(folder, "anna-s1-eat-0", "drink")) + "\n")
    (fault,) = refusal(tmp_path).faults
    assert (fault.path, fault.line, fault.field) == (str(path), 5, "record_id")
    assert fault.reason == f"'anna-s1-eat-0' is also the id of another example, at {path}:1"


def test_a_record_that_was_left_out_does_not_stand_in_the_way_of_its_like(tmp_path: Path) -> None:
    folder = two_sessions(tmp_path)[0]
    path = folder / "examples.jsonl"
    first = row(folder, "again", "eat", transcript="again", consent_given=False)
    path.write_text(path.read_text() + json.dumps(first) + "\n" + json.dumps(first | {"consent_given": True}) + "\n")
    dataset = load(tmp_path)
    assert [(d.record_id, d.reason, d.line) for d in dataset.ledger] == [("again", "no consent", 5)]
    assert "again" in {sample.record_id for sample in dataset.samples}


def test_a_record_that_is_left_out_is_no_fault_beside_one_of_the_same_id(tmp_path: Path) -> None:
    folder = two_sessions(tmp_path)[0]
    path = folder / "examples.jsonl"
    refused = row(folder, "anna-s1-eat-0", "drink", consent_given=False)
    path.write_text(path.read_text() + json.dumps(refused) + "\n")
    dataset = load(tmp_path)
    assert [(d.record_id, d.reason, d.line) for d in dataset.ledger] == [("anna-s1-eat-0", "no consent", 5)]
    assert len(dataset) == 8


def test_arguments_are_all_checked_at_once(tmp_path: Path) -> None:
    two_sessions(tmp_path)
    assert [fault.field for fault in refusal(tmp_path, "smell", ("../x", "", "anna")).faults] == ["modality"] + [
        "user_id"
    ] * 2
    assert [fault.reason for fault in refusal(tmp_path, users=()).faults] == ["no user is named"]
    fields = [fault.field for fault in refusal(tmp_path / "nowhere", "smell", ("..",)).faults]
    assert sorted(fields) == ["data", "modality", "user_id"]


def test_a_layout_that_is_named_is_the_one_that_is_read(tmp_path: Path) -> None:
    two_sessions(tmp_path)
    assert len(load_dataset(tmp_path, ["anna"], "speech", DataFilter(), data_format="own")) == 8
    with pytest.raises(DataError):
        load_dataset(tmp_path, ["anna"], "speech", DataFilter(), data_format="a3cp")
    (tmp_path / "users" / "empty").mkdir()
    (fault,) = refusal(tmp_path, users=("empty",), sessions=("s1",)).faults
    assert fault.field == "user_id" and "holds no sessions" in fault.reason, "nothing more of the session"
    (tmp_path / "none" / "users").mkdir(parents=True)
    assert "no such user; there are none in this folder" in str(refusal(tmp_path / "none"))


def test_only_folders_with_the_names_of_users_are_users(tmp_path: Path) -> None:
    two_sessions(tmp_path, "zoe")
    two_sessions(tmp_path, "anna")
    (tmp_path / "users" / "file").write_bytes(b"x")
    for name in ("_default", "a b", "..x"):
        (tmp_path / "users" / name).mkdir()
    (tmp_path / "logs" / "users" / "mia").mkdir(parents=True)
    assert known_users(tmp_path) == ["anna", "mia", "zoe"]
    assert list(users_with_data(tmp_path)) == ["anna", "zoe"]
    with pytest.raises(DataError, match="is not a folder"):
        users_with_data(tmp_path / "nowhere")


def test_by_default_a_label_needs_two_samples_and_a_filter_some_status(tmp_path: Path) -> None:
    folder = session_folder(tmp_path)
    rows = [row(folder, f"r{k}", "ab"[k % 2], transcript=f"t{k}") for k in range(4)]
    write_rows(folder, rows)
    assert len(load_dataset(tmp_path, ["anna"], "speech", DataFilter())) == 4
    write_rows(folder, rows[:3])
    with pytest.raises(DataError, match="at least 2 are needed"):
        load_dataset(tmp_path, ["anna"], "speech", DataFilter())
    with pytest.raises(ValidationError):
        DataFilter(label_status=())
