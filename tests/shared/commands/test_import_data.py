"""Sources become session folders: split into sessions, nothing is written twice, all faults come before any writing."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from shared.commands.import_data import import_command
from shared.data import session_writer
from shared.data_loader import DataFilter, Dataset, load_dataset, load_features, users_with_data
from shared.errors import ConfigError, DataError

PATTERN = r"(?P<label>\d)_(?P<user>\w+)_(?P<take>\d+)\.wav"


def run(source: Path, data: Path, modality: str, *options: str, fails: bool = False) -> Result:
    """Import; files are decoded only where the test says so, as most of them here are no real media."""
    arguments = [str(source), "--data", str(data), "--modality", modality, *options]
    if "--decode" not in options:
        arguments.append("--no-decode")
    if not {"--consent", "--no-consent"} & set(options):
        arguments.append("--consent")
    result = CliRunner().invoke(import_command, arguments)
    if not fails:
        assert result.exit_code == 0, result.output + repr(result.exception)
    return result


def refused(source: Path, data: Path, modality: str, *options: str) -> str:
    result = run(source, data, modality, *options, fails=True)
    assert isinstance(result.exception, DataError | ConfigError | SystemExit), result.exception
    if isinstance(result.exception, SystemExit):
        assert result.exit_code == 2
        return result.output
    return str(result.exception)


def load(data: Path, user: str, modality: str, minimum: int = 1) -> Dataset:
    return load_dataset(data, [user], modality, DataFilter(), minimum_per_label=minimum)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def takes(folder: Path, users: tuple[str, ...] = ("george", "theo"), first: int = 0) -> Path:
    folder.mkdir()
    for user in users:
        for label in range(2):
            for take in range(first, first + 12):
                (folder / f"{label}_{user}_{take}.wav").write_bytes(f"{user} {label} {take}".encode())
    return folder


def test_file_names_give_label_user_and_takes_cut_into_sessions(tmp_path: Path) -> None:
    source = takes(tmp_path / "recordings")
    (source / "README.md").write_text("about")
    (source / "other.wav").write_bytes(b"x")
    result = run(source, tmp_path / "data", "sound", "--pattern", PATTERN, "--session-size", "5")
    assert users_with_data(tmp_path / "data") == {"george": {"sound": 24}, "theo": {"sound": 24}}
    dataset = load(tmp_path / "data", "theo", "sound")
    assert Counter(dataset.session_ids) == {"session-01": 10, "session-02": 10, "session-03": 4}
    names = {sample.session_id: set() for sample in dataset.samples}
    for sample in dataset.samples:
        names[sample.session_id].add(int(Path(sample.example.media.path).stem.split("_")[2].split("-")[0]))
    assert names == {"session-01": {0, 1, 2, 3, 4}, "session-02": {5, 6, 7, 8, 9}, "session-03": {10, 11}}
    assert "48 new, 0 replaced, 0 unchanged" in result.output
    assert (
        "1 x does not match the pattern, which must cover all of it and its suffix, for example 'other.wav'"
        in result.output
    )
    assert "README.md" in result.output


def test_takes_that_count_from_one_fill_their_sessions(tmp_path: Path) -> None:
    source = takes(tmp_path / "recordings", ("theo",), first=1)
    run(source, tmp_path / "data", "sound", "--pattern", PATTERN, "--session-size", "6")
    assert Counter(load(tmp_path / "data", "theo", "sound").session_ids) == {"session-01": 12, "session-02": 12}


def test_importing_again_changes_nothing_and_more_takes_are_added(tmp_path: Path) -> None:
    source = takes(tmp_path / "recordings")
    options = ("--pattern", PATTERN, "--session-size", "5")
    run(source, tmp_path / "data", "sound", *options)
    before = tree(tmp_path / "data")
    assert "0 new, 0 replaced, 48 unchanged" in run(source, tmp_path / "data", "sound", *options).output
    assert tree(tmp_path / "data") == before
    (source / "0_theo_12.wav").write_bytes(b"one more")
    assert "1 new, 0 replaced, 48 unchanged" in run(source, tmp_path / "data", "sound", *options).output
    assert len(load(tmp_path / "data", "theo", "sound")) == 25


def test_a_changed_label_or_session_is_refused_unless_it_is_to_replace(tmp_path: Path) -> None:
    source = tmp_path / "clips"
    for label in ("eat", "drink"):
        (source / label).mkdir(parents=True)
        for k in range(2):
            (source / label / f"{label}{k}.wav").write_bytes(f"{label}{k}".encode())
    data = tmp_path / "data"
    run(source, data, "sound", "--user", "anna", "--session", "monday", "--no-consent")
    before = tree(data)
    reason = refused(source, data, "sound", "--user", "anna", "--session", "tuesday")
    assert "with another session_id, consent_given; --replace changes it" in reason
    assert reason.count("\n") == 3
    assert tree(data) == before
    run(source, data, "sound", "--user", "anna", "--session", "tuesday", "--replace")
    assert Counter(load(data, "anna", "sound").session_ids) == {"tuesday": 4}
    assert len(list(data.rglob("*.wav"))) == 4


def test_a_folder_for_each_label_and_folders_for_sessions_in_it(tmp_path: Path) -> None:
    source = tmp_path / "photos"
    for label in ("kitchen", "bed room"):
        for session in ("day1", "day2"):
            (source / label / session).mkdir(parents=True)
            (source / label / session / "photo 1.JPG").write_bytes(f"{label}{session}".encode())
    (source / ".DS_Store").write_bytes(b"x")
    (source / "loose.jpg").write_bytes(b"x")
    result = run(source, tmp_path / "data", "image", "--user", "anna")
    dataset = load(tmp_path / "data", "anna", "visual_environment")
    assert sorted(zip(dataset.session_ids, (s.label for s in dataset.samples), strict=True)) == [
        ("day1", "bed room"),
        ("day1", "kitchen"),
        ("day2", "bed room"),
        ("day2", "kitchen"),
    ]
    assert "is not in a folder that names its label, for example 'loose.jpg'" in result.output
    assert dataset.samples[0].path is not None
    assert dataset.samples[0].path.suffix == ".jpg"


def test_sessions_are_blocks_or_dealt(tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("".join(f"{label},{k}.5,{k}\n" for label in "ab" for k in range(6)))
    run(table, tmp_path / "blocks", "gesture", "--user", "anna", "--blocks", "3")
    run(table, tmp_path / "spread", "gesture", "--user", "anna", "--round-robin", "3")

    def values(data: Path) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        dataset = load(data, "anna", "gesture")
        for sample, session in zip(dataset.samples, dataset.session_ids, strict=True):
            if sample.label == "a":
                found.setdefault(session, []).append(float(load_features(sample)[0, 1]))
        return {session: sorted(numbers) for session, numbers in found.items()}

    assert values(tmp_path / "blocks") == {"session-01": [0, 1], "session-02": [2, 3], "session-03": [4, 5]}
    assert values(tmp_path / "spread") == {"session-01": [0, 3], "session-02": [1, 4], "session-03": [2, 5]}


def test_a_table_of_vectors_takes_names_for_its_labels_and_frames(tmp_path: Path) -> None:
    table, names = tmp_path / "rows.csv", tmp_path / "names.csv"
    table.write_text("0,1,2,3,4\n1,5,6,7,8\n")
    names.write_text("\ufeffopen\nclosed\n", encoding="utf-8")
    options = ("--user", "anna", "--labels", str(names), "--frame-size", "2", "--encoding", "tip_xy_v1")
    run(table, tmp_path / "data", "gesture", *options)
    first, second = load(tmp_path / "data", "anna", "gesture").samples
    by_label = {sample.label: load_features(sample).tolist() for sample in (first, second)}
    assert by_label == {"open": [[1, 2], [3, 4]], "closed": [[5, 6], [7, 8]]}
    assert first.example.features is not None
    assert first.example.features.encoding == "tip_xy_v1"
    table.write_text("0,1,2,3,4\n7,5,6,7,8\n")
    assert f"{table}:2: label: '7' has no name in {names}" in refused(table, tmp_path / "data", "gesture", *options)


def test_a_table_with_a_header_and_texts(tmp_path: Path) -> None:
    table = tmp_path / "texts.csv"
    table.write_text('text,who,label,session\n"I am hungry, please",anna,eat,s1\nwater,ben,drink,s2\n')
    run(table, tmp_path / "data", "speech", "--user-column", "who")
    assert users_with_data(tmp_path / "data") == {"anna": {"speech": 1}, "ben": {"speech": 1}}
    line = (tmp_path / "data/users/anna/sessions/s1/examples.jsonl").read_text()
    assert json.loads(line)["transcript"] == "I am hungry, please"
    reason = refused(table, tmp_path / "data", "speech", "--label-column", "intent", "--user", "anna")
    assert "there is no column 'intent'; there are text, who, label, session" in reason


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("t.json", {"train": [["one", "a"], ["two", "b"]], "test": [["three", "a"]]}, ()),
        ("t.json", {"dev": [["one", "a"], ["two", "b"]], "test": [["three", "a"]]}, ("--split", "dev")),
        ("t.json", [["one", "a"], ["two", "b"]], ()),
        ("t.json", {"a": ["one"], "b": ["two"]}, ()),
        ("t.json", [{"text": "one", "label": "a"}, {"transcript": "two", "label": "b"}], ()),
        (
            "t.json",
            [{"say": "one", "intent": "a"}, {"say": "two", "intent": "b"}],
            ("--text-column", "say", "--label-column", "intent"),
        ),
        ("t.jsonl", [{"text": "one", "label": "a"}, {"text": "two", "label": "b"}], ()),
    ],
)
def test_json_of_texts(tmp_path: Path, name: str, content: Any, options: tuple[str, ...]) -> None:
    source = tmp_path / name
    lines = [json.dumps(row) for row in content] if name.endswith("l") else [json.dumps(content)]
    source.write_text("\n".join(lines) + "\n")
    run(source, tmp_path / "data", "speech", "--user", "anna", *options)
    dataset = load(tmp_path / "data", "anna", "speech")
    assert {sample.example.transcript: sample.label for sample in dataset.samples} == {"one": "a", "two": "b"}


def test_json_of_sequences(tmp_path: Path) -> None:
    source = tmp_path / "sequences.json"
    source.write_text(json.dumps({"wave": [[[1, 2], [3, 4], [5, 6]]], "point": [[[1, 2]]]}))
    run(source, tmp_path / "data", "gesture", "--user", "anna")
    shapes = {s.label: load_features(s).shape for s in load(tmp_path / "data", "anna", "gesture").samples}
    assert shapes == {"wave": (3, 2), "point": (1, 2)}


def test_groups_of_labels_and_a_limit_spread_over_them(tmp_path: Path) -> None:
    source, groups = tmp_path / "t.json", tmp_path / "groups.json"
    texts = [[f"{label} {k}", label] for label in ("hungry", "thirsty", "tired") for k in range(40)]
    source.write_text(json.dumps({"train": texts, "other": [["x", "y"]]}))
    groups.write_text(json.dumps({"food": ["hungry", "thirsty"], "rest": ["tired"]}))
    run(
        source,
        tmp_path / "data",
        "speech",
        "--user",
        "anna",
        "--labels",
        str(groups),
        "--limit",
        "20",
        "--round-robin",
        "2",
    )
    dataset = load(tmp_path / "data", "anna", "speech")
    assert Counter(sample.label for sample in dataset.samples) == {"food": 10, "rest": 10}
    assert Counter((s.example.transcript or "").split()[0] for s in dataset.samples) == {
        "hungry": 5,
        "thirsty": 5,
        "tired": 10,
    }


def test_a_label_with_few_samples_leaves_its_share_of_the_limit_to_others(tmp_path: Path) -> None:
    source = tmp_path / "t.json"
    source.write_text(
        json.dumps({"a": ["one", "two"], "b": [f"b{k}" for k in range(50)], "c": [f"c{k}" for k in range(50)]})
    )
    run(source, tmp_path / "data", "speech", "--user", "anna", "--limit", "22")
    labels = Counter(sample.label for sample in load(tmp_path / "data", "anna", "speech").samples)
    assert labels == {"a": 2, "b": 10, "c": 10}


def test_a_second_modality_joins_a_session_and_leaves_the_first_alone(tmp_path: Path) -> None:
    source = takes(tmp_path / "recordings", ("anna",))
    texts = tmp_path / "t.json"
    texts.write_text(json.dumps({"a": ["one", "two"], "b": ["three", "four"]}))
    run(source, tmp_path / "data", "sound", "--pattern", PATTERN, "--session-size", "20")
    run(texts, tmp_path / "data", "speech", "--user", "anna", "--session", "session-01")
    assert users_with_data(tmp_path / "data") == {"anna": {"sound": 24, "speech": 4}}
    assert len(load(tmp_path / "data", "anna", "sound")) == 24
    assert len(load(tmp_path / "data", "anna", "speech")) == 4


def test_hard_links_take_no_space_and_copies_are_copies(tmp_path: Path) -> None:
    source = takes(tmp_path / "recordings", ("theo",))
    for data, links, options in (("copied", 1, ()), ("linked", 2, ("--link",))):
        run(source, tmp_path / data, "sound", "--pattern", PATTERN, *options)
        path = load(tmp_path / data, "theo", "sound").samples[0].path
        assert path is not None
        assert path.stat().st_nlink == links


def test_a_link_to_another_file_system_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = takes(tmp_path / "recordings", ("theo",))

    def link(*_: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", link)
    assert "leave --link out" in refused(source, tmp_path / "data", "sound", "--pattern", PATTERN, "--link")


@pytest.mark.parametrize(("together", "whole"), [(1, ["session-01"]), (50, [])])
def test_an_import_that_fails_half_way_leaves_no_half_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: int, whole: list[str]
) -> None:
    monkeypatch.setattr(session_writer, "_SESSIONS_TOGETHER", together)
    source = takes(tmp_path / "recordings", ("theo",))
    options = ("--pattern", PATTERN, "--session-size", "6")
    copied: list[str] = []

    def copy(origin: Path, target: Path) -> None:
        copied.append(str(origin))
        if len(copied) == 15:
            raise OSError("no space left on device")
        target.write_bytes(Path(origin).read_bytes())

    with monkeypatch.context() as patched:
        patched.setattr("shutil.copyfile", copy)
        assert "cannot be written: no space left on device" in refused(source, tmp_path / "data", "sound", *options)
    sessions = tmp_path / "data/users/theo/sessions"
    assert [path.name for path in sessions.iterdir()] == whole
    (sessions / ".staging-left-over").mkdir()
    there = 12 * len(whole)
    assert (
        f"{24 - there} new, 0 replaced, {there} unchanged" in run(source, tmp_path / "data", "sound", *options).output
    )
    assert sorted(path.name for path in sessions.iterdir()) == ["session-01", "session-02"]


def test_every_fault_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("a,1,2\nb,x,2\na,nan,2\n,1,2\nunknown,1,2\na,inf,1\n")
    reason = refused(table, tmp_path / "data", "gesture", "--user", "anna")
    places = [line.split(": ")[:2] for line in reason.splitlines()]
    expected = [(2, "(row)"), (3, "(row)"), (4, "label"), (5, "label"), (6, "(row)")]
    assert places == [[f"{table}:{line}", field] for line, field in expected]
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--pattern", "("), "invalid regular expression"),
        (("--pattern", r"(?P<name>\d).*"), "needs a group (?P<label>…)"),
        (
            ("--pattern", r"(?P<label>x)_.*"),
            "24 x does not match the pattern, which must cover all of it and its suffix; for example",
        ),
        (("--pattern", r"(?P<label>\d)_.*"), "no user: name one with --user"),
        ((), "is not in a folder that names its label"),
        (("--pattern", r"(?P<label>\d)_(?P<user>.*)"), None),
        (("--user", "../x"), "user id"),
        (("--blocks", "2", "--round-robin", "2"), "mutually exclusive"),
    ],
)
def test_options_that_cannot_work_say_why(tmp_path: Path, options: tuple[str, ...], reason: str | None) -> None:
    source = takes(tmp_path / "recordings", ("theo",))
    if reason is None:  # a group that swallows the suffix gives users of that name, which are names all the same
        run(source, tmp_path / "data", "sound", *options)
        return
    assert reason in refused(source, tmp_path / "data", "sound", *options)


def test_a_missing_user_is_said_once(tmp_path: Path) -> None:
    source = takes(tmp_path / "recordings", ("theo",))
    reason = refused(source, tmp_path / "data", "sound", "--pattern", r"(?P<label>\d)_.*")
    assert reason.count("no user: name one with --user") == 1


def test_consent_must_be_said(tmp_path: Path) -> None:
    source = takes(tmp_path / "recordings", ("theo",))
    arguments = [str(source), "--data", str(tmp_path / "data"), "--modality", "sound", "--pattern", PATTERN]
    result = CliRunner().invoke(import_command, arguments)
    assert result.exit_code == 2
    assert "--consent" in result.output
    result = CliRunner().invoke(import_command, [*arguments, "--no-consent", "--no-decode"])
    assert "training leaves these samples out" in result.output
    with pytest.raises(DataError, match="24 left out"):
        load(tmp_path / "data", "theo", "sound")


def test_links_in_the_source_are_skipped(tmp_path: Path) -> None:
    source = takes(tmp_path / "recordings", ("theo",))
    (source / "0_theo_99.wav").symlink_to("/etc/hostname")
    result = run(source, tmp_path / "data", "sound", "--pattern", PATTERN)
    assert "1 x is a symbolic link" in result.output
    assert len(load(tmp_path / "data", "theo", "sound")) == 24


def test_one_clip_under_two_labels_is_refused_naming_both_places(tmp_path: Path) -> None:
    source = tmp_path / "clips"
    for label in ("a", "b"):
        (source / label).mkdir(parents=True)
        (source / label / "same.wav").write_bytes(b"same")
    reason = refused(source, tmp_path / "data", "sound", "--user", "anna")
    assert f"{source}/b/same.wav: label: the same content is 'a' in {source}/a/same.wav and 'b' here" in reason
    assert not (tmp_path / "data").exists()


def test_a_sample_is_its_content_wherever_its_file_lies(tmp_path: Path) -> None:
    source, data = tmp_path / "clips", tmp_path / "data"
    for label in ("a", "b"):
        for k in range(3):
            (source / label / f"day{k}").mkdir(parents=True)
            (source / label / f"day{k}" / f"take{k}.wav").write_bytes(f"{label}{k}".encode())
    run(source, data, "sound", "--user", "anna")
    (source / "a/day0/take0.wav").rename(source / "a/day0/renamed.wav")
    shutil.copytree(source, tmp_path / "parent" / "copied")
    assert "0 new, 0 replaced, 6 unchanged" in run(source, data, "sound", "--user", "anna").output
    again = run(tmp_path / "parent", data, "sound", "--user", "anna", "--levels", "-/label/session")
    assert "0 new, 0 replaced, 6 unchanged" in again.output
    (source / "b/day1/take1.wav").rename(source / "a/day1/take1b.wav")
    assert "with another label; --replace changes it" in refused(source, data, "sound", "--user", "anna")
    assert "0 new, 1 replaced, 5 unchanged" in run(source, data, "sound", "--user", "anna", "--replace").output
    assert Counter(sample.label for sample in load(data, "anna", "sound").samples) == {"a": 4, "b": 2}


def test_a_row_on_top_of_a_table_is_one_new_sample(tmp_path: Path) -> None:
    table, data = tmp_path / "rows.csv", tmp_path / "data"
    rows = [f"{label},{k}.5,{k % 2}\n" for label in "ab" for k in range(6)]
    table.write_text("".join(rows))
    run(table, data, "gesture", "--user", "anna", "--blocks", "3")
    table.write_text("".join(["a,9.5,9\n", *rows]))
    assert "1 new, 0 replaced, 12 unchanged" in run(table, data, "gesture", "--user", "anna", "--blocks", "3").output


def test_the_same_words_on_another_day_are_another_sample(tmp_path: Path) -> None:
    table, data = tmp_path / "texts.csv", tmp_path / "data"
    table.write_text("text,label\nyes,a\nno,b\n")
    run(table, data, "speech", "--user", "anna", "--session", "monday")
    assert "2 new" in run(table, data, "speech", "--user", "anna", "--session", "tuesday").output
    assert "0 new" in run(table, data, "speech", "--user", "anna", "--session", "tuesday").output


def test_a_dry_run_shows_what_an_import_would_do_and_writes_nothing(tmp_path: Path) -> None:
    source, data = takes(tmp_path / "recordings", ("theo",)), tmp_path / "data"
    result = run(source, data, "sound", "--pattern", PATTERN, "--session-size", "6", "--dry-run")
    assert "would be 24 new, 0 replaced, 0 unchanged" in result.output
    assert re.search(r"theo +0 +12 +2\n", result.output)
    assert "theo: 24 samples, 2 labels, 2 sessions: session-01 12, session-02 12" in result.output
    assert not data.exists()


def test_a_day_of_recording_is_a_session(tmp_path: Path) -> None:
    source = takes(tmp_path / "recordings", ("theo",))
    for number, path in enumerate(sorted(source.iterdir())):
        moment = 1_700_000_000 + 86_400 * (number % 3)
        os.utime(path, (moment, moment))
    run(source, tmp_path / "data", "sound", "--pattern", PATTERN, "--session-by", "day")
    assert sorted(Counter(load(tmp_path / "data", "theo", "sound").session_ids).values()) == [8, 8, 8]
