"""A job has changed when a file that its configuration names has."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.fingerprint import Options, changes, job_fingerprint
from shared.named_files import named_files


def _fingerprint(options: Options) -> str:
    return job_fingerprint("ana", "gesture", "data", options, "0" * 20)


@pytest.mark.parametrize("way", ["file", "setting", "setting in braces"])
def test_another_content_of_a_task_file_is_another_configuration(tmp_path: Path, way: str) -> None:
    task = tmp_path / "face.task"
    options = {
        "file": Options(config=f"extraction:\n  face_task: {task} # ours\n".encode()),
        "setting": Options(overrides=[f"extraction.face_task={task}"]),
        "setting in braces": Options(overrides=[f"extraction={{face_task: '{task}'}}"]),
    }[way]
    absent = _fingerprint(options)
    task.write_bytes(b"one")
    first = _fingerprint(options)
    assert first == _fingerprint(options)
    assert changes(absent, first) == ("config",)
    task.write_bytes(b"two")
    assert changes(first, _fingerprint(options)) == ("config",)
    task.write_bytes(b"one")
    assert _fingerprint(options) == first


def test_a_network_in_a_folder_counts_by_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "own_encoder"
    folder.mkdir()
    (folder / "encoder.json").write_text("{}")
    options = Options(config=f"encoders: {{minilm: {folder}}}".encode())
    first = _fingerprint(options)
    (folder / "model.onnx").write_bytes(b"network")
    assert _fingerprint(options) != first


def test_what_names_no_file_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "minilm").mkdir()
    (tmp_path / "minilm" / "encoder.json").write_text("{}")  # a bare name is that of a pretrained network
    assert named_files([b"a: minilm\nb: 0.5\nc: gone.task\nd: /\n", "[unclosed: {", b"\xff\xfe\x00bad: x.task"]) == {}
    (tmp_path / "own.task").write_bytes(b"one")
    assert list(named_files(["hand_task: own.task"])) == ["own.task"]
