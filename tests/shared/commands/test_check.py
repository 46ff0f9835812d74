"""A data root is checked as a whole: counts, and every fault on a line of its own."""

from __future__ import annotations

import json
import re
from pathlib import Path

from click.testing import CliRunner, Result

from shared.commands.check import check_command
from tests.shared.data.a3cp_folders import features_ready, recorded_session, write_log
from tests.shared.data.session_folders import features_row, media_row, row, session_folder, two_sessions, write_rows


def run(*arguments: str) -> Result:
    return CliRunner().invoke(check_command, list(arguments))


def test_a_sound_root_is_counted_by_user_modality_label_and_session(tmp_path: Path) -> None:
    folder = two_sessions(tmp_path)[0]
    captures = {f"c{k}": "ab"[k % 2] for k in range(4)}
    write_log(tmp_path, "s1", recorded_session(tmp_path, "s1", captures, "ben"), "ben")
    path = folder / "examples.jsonl"
    path.write_text(path.read_text() + json.dumps(row(folder, "demo", "eat", is_demo=True)) + "\n")
    result = run(str(tmp_path))
    assert result.exit_code == 0, result.output
    assert "anna  speech: 9 samples, 8 used, 1 left out: demo data" in result.output
    assert "labels    drink 4, eat 4" in result.output
    assert "sessions  s1 4, s2 4" in result.output
    assert "ben  gesture: 4 samples, 4 used" in result.output
    assert "no faults" in result.output


def test_the_same_as_json(tmp_path: Path) -> None:
    two_sessions(tmp_path)
    result = run(str(tmp_path), "--json")
    assert result.exit_code == 0
    assert json.loads(result.output) == {
        "faults": [],
        "warnings": [],
        "users": {
            "anna": {
                "speech": {
                    "samples": 8,
                    "used": 8,
                    "labels": {"drink": 4, "eat": 4},
                    "sessions": {"s1": 4, "s2": 4},
                    "left_out": {},
                }
            }
        },
    }


def test_faults_of_all_users_and_modalities_are_told_at_once(tmp_path: Path) -> None:
    first = session_folder(tmp_path, "anna")
    rows = [features_row(first, f"r{k}", "ab"[k % 2], [[1.0, 2.0]]) for k in range(4)]
    rows.append(features_row(first, "nan", "a", [[float("nan"), 1.0]]))
    rows.append(media_row(first, "silent", "hum", b"x", consent_given=False) | {"user_id": "anna"})
    path = write_rows(first, rows)
    (first / "media/silent.wav").unlink()
    second = session_folder(tmp_path, "ben")
    broken = write_rows(second, [row(second, "r0", "eat"), row(second, "r1", "drink", colour="red")])
    (tmp_path / "users/bad name").mkdir()
    result = run(str(tmp_path))
    assert result.exit_code == 3
    lines = result.output.splitlines()
    faults = [line for line in lines if re.match(rf"{re.escape(str(tmp_path))}\S*[^:]*: \S+: .+", line)]
    assert any(line.startswith(f"{path}:5: features: features/nan.npz: holds NaN") for line in faults)
    assert f"{path}:6: media: media/silent.wav: file not found" in faults
    assert any(line.startswith(f"{broken}:2: colour: is not a known key") for line in faults)
    assert any("'eat' has 1 speech sample; at least 2 are needed" in line for line in faults)
    assert any("bad name" in line for line in faults)
    assert lines[-1] == f"{len(faults)} faults"


def test_a_modality_that_nothing_here_trains_is_a_fault_of_its_line(tmp_path: Path) -> None:
    folder = two_sessions(tmp_path)[0]
    captures = {f"c{k}": "ab"[k % 2] for k in range(4)}
    events = recorded_session(tmp_path, "s1", captures, "ben")
    log = write_log(
        tmp_path, "s1", [*events, features_ready(tmp_path, "c9", "s1", user="ben", modality="smell")], "ben"
    )
    with (folder / "examples.jsonl").open("a") as file:
        file.write(json.dumps(row(folder, "typo", "eat", modality="gestrue")) + "\n")
    result = run(str(tmp_path))
    assert result.exit_code == 3
    assert "modality: modality 'gestrue': must be one of gesture, sound, speech, visual_environment" in result.output
    assert f"{log}:{len(events) + 1}: event.modality: modality 'smell': must be one of gesture" in result.output


def test_one_user_or_modality_only(tmp_path: Path) -> None:
    two_sessions(tmp_path, "anna")
    folder = session_folder(tmp_path, "ben")
    (folder / "examples.jsonl").write_text("broken\n")
    assert run(str(tmp_path), "--user", "anna").exit_code == 0
    assert run(str(tmp_path), "--user", "ben").exit_code == 3
    assert run(str(tmp_path), "--user", "anne").exit_code == 3
    assert run(str(tmp_path), "--user", "../anna").exit_code == 2
    assert run(str(tmp_path), "--modality", "smell").exit_code == 2
    assert run(str(tmp_path / "nowhere")).exit_code == 3
    (tmp_path / "empty").mkdir()
    assert "there are no data of any user" in run(str(tmp_path / "empty")).output


def test_one_sample_a_label_is_enough_where_that_is_said(tmp_path: Path) -> None:
    folder = session_folder(tmp_path)
    write_rows(folder, [row(folder, "r0", "eat"), row(folder, "r1", "drink")])
    assert run(str(tmp_path)).exit_code == 3
    assert run(str(tmp_path), "--minimum-per-label", "1").exit_code == 0


def test_a_root_of_which_training_would_use_nothing_is_not_without_faults(tmp_path: Path) -> None:
    captures = {f"c{k}": "ab"[k % 2] for k in range(4)}
    events = [value | {"consent_given": None} for value in recorded_session(tmp_path, "s1", captures)]
    write_log(tmp_path, "s1", [{key: item for key, item in value.items() if item is not None} for value in events])
    result = run(str(tmp_path))
    assert result.exit_code == 3
    assert "gesture: no sample to train on: 4 left out (no consent)" in result.output
    assert "nothing says whether consent was given for 4 of 4 samples" in result.output
    stated = run(str(tmp_path), "--consent-by", "Mia Berger, guardian")
    assert stated.exit_code == 0 and "gesture: 4 samples, 4 used" in stated.output, stated.output
    assert "--consent-by: give a name" in run(str(tmp_path), "--consent-by", "").output


def test_a_file_that_training_cannot_decode_is_a_fault_of_its_line(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, "anna")
    path = write_rows(folder, [media_row(folder, f"r{k}", "ab"[k % 2], b"no sound %d" % k) for k in range(4)])
    result = run(str(tmp_path))
    assert result.exit_code == 3
    assert f"{path}:1: media: r0.wav: is damaged or in an unsupported audio format" in result.output
    assert run(str(tmp_path), "--no-decode").exit_code == 0


def test_the_same_file_under_two_labels_is_a_fault_naming_both_places(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, "anna")
    rows = [media_row(folder, f"r{k}", "ab"[k % 2], b"sound %d" % min(k, 2)) for k in range(4)]
    path = write_rows(folder, rows)
    result = run(str(tmp_path), "--no-decode")
    assert result.exit_code == 3
    assert f"{path}:4: label: the same content is 'a' at {path}:3 and 'b' here" in result.output


def test_of_many_faults_of_one_kind_three_are_listed(tmp_path: Path) -> None:
    folder = session_folder(tmp_path, "anna")
    rows = [media_row(folder, f"r{k}", "ab"[k % 2], b"no sound %d" % k) for k in range(12)]
    path = write_rows(folder, [*rows, row(folder, "other", "eat") | {"colour": "red"}])
    result = run(str(tmp_path))
    assert result.exit_code == 3
    assert result.output.count("unsupported audio format") == 3
    assert f"{path}: media: 9 more of this kind; --verbose lists them" in result.output
    assert result.output.splitlines()[-1] == "13 faults"
    assert run(str(tmp_path), "--verbose").output.count("unsupported audio format") == 12
