"""The demo's data: in the project's own layout, with real media, the same for a seed, learnable and not trivial."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import LeaveOneGroupOut, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from demo import make_data as demo_data
from demo.gestures import ENCODING, landmarks
from demo.people import PEOPLE, SAMPLES_PER_LABEL, SESSIONS, Person
from gesture_trainer.preprocessing.sequences import Sequences
from gesture_trainer.train import GestureConfig, gesture_candidates
from shared.evaluation import EvaluationConfig, Validation, validate_by_session
from shared.job import Job
from shared.logs import RunLog
from shared.schema_utils import Example, SessionMetadata

ANA, BEN, CHIKA = PEOPLE


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data root with one person's three sessions."""
    folder = tmp_path_factory.mktemp("demo") / "data"
    for session in SESSIONS:
        demo_data.write_session(folder, ANA, session, seed=0)
    return folder


def sessions(root: Path) -> list[Path]:
    return sorted((root / "users" / ANA.user_id / "sessions").iterdir())


def examples(session: Path) -> list[Example]:
    lines = (session / "examples.jsonl").read_text(encoding="utf-8").splitlines()
    return [Example.model_validate_json(line) for line in lines]


def usable(session: Path, modality: str) -> list[Example]:
    return [
        example
        for example in examples(session)
        if example.modality == modality
        and example.consent_given
        and example.label_status != "rejected"
        and not example.is_partial
    ]


def test_every_person_has_four_or_five_labels_in_each_of_four_modalities() -> None:
    assert len(PEOPLE) == 3 and len(SESSIONS) == 3
    for person in PEOPLE:
        words = demo_data.vocabulary(person)
        assert sorted(words) == ["gesture", "sound", "speech", "visual_environment"]
        assert all(len(set(labels)) == len(labels) in (4, 5) for labels in words.values())


def test_each_session_holds_eight_samples_of_every_label_and_says_who_made_them(root: Path) -> None:
    assert len(sessions(root)) == 3
    for session in sessions(root):
        about = SessionMetadata.model_validate_json((session / "session.json").read_text(encoding="utf-8"))
        assert (about.user_id, about.session_id) == (ANA.user_id, session.name)
        for modality, labels in demo_data.vocabulary(ANA).items():
            assert Counter(example.label for example in usable(session, modality)) == dict.fromkeys(
                labels, SAMPLES_PER_LABEL
            )
        for example in examples(session):
            assert example.is_demo and example.performer_id == about.performer_id
            assert about.start_time and about.end_time and about.start_time <= example.timestamp <= about.end_time


def test_every_file_is_named_by_one_example_with_its_hash(root: Path) -> None:
    records: list[str] = []
    for session in sessions(root):
        named = {}
        for example in examples(session):
            records.append(example.record_id)
            if example.media:
                named[example.media.path] = example.media.sha256
            elif example.features:
                named[example.features.uri] = example.features.sha256
        present = {str(path.relative_to(session)): path for path in session.rglob("*.*") if path.parent != session}
        assert len(present) > 100 and present.keys() == named.keys()
        assert all(hashlib.sha256(path.read_bytes()).hexdigest() == named[name] for name, path in present.items())
    assert len(set(records)) == len(records)


def test_some_examples_must_be_left_out_each_for_its_own_reason(root: Path) -> None:
    everything = [example for session in sessions(root) for example in examples(session)]
    assert [e.modality for e in everything if e.label_status == "rejected"] == ["gesture"]
    assert [e.modality for e in everything if not e.consent_given] == ["sound"]
    assert [e.modality for e in everything if e.is_partial] == ["speech"]
    assert any(e.label_status == "corrected" for e in everything)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(root: Path, tmp_path: Path) -> None:
    for name, seed in (("again", 0), ("other", 1)):
        demo_data.write_session(tmp_path / name, ANA, SESSIONS[2], seed=seed)
    first, again, other = (
        {path.name: path.read_bytes() for path in (folder / "users").rglob(f"{SESSIONS[2].session_id}/**/*.*")}
        for folder in (root, tmp_path / "again", tmp_path / "other")
    )
    assert first == again and first.keys() == other.keys()
    assert [name for name in first if first[name] == other[name]] == ["session.json"]


def test_the_media_are_what_their_names_say(root: Path) -> None:
    rates, lengths = set(), set()
    for session in sessions(root):
        for example in examples(session):
            if example.modality == "sound" and example.media:
                wave, rate = soundfile.read(session / example.media.path, dtype="float32", always_2d=True)
                rates.add((rate, wave.shape[1]))
                assert 0.25 < len(wave) / rate < 2.5 and 0.003 < np.abs(wave).max() <= 1.0
            elif example.modality == "visual_environment" and example.media:
                picture = cv2.imread(str(session / example.media.path))
                assert picture is not None and picture.shape == (240, 320, 3) and picture.std() > 8
            elif example.features:
                with np.load(session / example.features.uri) as archive:
                    sequence = archive["features"]
                assert sequence.dtype == np.float32 and sequence.shape == example.features.shape
                assert sequence.shape[1] == 214 and len(sequence) >= 16
                points = sequence.reshape(len(sequence), 107, 2)
                assert points.min() >= 0 and points.max() <= 1
                assert ((points == 0).all(-1) == (points == 0).any(-1)).all()  # a missing point misses both numbers
                lengths.add(len(sequence))
    assert rates == {(16000, 1), (44100, 2)} and len(lengths) > 8


@pytest.mark.parametrize(
    ("person", "hands"), [(ANA, ["right", "right", "right"]), (BEN, ["left", "left", "right"])], ids=["ana", "ben"]
)
def test_hands_are_lost_in_some_frames_and_one_person_changes_hands_in_the_last_session(
    person: Person, hands: list[str]
) -> None:
    moving = []
    for session in SESSIONS:
        moved = []
        for take in range(6):
            points = landmarks(person.gestures[0], person, session, np.random.default_rng(take)).reshape(-1, 107, 2)
            seen = (points[:, [33, 54]] != 0).any(-1)
            assert seen.any(0).all()
            left, right = (points[seen[:, side], at].std(0).sum() for side, at in enumerate((33, 54)))
            moved.append((left, right, 1 - seen.mean()))
        left, right, lost = np.mean(moved, axis=0)
        assert 0 < lost < 0.4
        moving.append("left" if left > right else "right")
    assert moving == hands


def samples(root: Path, modality: str) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Return plain features, labels and sessions: what a first attempt without much thought would use."""
    features, labels, groups = [], [], []
    for session in sessions(root):
        for example in usable(session, modality):
            if example.features:
                with np.load(session / example.features.uri) as archive:
                    sequence = archive["features"]
                arms = sequence.reshape(-1, 107, 2)[:, 11:17]
                centred = (arms - arms[:, :2].mean((0, 1))) / np.abs(arms[:, 0] - arms[:, 1]).mean()
                features.append(np.concatenate([centred.mean(0).ravel(), centred.std(0).ravel()]))
            elif modality == "sound" and example.media:
                wave, rate = soundfile.read(session / example.media.path, always_2d=True)
                power = np.abs(np.fft.rfft(wave.mean(1), int(rate * 2))) ** 2
                bands = [band.mean() for band in np.array_split(power[100:14000], 24)]
                envelope = [part.std() for part in np.array_split(wave.mean(1), 12)]
                features.append(np.log(np.array(bands + envelope) + 1e-9))
            elif example.media:
                picture = cv2.imread(str(session / example.media.path))
                assert picture is not None
                features.append(cv2.resize(picture, (12, 9), interpolation=cv2.INTER_AREA).ravel() / 255.0)
            labels.append(example.label)
            groups.append(example.session_id)
    return features, np.array(labels), np.array(groups)


@pytest.mark.parametrize("modality", ["gesture", "sound", "visual_environment"])
def test_plain_features_learn_something_across_sessions_but_not_everything(root: Path, modality: str) -> None:
    features, labels, groups = samples(root, modality)
    model = make_pipeline(StandardScaler(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"))
    across = (cross_val_predict(model, features, labels, groups=groups, cv=LeaveOneGroupOut()) == labels).mean()
    assert 2 / len(set(labels)) < across < 0.99
    # The sessions differ visibly: the same features predict which one a sample comes from.
    correct = cross_val_predict(model, features, groups, cv=StratifiedKFold(3, shuffle=True, random_state=0)) == groups
    assert correct.mean() > 0.6


def validated(person: Person) -> tuple[Validation, np.ndarray]:
    """Return what the gesture recipe's validation says of a person's three sessions, and the true classes."""
    names = [name for name in person.gestures for _ in range(SAMPLES_PER_LABEL)]
    takes = [
        (name, session.session_id, landmarks(name, person, session, np.random.default_rng([number, take])))
        for number, session in enumerate(SESSIONS)
        for take, name in enumerate(names)
    ]
    labels, sessions, sequences = zip(*takes, strict=True)
    data = Sequences(sequences, ENCODING, 214, "body_xy")
    job = Job((person.user_id,), Path(), Path(), "demo", log=RunLog(io.StringIO()))
    candidates = gesture_candidates(job, GestureConfig(), data)
    classes = np.unique(labels, return_inverse=True)[1]
    config = EvaluationConfig(unknown=False)
    return validate_by_session(candidates, classes, sessions, range(len(classes)), config, 0), classes


@pytest.mark.slow
def test_gestures_are_learnt_across_sessions_but_a_random_split_flatters() -> None:
    validation, classes = validated(ANA)
    assert validation.random_accuracy is not None
    assert 0.8 < (validation.predicted == classes).mean() < min(0.98, validation.random_accuracy)


@pytest.mark.slow
def test_few_gestures_that_are_known_are_called_unknown_even_where_days_differ() -> None:
    validation, _ = validated(CHIKA)
    assert 1 - validation.accepted.mean() <= 0.08


def test_transcripts_are_worded_differently_in_each_session(root: Path) -> None:
    said = [example for session in sessions(root) for example in usable(session, "speech")]
    texts = np.array([example.transcript for example in said])
    labels, groups = np.array([e.label for e in said]), np.array([e.session_id for e in said])
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), RidgeClassifier())
    across = (cross_val_predict(model, texts, labels, groups=groups, cv=LeaveOneGroupOut()) == labels).mean()
    mixed = (
        cross_val_predict(model, texts, labels, cv=StratifiedKFold(3, shuffle=True, random_state=0)) == labels
    ).mean()
    assert 0.4 < across < mixed - 0.05


@pytest.mark.slow
def test_the_command_keeps_what_is_there_and_leaves_foreign_folders_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_data, "PEOPLE", (ANA,))
    monkeypatch.setattr(demo_data, "SESSIONS", SESSIONS[:1])
    run = CliRunner().invoke
    out = tmp_path / "nested" / "data"
    assert run(demo_data.main, [str(out)]).exit_code == 0
    assert json.loads((out / demo_data.MARKER).read_text(encoding="utf-8"))["seed"] == 0
    stamp = {path: path.stat().st_mtime_ns for path in out.rglob("*.*")}
    again = run(demo_data.main, [str(out)])
    assert again.exit_code == 0 and "already" in again.stderr
    assert len(stamp) > 100 and {path: path.stat().st_mtime_ns for path in out.rglob("*.*")} == stamp
    assert [path.name for path in out.parent.iterdir()] == ["data"]  # nothing of the work in progress is left

    foreign = tmp_path / "mine"
    foreign.mkdir()
    (foreign / "letter.txt").write_text("dear Chika", encoding="utf-8")
    refused = run(demo_data.main, [str(foreign)])
    assert refused.exit_code == 2 and "other files" in refused.stderr
    assert (foreign / "letter.txt").read_text(encoding="utf-8") == "dear Chika"
