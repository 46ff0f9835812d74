"""Small files as people have them: each is read as they mean it, or refused with place, reason and what to do."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from shared.commands.check import check_command
from shared.data_loader import load_features
from shared.schema_utils import Example
from tests.shared.commands.test_import_data import load, refused, run

USER = ("--user", "anna")
THREE = {"Ausflug": 6, "Müde": 6, "Trinken": 6}
HANDS = {"fist": 12, "open": 12, "point": 12}
INTENTS = {"BookRestaurant": 6, "GetWeather": 6, "PlayMusic": 6}


def records(data: Path) -> list[Example]:
    lines = [line for path in data.rglob("examples.jsonl") for line in path.read_text().splitlines()]
    return [Example.model_validate_json(line) for line in lines]


def labels(data: Path, modality: str) -> dict[str, int]:
    return dict(Counter(sample.label for sample in load(data, "anna", modality).samples))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("by_label_points.json", (1, 42)),
        ("columnar.json", (1, 42)),
        ("header_class.csv", (1, 42)),
        ("long.csv", (3, 42)),
        ("mp_points.json", (1, 63)),
        ("mp_lists.json", (1, 63)),
        ("semicolon.csv", (1, 42)),
        ("trailing.csv", (1, 42)),
    ],
)
def test_numbers_of_hands(cases: Path, tmp_path: Path, name: str, shape: tuple[int, int]) -> None:
    run(cases / "gesture" / name, tmp_path, "gesture", *USER)
    dataset = load(tmp_path, "anna", "gesture")
    assert Counter(sample.label for sample in dataset.samples) == HANDS
    assert {load_features(sample).shape for sample in dataset.samples} == {shape}


def test_an_index_is_no_feature(cases: Path, tmp_path: Path) -> None:
    result = run(cases / "gesture" / "pandas_index_noise.csv", tmp_path, "gesture", *USER)
    assert "column '' is an index and no feature" in result.output
    assert {load_features(sample).shape for sample in load(tmp_path, "anna", "gesture").samples} == {(1, 42)}


def test_missing_points_are_named_and_read_as_zero_when_asked(cases: Path, tmp_path: Path) -> None:
    source = cases / "gesture" / "nan.csv"
    reason = refused(source, tmp_path / "data", "gesture", *USER)
    assert reason.startswith(f"{source}:2: (row): numbers are missing")
    assert reason.endswith("--missing zero to read them as 0 (6 rows, lines 2, 8, 14, …)")
    run(source, tmp_path / "data", "gesture", *USER, "--missing", "zero")
    samples = load(tmp_path / "data", "anna", "gesture").samples
    assert sum(not load_features(sample).any() for sample in samples) == 6


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("header_utterance_intent.csv", THREE),
        ("no_header_text_first.csv", THREE),
        ("semicolon.csv", THREE),
        ("sep_line.csv", THREE),
        ("semicolon_noheader.csv", {"Trinken": 3, "Ausflug": 3}),
        ("utf16.csv", THREE),
        ("cp1252_excel.csv", THREE),
        ("json_by_label_objects.json", THREE),
        ("json_bool.json", {"true": 6, "false": 6}),
        ("emoji.csv", {"food": 6, "out": 6}),
        ("label_zero_width.csv", THREE),
        ("contradictory.csv", {"Ausflug": 6, "Müde": 7, "Trinken": 7}),
        ("unbalanced.tsv", {"a": 4, "b": 4, "c": 4}),
        ("cv_client128.tsv", {"a": 6, "b": 6}),
    ],
)
def test_texts(cases: Path, tmp_path: Path, name: str, expected: dict[str, int]) -> None:
    run(cases / "text" / name, tmp_path, "speech", *USER)
    assert labels(tmp_path, "speech") == expected


def test_what_a_text_table_does_not_say_plainly_is_said(cases: Path, tmp_path: Path) -> None:
    texts = cases / "text"
    contradictory = run(texts / "contradictory.csv", tmp_path / "a", "speech", *USER).output
    assert "the same text stands under several labels in 2 cases" in contradictory
    assert "'ich habe Durst': Müde and Trinken" in contradictory
    assert "6 x has no label" in run(texts / "json_bool.json", tmp_path / "b", "speech", *USER).output
    assert "read as WINDOWS-1252" in run(texts / "cp1252_excel.csv", tmp_path / "c", "speech", *USER).output
    run(texts / "unbalanced.tsv", tmp_path / "d", "speech", *USER)
    said = {sample.example.transcript for sample in load(tmp_path / "d", "anna", "speech").samples}
    assert {'"what time is it', 'he said "stop" to me'} <= said


def test_labels_that_differ_in_case_or_blanks_are_asked_about(cases: Path, tmp_path: Path) -> None:
    source = cases / "text" / "label_case_space.csv"
    assert "'Ausflug' and 'ausflug' differ in case or blanks only" in refused(source, tmp_path, "speech", *USER)
    renames = ("--rename", "ausflug=Ausflug", "--rename", "TRINKEN=Trinken")
    run(source, tmp_path, "speech", *USER, *renames)
    assert labels(tmp_path, "speech") == THREE


def test_a_fault_has_the_line_of_its_file(cases: Path, tmp_path: Path) -> None:
    lines, swallow = cases / "text" / "lineno.csv", cases / "text" / "swallow.csv"
    assert refused(lines, tmp_path, "speech", *USER).startswith(f"{lines}:8: label: ")
    assert refused(swallow, tmp_path, "speech", *USER).startswith(f"{swallow}:3: (row): a quotation mark opens here")


def test_a_long_session_name_gets_a_safe_id_and_is_kept(cases: Path, tmp_path: Path) -> None:
    run(cases / "text" / "cv_client128.tsv", tmp_path, "speech", *USER)
    dataset = load(tmp_path, "anna", "speech")
    assert {len(session) for session in dataset.session_ids} == {49}
    assert {len(metadata.session_name or "") for metadata in dataset.sessions.values()} == {128}


def test_one_row_more_is_one_new_sample(cases: Path, tmp_path: Path) -> None:
    table = tmp_path / "talk.csv"
    shutil.copyfile(cases / "text" / "talk.csv", table)
    run(table, tmp_path / "data", "speech", *USER, "--round-robin", "3")
    shutil.copyfile(cases / "text" / "talk2.csv", table)
    again = run(table, tmp_path / "data", "speech", *USER, "--round-robin", "3")
    assert "1 new, 0 replaced, 18 unchanged" in again.output


@pytest.mark.parametrize("name", ["fasttext.txt", "snips_dataset.json", "rasa_nlu.json", "nlu.yml", "ls_json.json"])
def test_sets_of_intents(cases: Path, tmp_path: Path, name: str) -> None:
    run(cases / "sets" / name, tmp_path, "speech", *USER)
    assert labels(tmp_path, "speech") == INTENTS


@pytest.mark.parametrize(("name", "confidence"), [("vosk.json", 0.9), ("whisper.json", 0.8187)])
def test_transcripts_of_recognisers_have_their_confidence(
    cases: Path, tmp_path: Path, name: str, confidence: float
) -> None:
    run(cases / "sets" / name, tmp_path, "speech", *USER, "--label", "music")
    (sample,) = records(tmp_path)
    assert sample.transcript == "play a song"
    assert sample.confidence == pytest.approx(confidence, abs=1e-3)


@pytest.mark.parametrize("name", ["esc50", "urbansound8k"])
def test_data_sets_whose_table_lists_their_files(cases: Path, tmp_path: Path, name: str) -> None:
    result = run(cases / "sets" / name, tmp_path, "sound", *USER)
    dataset = load(tmp_path, "anna", "sound")
    assert set(Counter(sample.label for sample in dataset.samples).values()) == {3}
    assert set(Counter(dataset.session_ids).values()) == {3}
    assert "skipped: 18 x is in the table, but there is no such file" in result.output


def test_a_table_of_uploaded_sounds(cases: Path, tmp_path: Path) -> None:
    table = tmp_path / "source" / "ls_audio.csv"
    table.parent.mkdir()
    shutil.copyfile(cases / "sets" / "ls_audio.csv", table)
    assert "none of its files is there" in refused(table, tmp_path / "data", "sound", *USER)
    for number in range(6):
        (table.parent / f"0000000{number}-take.wav").write_bytes(b"sound %d" % number)
    run(table, tmp_path / "data", "sound", *USER)
    assert labels(tmp_path / "data", "sound") == {"no": 3, "yes": 3}


@pytest.mark.parametrize(
    ("name", "regions"),
    [
        ("audacity_labels.txt", {("yes", 0.0, 1.1), ("no", 1.3, 2.2)}),
        ("elan.txt", {("yes", 0.0, 1.1)}),
    ],
)
def test_annotations_of_one_recording(
    cases: Path, tmp_path: Path, name: str, regions: set[tuple[str, float, float]]
) -> None:
    recording = cases / "sets" / "esc50" / "audio" / "3-100049-A-0.wav"
    assert "name it with --media FILE" in refused(cases / "sets" / name, tmp_path, "sound", *USER)
    run(cases / "sets" / name, tmp_path, "sound", *USER, "--media", str(recording))
    assert {(example.label, example.onset, example.offset) for example in records(tmp_path)} == regions


def test_folders_that_are_no_labels(cases: Path, tmp_path: Path) -> None:
    reason = refused(cases / "visual" / "split", tmp_path / "a", "visual_environment", *USER)
    assert "the folders test, train, valid are parts of a data set and no labels" in reason
    run(cases / "visual" / "split", tmp_path / "a", "visual_environment", *USER, "--levels", "-/label")
    assert labels(tmp_path / "a", "visual_environment") == {"bedroom": 8, "kitchen": 8}
    sessions = cases / "sound" / "session_above_label"
    assert "the folders s1, s2, s3 look like sessions" in refused(sessions, tmp_path / "b", "sound", *USER)
    run(sessions, tmp_path / "b", "sound", *USER, "--levels", "session/label")
    assert labels(tmp_path / "b", "sound") == {"no": 3, "stop": 3, "yes": 3}


def test_a_picture_that_moved_has_its_new_label_alone(cases: Path, tmp_path: Path) -> None:
    run(cases / "visual" / "rooms", tmp_path / "data", "visual_environment", *USER)
    shutil.copytree(cases / "visual" / "rooms_fixed", tmp_path / "fixed")
    (tmp_path / "fixed" / "garage").mkdir(exist_ok=True)
    result = run(tmp_path / "fixed", tmp_path / "data", "visual_environment", *USER, "--replace")
    assert "0 new, 1 replaced, 17 unchanged" in result.output
    assert "'garage' has no sample: the folder is empty" in result.output
    assert labels(tmp_path / "data", "visual_environment") == {"bedroom": 8, "kitchen": 10}


def decoded(source: Path, data: Path, modality: str, *options: str) -> str:
    """Import with every file decoded, and check the data root; return both outputs."""
    imported = run(source, data, modality, *USER, "--decode", *options)
    checked = CliRunner().invoke(check_command, [str(data), "--minimum-per-label", "1"])
    assert checked.exit_code == 0 or "at least two labels are needed" in checked.output, checked.output
    return imported.output + checked.output


def one_label(tmp_path: Path, *files: Path) -> Path:
    """Return a folder of one label with copies of the files."""
    folder = tmp_path / "source" / "one"
    folder.mkdir(parents=True)
    for file in files:
        shutil.copyfile(file, folder / file.name)
    return folder.parent


@pytest.mark.parametrize("name", ["clip.aiff", "clip.caf", "clip.webm", "clip.3gp"])
def test_sounds_of_phones_and_browsers(cases: Path, tmp_path: Path, name: str) -> None:
    decoded(one_label(tmp_path, cases / "sound" / name), tmp_path / "data", "sound")
    (example,) = records(tmp_path / "data")
    assert example.media is not None and example.media.path.endswith(Path(name).suffix)


def test_memos_of_a_phone(cases: Path, tmp_path: Path) -> None:
    decoded(cases / "sound" / "memos", tmp_path, "sound")
    assert labels(tmp_path, "sound") == {"no": 3, "yes": 3}


def test_headers_that_are_wrong_about_the_length(cases: Path, tmp_path: Path) -> None:
    crashed = decoded(one_label(tmp_path, cases / "sound" / "data_len_0.wav"), tmp_path / "a", "sound")
    assert crashed.count("its header gives no length, as after a crash") == 2
    decoded(cases / "sound" / "header_44_too_large", tmp_path / "b", "sound")
    assert len(records(tmp_path / "b")) == 2


def test_channels_that_cancel_each_other_out(cases: Path, tmp_path: Path) -> None:
    output = decoded(cases / "sound" / "phase_inverted", tmp_path, "sound")
    assert "its channels cancel each other out; the loudest alone is used (2 files)" in output


@pytest.mark.parametrize(
    "name",
    [
        "browser_recorder.webm",
        "cut_without_recoding.mp4",
        "phone.m4v",
        "motion_photo.jpg",
        "two_pictures_mpo.jpg",
        "room.webp",
        "room.bmp",
    ],
)
def test_pictures_and_videos(cases: Path, tmp_path: Path, name: str) -> None:
    decoded(one_label(tmp_path, cases / "visual" / name), tmp_path / "data", "visual_environment")
    assert len(records(tmp_path / "data")) == 1


@pytest.mark.parametrize(
    ("name", "modality", "reason"),
    [
        ("visual/half_grey.jpg", "visual_environment", "a part of the picture is missing"),
        ("gesture/half.avi", "visual_environment", "is cut off: 1.5 of 3.0 s are there"),
        ("gesture/half.avi", "gesture", "is cut off: 1.5 of 3.0 s are there"),
        ("gesture/concat_script.mp4", "gesture", "is not a video"),
        ("gesture/concat_script.mp4", "visual_environment", "is not a video"),
        ("gesture/concat_script.mp4", "sound", "unsupported audio format"),
    ],
)
def test_files_that_are_refused_by_name(cases: Path, tmp_path: Path, name: str, modality: str, reason: str) -> None:
    source = one_label(tmp_path, cases / name)
    shutil.copyfile(cases / "gesture" / "phone.MOV", source / "one" / "plain.mp4")  # what the script names
    refusal = refused(source, tmp_path / "data", modality, *USER, "--decode")
    place = source / "one" / Path(name).name
    assert any(line.startswith(f"{place}: (file): ") and reason in line for line in refusal.splitlines())
    assert "--leave-out unusable imports the others" in refusal


def test_a_clip_of_a_phone_is_a_gesture(cases: Path, tmp_path: Path) -> None:
    decoded(one_label(tmp_path, cases / "gesture" / "phone.MOV"), tmp_path / "data", "gesture")
    assert len(records(tmp_path / "data")) == 1


def test_pictures_called_heic(cases: Path, tmp_path: Path) -> None:
    decoded(cases / "visual" / "rooms_heic", tmp_path, "visual_environment")
    assert labels(tmp_path, "visual_environment") == {"bedroom": 9, "kitchen": 9}
