"""Formats that people have, beside the cases in test_cases.py: dialects, shapes and layouts."""

from __future__ import annotations

import json
import stat
import zipfile
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.commands import import_data
from shared.data_loader import load_features
from tests.shared.commands.test_import_data import load, refused, run
from tests.shared.data.test_cases import USER, labels, records

HAND = [[k / 10, k / 20] for k in range(21)]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        "label;x;y\na;0,5;1,5\nb;2,5;3,5\n",
        "sep=;\nlabel;x;y\na;0,5;1,5\nb;2,5;3,5\n",
        "x\ty\tLabel\n0.5\t1.5\ta\n2.5\t3.5\tb\n",
        "Unnamed: 0,x,y,category,\n0,0.5,1.5,a,\n1,2.5,3.5,b,\n",
        "a|0.5|1.5\nb|2.5|3.5\n",
        "0.5,1.5,a\n2.5,3.5,b\n",
        '"label","x","y"\r\n"a","0.5","1.5"\r\n"b","2.5","3.5"\r\n',
    ],
)
def test_tables_of_numbers_in_many_dialects(tmp_path: Path, text: str) -> None:
    run(write(tmp_path / "t.csv", text), tmp_path / "data", "gesture", *USER)
    samples = load(tmp_path / "data", "anna", "gesture").samples
    assert {s.label: load_features(s).tolist() for s in samples} == {"a": [[0.5, 1.5]], "b": [[2.5, 3.5]]}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "t.csv").write_bytes("text,label\nich bin müde,Müde\nTür zu,Tür\n".encode(encoding))
    run(tmp_path / "t.csv", tmp_path / "data", "speech", *USER)
    assert labels(tmp_path / "data", "speech") == {"Müde": 1, "Tür": 1}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('label,text\na,one\nb,"two\na,three\nb,four"\na,five\n', 3),
        ('label,text\na,one\nb,"two\na,three\n', 3),
        ('label,text\na,one\nb,two\na,"three" x\n', 4),
    ],
)
def test_an_unbalanced_quotation_mark_is_refused_at_its_line(tmp_path: Path, text: str, line: int) -> None:
    table = write(tmp_path / "t.csv", text)
    assert refused(table, tmp_path / "data", "speech", *USER).startswith(f"{table}:{line}: (row): a quotation mark")


def test_a_cell_of_several_lines_is_one_cell(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", 'text,label\n"well, yes\nof course, dear",a\n"no\nno\nno",b\n')
    run(table, tmp_path / "data", "speech", *USER)
    assert {example.transcript for example in records(tmp_path / "data")} == {
        "well, yes\nof course, dear",
        "no\nno\nno",
    }


def test_faults_of_one_kind_are_one_line(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", "label,x,y\n" + "a,1,\n" * 1943 + "b,1,2\n")
    reason = refused(table, tmp_path / "data", "gesture", *USER)
    assert reason.count("\n") == 0
    assert "(1943 rows, lines 2, 3, 4, …)" in reason


def test_columns_that_are_no_features(tmp_path: Path) -> None:
    frames = "label,frame,x,y\na,0,1,2\na,1,3,4\nb,0,5,6\n"
    table = write(tmp_path / "t.csv", frames)
    reason = refused(table, tmp_path / "data", "gesture", *USER)
    assert "column 'frame' numbers frames, but none says which rows are one sequence" in reason
    run(table, tmp_path / "data", "gesture", *USER, "--ignore-column", "frame")
    assert {load_features(s).shape for s in load(tmp_path / "data", "anna", "gesture").samples} == {(1, 2)}
    words = write(tmp_path / "w.csv", "label,hand,x\na,left,1\nb,right,2\n")
    assert "w.csv:1: hand: holds text ('left'), no numbers; leave it out with --ignore-column hand" in refused(
        words, tmp_path / "other", "gesture", *USER
    )


def test_rows_of_one_sequence_in_the_order_of_their_frames(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", "clip,n,frame,x,label\nq,0,2,3.5,a\nq,0,1,2.5,a\nr,0,1,9.5,b\nq,0,3,,a\n")
    run(table, tmp_path / "data", "gesture", *USER, "--sequence-column", "clip", "--ignore-column", "n")
    values = {s.label: load_features(s).ravel().tolist() for s in load(tmp_path / "data", "anna", "gesture").samples}
    assert values == {"a": [2.5, 3.5], "b": [9.5]}  # padding at the end is cut


@pytest.mark.parametrize(
    ("landmarks", "shape"),
    [
        (HAND, (1, 42)),
        ([HAND, HAND], (2, 42)),
        ([{"x": x, "y": y, "z": 0.0, "visibility": 1.0} for x, y in HAND], (1, 63)),
        ([[{"x": x, "y": y} for x, y in HAND]] * 3, (3, 42)),
        ([[HAND]] * 4, (4, 42)),
        ([[0.0, 1.0]] * 20, (20, 2)),
        ([HAND, [[None, None]] * 21], (1, 42)),
    ],
)
def test_points_and_frames(tmp_path: Path, landmarks: Any, shape: tuple[int, int]) -> None:
    source = tmp_path / "t.json"
    source.write_text(json.dumps([{"label": "a", "landmarks": landmarks}, {"label": "b", "landmarks": landmarks}]))
    run(source, tmp_path / "data", "gesture", *USER)
    assert {load_features(s).shape for s in load(tmp_path / "data", "anna", "gesture").samples} == {shape}


def test_a_frame_size_makes_points_frames(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps({"a": [HAND], "b": [HAND]}))
    run(tmp_path / "t.json", tmp_path / "data", "gesture", *USER, "--frame-size", "2")
    assert {load_features(s).shape for s in load(tmp_path / "data", "anna", "gesture").samples} == {(21, 2)}


def test_feature_files_of_numpy(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for label in ("a", "b"):
        (source / label).mkdir(parents=True)
        offset = 0.0 if label == "a" else 1.0
        np.save(source / label / "one.npy", np.full((5, 1, 21, 3), offset, np.float32))
        np.savez(source / label / "two.npz", np.full((5, 63), offset + 2, np.float32))
        np.savez(source / label / "three.npz", features=np.full((21, 3), offset + 4, np.float32))
    run(source, tmp_path / "data", "gesture", *USER)
    shapes = Counter(load_features(s).shape for s in load(tmp_path / "data", "anna", "gesture").samples)
    assert shapes == {(5, 63): 4, (1, 63): 2}


@pytest.mark.parametrize(
    "value",
    [
        [["yes please", {"cats": {"a": 1.0, "b": 0.0}}], ["no", {"cats": {"a": 0.0, "b": 1.0}}]],
        {"text": {"0": "yes please", "1": "no"}, "label": {"0": "a", "1": "b"}},
        {"q1": {"text": "yes please", "label": "a"}, "q2": {"text": "no", "label": "b"}},
        {"texts": 0, "text": ["yes please", "no"], "intent": ["a", "b"]},
        {"a": [{"data": [{"text": "yes "}, {"text": "please", "entity": "x"}]}], "b": [{"data": [{"text": "no"}]}]},
    ],
)
def test_json_of_texts_in_many_shapes(tmp_path: Path, value: Any) -> None:
    (tmp_path / "t.json").write_text(json.dumps(value))
    run(tmp_path / "t.json", tmp_path / "data", "speech", *USER)
    assert {example.transcript: example.label for example in records(tmp_path / "data")} == {
        "yes please": "a",
        "no": "b",
    }


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.md", "## intent:a\n- yes [please](politeness)\n\n## synonym:x\n- nothing\n\n## intent:b\n- no\n"),
        (
            "t.yml",
            'nlu:\n- intent: a\n  examples: |\n    - yes [please]{"entity": "x"}\n- intent: b\n  examples:\n    - no\n',
        ),
        ("t.txt", "__label__a yes please\n__label__b no\n"),
        ("t.txt", "text\tlabel\nyes please\ta\nno\tb\n"),
    ],
)
def test_files_of_intents(tmp_path: Path, name: str, text: str) -> None:
    run(write(tmp_path / name, text), tmp_path / "data", "speech", *USER)
    assert {example.transcript: example.label for example in records(tmp_path / "data")} == {
        "yes please": "a",
        "no": "b",
    }


GRID = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 3
tiers? <exists>
size = 1
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 3
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 1
            text = "yes"
        intervals [2]:
            xmin = 1
            xmax = 2
            text = ""
        intervals [3]:
            xmin = 2
            xmax = 3
            text = "no"
"""


EAF = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2026-03-01T10:00:00+00:00" FORMAT="3.0" VERSION="3.0"
  xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
  xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">
  <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds"/>
  <TIME_ORDER>
    <TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="500"/><TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="1250"/>
    <TIME_SLOT TIME_SLOT_ID="ts3" TIME_VALUE="2000"/><TIME_SLOT TIME_SLOT_ID="ts4" TIME_VALUE="3000"/>
  </TIME_ORDER>
  <TIER LINGUISTIC_TYPE_REF="default" TIER_ID="sounds">
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2">
      <ANNOTATION_VALUE>yes</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="ts3" TIME_SLOT_REF2="ts4">
      <ANNOTATION_VALUE>no</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a3" TIME_SLOT_REF1="ts2" TIME_SLOT_REF2="ts3">
      <ANNOTATION_VALUE></ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
  </TIER>
  <LINGUISTIC_TYPE GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="default" TIME_ALIGNABLE="true"/>
</ANNOTATION_DOCUMENT>
"""


def test_a_file_of_elan_beside_its_recording(tmp_path: Path) -> None:
    (tmp_path / "day.wav").write_bytes(b"sound")
    result = run(write(tmp_path / "day.eaf", EAF), tmp_path / "data", "sound", *USER)
    assert {(example.label, example.onset, example.offset) for example in records(tmp_path / "data")} == {
        ("yes", 0.5, 1.25),
        ("no", 2.0, 3.0),
    }
    assert "is a region without a label" in result.output


ENTITIES = "".join(f'<!ENTITY {new} "{f"&{old};" * 10}">' for old, new in pairwise("abcdefghijklmnop"))
BOMB = f'<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa">{ENTITIES}]><ANNOTATION_DOCUMENT>&p;</ANNOTATION_DOCUMENT>'


@pytest.mark.parametrize("text", ["", "<x/>", EAF[:-300], EAF.replace("ts4", "ts9", 1), BOMB], ids=range(5))
def test_a_file_of_elan_that_cannot_be_read_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "day.wav").write_bytes(b"sound")
    reason = refused(write(tmp_path / "day.eaf", text), tmp_path / "data", "sound", *USER)
    assert "day.eaf: (file): is not a readable file of ELAN's" in reason


def test_a_textgrid_beside_its_recording(tmp_path: Path) -> None:
    (tmp_path / "day.wav").write_bytes(b"sound")
    run(write(tmp_path / "day.TextGrid", GRID), tmp_path / "data", "sound", *USER)
    assert {(example.label, example.onset, example.offset) for example in records(tmp_path / "data")} == {
        ("yes", 0.0, 1.0),
        ("no", 2.0, 3.0),
    }


def test_files_of_another_kind_name_the_label_that_is_lost(tmp_path: Path) -> None:
    for label in ("kitchen", "garden"):
        write(tmp_path / "rooms" / label / "one.jpg", f"picture of {label}")
    write(tmp_path / "rooms" / "bath" / "one.wav", "sound")
    result = run(tmp_path / "rooms", tmp_path / "data", "visual_environment", *USER)
    assert "'bath' has no sample: 1 x holds audio, but this modality takes image and video" in result.output
    wrong = refused(tmp_path / "rooms", tmp_path / "other", "speech", *USER)
    assert "holds image, but this modality takes text" in wrong


@pytest.mark.parametrize(
    ("names", "doubt"),
    [
        ([f"id{k}/one.wav" for k in range(4)], "each of the 4 labels has one sample only"),
        (["train/a/1.wav", "train/b/2.wav", "test/a/3.wav"], "are parts of a data set and no labels"),
        (["fold1/a/1.wav", "fold2/b/2.wav"], "look like sessions and not like labels"),
        (["2024-05-01/a/1.wav", "2024-05-02/b/2.wav"], "look like sessions and not like labels"),
        (["s1/1.wav", "s2/2.wav"], "look like sessions and not like labels"),
        (["wav/1.wav", "wav/2.wav"], "called after its files and not after a label (wav); give --label NAME"),
        (
            ["audio/yes/1.wav", "audio/no/2.wav"],
            "called after its files and not after a label (audio); give --levels -/",
        ),
        ([f"a/t1/frame_{k:03d}.wav" for k in range(9)], "look like frames of one film"),
        (["Yes/1.wav", "yes /2.wav"], "'Yes' and 'yes' differ in case or blanks only"),
    ],
)
def test_doubtful_structure_is_refused_unless_it_is_confirmed(tmp_path: Path, names: list[str], doubt: str) -> None:
    for name in names:
        write(tmp_path / "source" / name, name)
    reason = refused(tmp_path / "source", tmp_path / "data", "sound", *USER)
    assert doubt in reason
    assert "--as-is imports it all the same" in reason
    assert not (tmp_path / "data").exists()
    run(tmp_path / "source", tmp_path / "data", "sound", *USER, "--as-is")


@pytest.mark.parametrize("label", ["می‌خواهم", "क्‍ष", "👨‍👩‍👧", "שלום"])
def test_joiners_belong_to_words_and_emoji(tmp_path: Path, label: str) -> None:
    write(tmp_path / "t.csv", f"text,label\none,{label}\ntwo,b\n")
    run(tmp_path / "t.csv", tmp_path / "data", "speech", *USER)
    assert labels(tmp_path / "data", "speech") == {label: 1, "b": 1}


def test_a_session_with_blanks_gets_a_safe_id(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", "text,label,session\none,a,New York trip\ntwo,b,../up\n")
    run(tmp_path / "t.csv", tmp_path / "data", "speech", *USER)
    dataset = load(tmp_path / "data", "anna", "speech")
    assert sorted(session[:-8] for session in dataset.session_ids) == ["New-York-trip-", "up-"]
    assert {metadata.session_name for metadata in dataset.sessions.values()} == {"New York trip", "../up"}


def test_one_file_and_folders_of_tables(tmp_path: Path) -> None:
    one = write(tmp_path / "hum.wav", "sound")
    assert "one file needs its label: --label NAME" in refused(one, tmp_path / "one", "sound", *USER)
    run(one, tmp_path / "one", "sound", *USER, "--label", "yes")
    assert [example.label for example in records(tmp_path / "one")] == ["yes"]
    for label in ("open", "closed"):
        write(tmp_path / "tables" / f"{label}.csv", f"x,y\n1.5,{len(label)}\n3.5,{len(label)}\n")
    run(tmp_path / "tables", tmp_path / "two", "gesture", *USER)
    assert labels(tmp_path / "two", "gesture") == {"open": 2, "closed": 2}


def test_speech_commands_have_a_speaker_for_a_session(tmp_path: Path) -> None:
    for label in ("yes", "no"):
        for speaker in ("0a7c2a8d", "ffd2ba2f"):
            write(tmp_path / "set" / label / f"{speaker}_nohash_0.wav", label + speaker)
    run(tmp_path / "set", tmp_path / "data", "sound", *USER)
    assert set(load(tmp_path / "data", "anna", "sound").session_ids) == {"0a7c2a8d", "ffd2ba2f"}


def test_a_zip_of_folders_is_imported_as_they_are(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "memos.zip", "w") as archive:
        for label in ("yes", "no"):
            archive.writestr(f"memos/{label}/{label}.wav", label)
        archive.writestr("__MACOSX/memos/._x", "rubbish")
        link = zipfile.ZipInfo("memos/yes/link.wav")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/hostname")
    run(tmp_path / "memos.zip", tmp_path / "data", "sound", *USER)
    assert labels(tmp_path / "data", "sound") == {"yes": 1, "no": 1}
    (tmp_path / "broken.zip").write_bytes((tmp_path / "memos.zip").read_bytes()[:200])
    assert "broken.zip: (file): is a damaged zip file" in refused(
        tmp_path / "broken.zip", tmp_path / "other", "sound", *USER
    )


def test_no_text_of_a_library_reaches_a_user(tmp_path: Path) -> None:
    broken = write(tmp_path / "t.json", '[{"text": "one",\n "label": ]')
    assert refused(broken, tmp_path / "data", "speech", *USER) == (
        f"{broken}: (file): is not valid JSON: see line 2, column 11"
    )
    lines = write(tmp_path / "t.jsonl", '{"text": "one", "label": "a"}\n{"text": NaN, "label": "a"}\n')
    reason = refused(lines, tmp_path / "data", "speech", *USER)
    assert reason == f"{lines}:2: (line): is not readable JSON: see line 1, column 10"
    (tmp_path / "a").mkdir()
    write(tmp_path / "a" / "t.npz", "no archive")
    reason = refused(tmp_path / "a" / "t.npz", tmp_path / "data", "gesture", *USER, "--label", "a")
    assert reason.endswith("is not a readable npz file; save it again")


def test_without_a_trainer_here_a_source_is_imported_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_data, "all_trainers", dict)
    write(tmp_path / "t.csv", "text,label\none,a\ntwo,b\n")
    run(tmp_path / "t.csv", tmp_path / "data", "speech", *USER)
    assert labels(tmp_path / "data", "speech") == {"a": 1, "b": 1}


@pytest.mark.parametrize("text", ["yes please,1\nno,0\ngo on,1\n", "1,yes please\n0,no\n1,go on\n"])
def test_texts_without_a_header_whose_labels_are_numbers(tmp_path: Path, text: str) -> None:
    run(write(tmp_path / "t.csv", text), tmp_path / "data", "speech", *USER)
    assert labels(tmp_path / "data", "speech") == {"1": 2, "0": 1}


def test_labels_that_were_written_in_two_ways_are_made_one_and_this_is_said(tmp_path: Path) -> None:
    """The same letters composed and decomposed, as macOS names folders, blanks around, and characters without width."""
    for folder, texts in (("m\u00fcde", "ab"), ("mu\u0308de", "c"), ("ja ", "d"), ("ja", "e"), ("ne\u200bin", "fg")):
        for text in texts:
            write(tmp_path / "texts" / folder / f"{text}.txt", f"words of {text}")
    output = run(tmp_path / "texts", tmp_path / "data", "speech", *USER).output
    assert labels(tmp_path / "data", "speech") == {"m\u00fcde": 3, "ja": 2, "nein": 2}
    assert "whose letters were written in two ways (composed and decomposed): m\u00fcde\n" in output
    assert "made one, with and without blanks around it: ja\n" in output
    assert "invisible characters were removed from the labels nein\n" in output


def test_names_of_files_that_seem_to_hold_labels_are_offered_as_a_pattern(tmp_path: Path) -> None:
    for name in ("drink_01.txt", "drink_02.txt", "good morning (1).txt", "good morning (2).txt"):
        write(tmp_path / "flat" / name, f"words of {name}")
    reason = refused(tmp_path / "flat", tmp_path / "data", "speech", *USER)
    assert "is not in a folder that names its label; if its name does (drink, good morning), give --pattern '" in reason
    pattern = reason.split("--pattern '")[1].split("'")[0]
    run(tmp_path / "flat", tmp_path / "data", "speech", *USER, "--pattern", pattern)
    assert labels(tmp_path / "data", "speech") == {"drink": 2, "good morning": 2}
    write(tmp_path / "flat" / "more", "x").rename(tmp_path / "flat" / "a note.txt")  # of which nobody knows the label
    assert "--pattern" not in refused(tmp_path / "flat", tmp_path / "more", "speech", *USER)


def test_levels_of_folders_that_say_more_than_two_things_are_asked_for(tmp_path: Path) -> None:
    for name in ("ana/mon/yes/1.wav", "ana/tue/no/1.wav", "ben/mon/yes/1.wav", "ben/tue/no/1.wav"):
        write(tmp_path / "deep" / name, name)
    options = ("--modality", "sound", "--consent", "--as-is")
    reason = refused(tmp_path / "deep", tmp_path / "data", "sound", "--consent", "--user", "x")
    assert "4 x lies in 3 levels of folders; say what each is, such as --levels user/session/label" in reason
    run(tmp_path / "deep", tmp_path / "data", "sound", *options[2:], "--levels", "user/session/label")
    assert {path.name for path in (tmp_path / "data" / "users").iterdir() if path.name[0] != "."} == {"ana", "ben"}


@pytest.mark.parametrize("name", ["metadata.jsonl", "labels.json", "meta/metadata.jsonl"])
def test_json_that_lists_the_files_of_a_folder_names_their_labels(tmp_path: Path, name: str) -> None:
    items = [{"file_name": f"{n}.wav", "label": "ab"[n % 2]} for n in range(4)]
    for item in items:
        write(tmp_path / "set" / "audio" / item["file_name"], str(item))
    lines = "".join(json.dumps(item) + "\n" for item in items) if name.endswith("l") else json.dumps(items)
    write(tmp_path / "set" / name, lines)
    result = run(tmp_path / "set", tmp_path / "data", "sound", *USER)
    assert f"read as: files that {name} lists" in result.output
    assert labels(tmp_path / "data", "sound") == {"a": 2, "b": 2}


def test_an_archive_of_several_arrays_is_no_sample_and_its_names_are_said(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    np.savez(tmp_path / "a" / "set.npz", X=np.ones((4, 3), np.float32), y=np.arange(4))
    reason = refused(tmp_path / "a" / "set.npz", tmp_path / "data", "gesture", *USER, "--label", "a")
    assert "holds no array named 'features', but 'X', 'y'; a feature file is one sample" in reason


def test_which_keys_of_json_became_what_is_said(tmp_path: Path) -> None:
    items = [{"sentence": f"words {n}", "intent": "ab"[n % 2], "speaker": "x", "mood": 3} for n in range(4)]
    for path, text in (
        (tmp_path / "a.jsonl", "".join(json.dumps(item) + "\n" for item in items)),
        (tmp_path / "b.json", json.dumps(items)),
    ):
        output = run(write(path, text), tmp_path / path.stem, "speech", *USER, "--user-column", "speaker").output
        assert "keys: user from 'speaker', label from 'intent', text from 'sentence', not used: mood\n" in output


def test_frames_of_several_widths_are_doubted(tmp_path: Path) -> None:
    (tmp_path / "vectors/wave").mkdir(parents=True)
    for number, width in enumerate((42, 42, 63)):
        np.save(tmp_path / f"vectors/wave/{number}.npy", np.full((5, width), number + 1, np.float32))
    reason = refused(tmp_path / "vectors", tmp_path / "data", "gesture", *USER)
    assert "2 with 42 numbers a frame (wave/0.npy); 1 with 63 numbers a frame (wave/2.npy)" in reason
    run(tmp_path / "vectors", tmp_path / "data", "gesture", *USER, "--as-is")


@pytest.mark.parametrize(
    ("name", "hint"),
    [("a.xlsx", "save the sheet as CSV"), ("a.docx", "save it as plain text"), ("a.parquet", "export it as CSV, JSON")],
)
def test_files_of_other_programs_are_refused_with_what_to_do(tmp_path: Path, name: str, hint: str) -> None:
    assert hint in refused(write(tmp_path / name, "PK"), tmp_path / "data", "speech", *USER)


@pytest.mark.parametrize(
    ("labels", "doubt"),
    [
        ("“meal” “outing”", "the labels “meal”, “outing” are enclosed in quotation marks"),
        ("meal meal.", "the labels meal, meal. differ in punctuation only"),
        ("go_out go-out", "the labels go-out, go_out differ in punctuation only"),
        ("meal;garden outing;garden", "the labels meal;garden, outing;garden look like several labels of one sample"),
        ("meal|outing meal", "the labels meal|outing look like several labels"),
    ],
)
def test_labels_that_are_probably_others_are_doubted(tmp_path: Path, labels: str, doubt: str) -> None:
    rows = [f"text {number},{label}" for number, label in enumerate(labels.split() * 2)]
    write(tmp_path / "t.csv", "text,label\n" + "\n".join(rows) + "\n")
    assert doubt in refused(tmp_path / "t.csv", tmp_path / "data", "speech", *USER)


@pytest.mark.parametrize("labels", ["1 -1", "1.0 10", "yes,no yes,please", "+ -", "😀 😢", "C D"])
def test_labels_that_are_alike_and_differ_are_not_doubted(tmp_path: Path, labels: str) -> None:
    rows = [f'text {number},"{label}"' for number, label in enumerate(labels.split() * 2)]
    write(tmp_path / "t.csv", "text,label\n" + "\n".join(rows) + "\n")
    run(tmp_path / "t.csv", tmp_path / "data", "speech", *USER)


def test_several_labels_of_one_object_are_named_as_such(tmp_path: Path) -> None:
    write(tmp_path / "t.json", json.dumps([{"text": "we eat", "label": ["meal", "garden"]}]))
    assert "has several labels; a sample has one" in refused(tmp_path / "t.json", tmp_path / "data", "speech", *USER)


@pytest.mark.parametrize("comma", ["", ", please"])
def test_single_quotation_marks_around_every_cell_are_read(tmp_path: Path, comma: str) -> None:
    rows = [f"'it''s time {number}{comma}','{'meal' if number % 2 else 'outing'}'" for number in range(4)]
    write(tmp_path / "t.csv", "'text','label'\n" + "\n".join(rows) + "\n")
    run(tmp_path / "t.csv", tmp_path / "data", "speech", *USER)
    samples = load(tmp_path / "data", "anna", "speech").samples
    assert {sample.label for sample in samples} == {"meal", "outing"}
    assert {sample.example.transcript for sample in samples} == {f"it's time {n}{comma}" for n in range(4)}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"PK\x03\x04" + bytes(200), "is a spreadsheet or an archive, whatever its suffix; save the sheet as CSV"),
        (b"\xd0\xcf\x11\xe0" + bytes(200), "is a spreadsheet or document of Office"),
        (b"<html><table><tr><td>text</td></tr></table>", "is a web page or XML, and no table"),
        (b'[{"text": "we eat", "label": "meal"}]', "holds JSON, and no table; give it the suffix .json"),
        (b'{"text": "we eat", "label": "meal"}\n', "holds JSON, and no table"),
    ],
)
def test_what_is_only_called_a_table_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    assert f"t.csv: (file): {reason}" in refused(tmp_path / "t.csv", tmp_path / "data", "speech", *USER)


def test_archives_and_subtitles_say_what_to_do(tmp_path: Path) -> None:
    for name, remedy in (("a.tar.gz", "unpack it"), ("a.7z", "unpack it"), ("a.srt", "as labels of Audacity")):
        write(tmp_path / name, "any")
        assert remedy in refused(tmp_path / name, tmp_path / "data", "sound", *USER)
    write(tmp_path / "folder" / "inner.zip", "any")
    assert "is an archive; unpack it here" in refused(tmp_path / "folder", tmp_path / "data", "sound", *USER)


def test_coco_is_refused_by_its_name(tmp_path: Path) -> None:
    write(tmp_path / "coco.json", json.dumps({"images": [], "annotations": [{"id": 1}], "categories": []}))
    assert "is COCO, whose boxes are not read" in refused(
        tmp_path / "coco.json", tmp_path / "data", "visual_environment", *USER
    )


def test_a_column_that_only_rises_is_doubted(tmp_path: Path) -> None:
    rows = [f"{1714557600000 + 33 * n},{'ab'[n % 2]},{n * 7 % 5},{n % 3}" for n in range(12)]
    write(tmp_path / "t.csv", "t_epoch,label,x,y\n" + "\n".join(rows) + "\n")
    reason = refused(tmp_path / "t.csv", tmp_path / "data", "gesture", *USER)
    assert "t.csv:1: t_epoch: rises from row to row" in reason and "--ignore-column t_epoch" in reason
    result = run(tmp_path / "t.csv", tmp_path / "data", "gesture", *USER, "--ignore-column", "t_epoch")
    assert "features from 2 columns" in result.output


def test_folders_that_cross_each_other_are_doubted_unless_one_level_is_called_like_sessions(tmp_path: Path) -> None:
    for inner in ("yes", "no"):
        for top in ("anna", "ben"):
            write(tmp_path / "crossed" / top / inner / "1.wav", top + inner)
        for session in ("Monday morning", "p02", "0a7c2a8d"):
            write(tmp_path / "clear" / inner / session / "1.wav", session + inner)
    reason = refused(tmp_path / "crossed", tmp_path / "data", "sound", *USER)
    assert "the folders anna, ben and those in them (no, yes) cross each other" in reason
    run(tmp_path / "crossed", tmp_path / "data", "sound", *USER, "--levels", "session/label")
    assert {sample.label for sample in load(tmp_path / "data", "anna", "sound").samples} == {"yes", "no"}
    run(tmp_path / "clear", tmp_path / "other", "sound", *USER)


def test_a_copy_of_a_file_is_said(tmp_path: Path) -> None:
    for name in ("yes/a.wav", "yes/a (1).wav", "yes/a (2).wav", "no/b.wav"):
        write(tmp_path / "source" / name, name[:4])
    output = run(tmp_path / "source", tmp_path / "data", "sound", *USER).output
    assert "is a copy of" in output and "(2 such files); take copies away" in output


def test_samples_that_hold_one_number_only_are_said(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", "label,a,b,c,d\na,0,0,0,0\nb,0,0,0,0\na,1,2,1,1\nb,3,2,2,3\n")
    output = run(tmp_path / "t.csv", tmp_path / "data", "gesture", *USER).output
    assert f"2 of 4 samples hold one number only, such as {tmp_path / 't.csv'}:2" in output


REGIONS = [
    ("start,end,label\n1.0,2.0,hum\n3.0,4.5,grunt\n", [(1.0, 2.0), (3.0, 4.5)]),
    ("onset_ms;offset_ms;label\n1000;2000;hum\n3000;4500;grunt\n", [(1.0, 2.0), (3.0, 4.5)]),
    ("start,duration,label\n0:01,0:01,hum\n00:03.0,1.5,grunt\n", [(1.0, 2.0), (3.0, 4.5)]),
    (
        "Selection\tView\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tSpecies\n"
        "1\tWaveform\t1.0\t2.0\t90\thum\n2\tWaveform\t3.0\t4.5\t80\tgrunt\n",
        [(1.0, 2.0), (3.0, 4.5)],
    ),
]


@pytest.mark.parametrize(("content", "expected"), REGIONS)
@pytest.mark.parametrize("beside", [True, False])
def test_a_table_of_times_holds_regions_of_its_recording(
    tmp_path: Path, content: str, expected: list[tuple[float, float]], beside: bool
) -> None:
    write(tmp_path / "day.csv", content)
    write(tmp_path / ("day.wav" if beside else "other.wav"), "sound")
    media = () if beside else ("--media", str(tmp_path / "other.wav"))
    assert "all of " in run(tmp_path / "day.csv", tmp_path / "data", "sound", *USER, *media).output
    samples = load(tmp_path / "data", "anna", "sound").samples
    assert sorted((sample.example.onset, sample.example.offset) for sample in samples) == expected
    assert sorted(sample.label for sample in samples) == ["grunt", "hum"]


def test_a_table_of_files_with_times_holds_regions_of_each(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", "file,start,end,label\na.wav,0,1,yes\na.wav,2,3,no\nb.wav,1,2,yes\nb.wav,3,4,no\n")
    for name in "ab":
        write(tmp_path / f"{name}.wav", name)
    run(tmp_path, tmp_path / "data", "sound", *USER)
    regions = [(s.example.onset, s.example.offset) for s in load(tmp_path / "data", "anna", "sound").samples]
    assert sorted(regions) == [(0, 1), (1, 2), (2, 3), (3, 4)]


@pytest.mark.parametrize(
    ("row", "reason"),
    [("2,1,hum", "its end is not after its start"), ("noon,1,hum", "'noon' in column 'start' is no time")],
)
def test_times_that_are_none_are_faults(tmp_path: Path, row: str, reason: str) -> None:
    write(tmp_path / "day.csv", f"start,end,label\n{row}\n")
    assert "name the recording with --media FILE" in refused(tmp_path / "day.csv", tmp_path / "data", "sound", *USER)
    write(tmp_path / "day.wav", "sound")
    assert f"day.csv:2: (row): {reason}" in refused(tmp_path / "day.csv", tmp_path / "data", "sound", *USER)


def test_a_session_for_each_sample_is_doubted(tmp_path: Path) -> None:
    rows = [f"text {n},{'ab'[n % 2]},2024-05-01 10:0{n}:00" for n in range(6)]
    write(tmp_path / "t.csv", "text,label,session\n" + "\n".join(rows) + "\n")
    reason = refused(tmp_path / "t.csv", tmp_path / "data", "speech", *USER)
    assert "session: each of the 6 samples has a session of its own (2024-05-01 10:00:00" in reason


def test_the_time_of_recording_in_a_table_is_the_samples(tmp_path: Path) -> None:
    rows = [f"text {n},{'ab'[n % 2]},2024-05-0{1 + n // 3}T12:0{n}:00+00:00" for n in range(6)]
    write(tmp_path / "t.csv", "text,label,timestamp\n" + "\n".join(rows) + "\n")
    output = run(tmp_path / "t.csv", tmp_path / "data", "speech", *USER, "--session-by", "day").output
    assert "time of recording from 'timestamp'" in output
    samples = load(tmp_path / "data", "anna", "speech").samples
    assert {sample.session_id for sample in samples} == {"2024-05-01", "2024-05-02"}
    assert {sample.example.timestamp.hour for sample in samples} == {12}


def test_a_header_that_is_repeated_is_no_sample(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", "text,label\nwe eat,meal\ntext,label\nlet us go,outing\n")
    output = run(tmp_path / "t.csv", tmp_path / "data", "speech", *USER).output
    assert "2 new" in output and "1 x repeats the header, for example 't.csv:3'" in output


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        ('"0,5","1,25"', [0.5, 1.25]),
        ('"12,5","1234,75"', [12.5, 1234.75]),
        ("\u22121.5,2", [-1.5, 2.0]),
    ],
)
def test_numbers_as_spreadsheets_write_them(tmp_path: Path, cells: str, numbers: list[float]) -> None:
    write(tmp_path / "t.csv", f"label,x,y\na,{cells}\nb,{cells}\n")
    run(tmp_path / "t.csv", tmp_path / "data", "gesture", *USER)
    assert load_features(load(tmp_path / "data", "anna", "gesture").samples[0]).tolist() == [numbers]


@pytest.mark.parametrize("cells", ['"1,234","2,345"', '"1,234.5","0,5"'])
def test_commas_that_may_mark_thousands_are_refused(tmp_path: Path, cells: str) -> None:
    write(tmp_path / "t.csv", f"label,x,y\na,{cells}\nb,{cells}\n")
    assert "holds text ('1,234" in refused(tmp_path / "t.csv", tmp_path / "data", "gesture", *USER)


def test_json_lines_are_read_whatever_their_suffix(tmp_path: Path) -> None:
    write(tmp_path / "t.json", '{"text": "we eat", "label": "meal"}\n{"text": "let us go", "label": "outing"}\n')
    assert "2 new" in run(tmp_path / "t.json", tmp_path / "data", "speech", *USER).output
    write(tmp_path / "t.json", '{"text": "we eat", "label": "meal"}\n{"text": "let us\n')
    assert "is not valid JSON: see line 2" in refused(tmp_path / "t.json", tmp_path / "data", "speech", *USER)
    write(tmp_path / "t.json", "")
    assert "the file is empty" in refused(tmp_path / "t.json", tmp_path / "data", "speech", *USER)


def test_an_intent_without_a_name_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "nlu.yml", "nlu:\n- intent: [meal, garden]\n  examples: |\n    - we eat\n")
    assert "nlu.0.intent: must be the name of an intent" in refused(tmp_path, tmp_path / "data", "speech", *USER)


def test_names_in_archives_are_read_as_they_were_meant(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "windows.zip", "w") as archive:
        for name in ("yes\\a.wav", "yes\\b.wav", "müde\\c.wav", "müde\\d.wav"):
            archive.writestr(name, name)
    content = (tmp_path / "windows.zip").read_bytes()
    flagged = content.replace(b"\x00\x08\x00\x00", b"\x00\x00\x00\x00")  # as macOS writes it: no word of UTF-8
    (tmp_path / "mac.zip").write_bytes(flagged)
    assert flagged != content
    for name in ("windows", "mac"):
        run(tmp_path / f"{name}.zip", tmp_path / name, "sound", *USER)
        assert {sample.label for sample in load(tmp_path / name, "anna", "sound").samples} == {"yes", "müde"}


@pytest.mark.parametrize("name", ["../a.wav", "/a.wav", "..\\a.wav"])
def test_an_archive_that_names_files_outside_is_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr(name, "any")
    reason = refused(tmp_path / "t.zip", tmp_path / "data", "sound", *USER)
    assert "t.zip: (file): names a file outside of it" in reason


def test_faults_name_the_archive_and_not_where_it_is_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        for number in range(3):
            archive.writestr(f"label{number}/a.wav", "any")
        archive.writestr("unknown/b.wav", "any")
    reason = refused(tmp_path / "t.zip", tmp_path / "data", "sound", *USER, "--as-is")
    assert f"{tmp_path / 't.zip'}/unknown/b.wav: label" in reason and ".staging" not in reason


@pytest.mark.parametrize(
    "written",
    [
        "C:\\Users\\me\\Drink 1.WAV",
        "https://example.org/upload/Drink%201.wav?token=a/b.wav",
        "/data/local-files/?d=rec/Drink%201.wav",
        "drink 1",
    ],
)
def test_files_are_found_as_tables_write_them(tmp_path: Path, written: str) -> None:
    for name in ("Drink 1.wav", "b.wav", "unlisted.wav"):
        write(tmp_path / "source" / name, name)
    write(tmp_path / "source" / "list.csv", f'path,label\n"{written}",drink\nb.wav,more\n')
    output = run(tmp_path / "source", tmp_path / "data", "sound", *USER).output
    assert "2 new" in output and "1 x is not in list.csv, for example 'unlisted.wav'" in output


def test_of_two_names_that_differ_in_case_the_one_that_is_written_is_meant(tmp_path: Path) -> None:
    for name in ("a.wav", "A.wav"):
        write(tmp_path / "source" / name, name)
    write(tmp_path / "source" / "list.csv", "path,label\na.wav,yes\nA.wav,no\n")
    run(tmp_path / "source", tmp_path / "data", "sound", *USER)
    samples = load(tmp_path / "data", "anna", "sound").samples
    assert {s.path.read_text(): s.label for s in samples if s.path} == {"a.wav": "yes", "A.wav": "no"}
