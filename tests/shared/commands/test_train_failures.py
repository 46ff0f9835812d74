"""Whatever makes a run fail, its log says all that was known by then, on standard output and as a file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared import recipe
from shared.commands.main import run
from shared.commands.train import trainer_command
from shared.config import TrainerConfig
from shared.data_loader import load_features
from shared.errors import ReplayError
from shared.job import Job, ModelSpec
from shared.recipe import Outcome, Recipe, load, package, validate
from shared.schema_utils import TrainingLogEntry
from shared.trainers import find_trainer
from shared.training import UNKNOWN_USER
from tests.shared.data.session_folders import features_row, session_folder, write_rows
from tests.shared.finished_runs import candidate_of

A3CP_REQUIRED = {
    "user_id": str,
    "modality": str,
    "timestamp": str,
    "sample_count": int,
    "training_config": dict,
    "status": str,
    "model_artifact_path": str,
    "label_encoder_path": str,
    "schema_version": str,
}
COUNTS = {
    "sample_count": 24,
    "labels": ["come", "stop"],
    "label_counts": {"come": 12, "stop": 12},
    "session_count": 3,
    "sessions": ["s1", "s2", "s3"],
}


def _train(job: Job, config: TrainerConfig) -> Outcome:
    dataset = load(job, config, "gesture")
    features = np.stack([load_features(sample)[0] for sample in dataset.samples])
    validation = validate(job, [candidate_of(features)], dataset, config)
    return package(job, validation, [{"x": row} for row in features], dataset, config, ModelSpec({}, "none"))


TRAINER = find_trainer("gesture")
RECIPE = Recipe(TrainerConfig, _train, lambda *_: {})


@dataclass
class Place:
    """A data root with 24 gestures of anna in three sessions, and an output folder that is not there yet."""

    root: Path
    monkeypatch: pytest.MonkeyPatch
    words: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(0)
        self.lines = []
        for s in ("s1", "s2", "s3"):
            folder = session_folder(self.data, session=s)
            centres = {"come": [[1.5, 0.0, 0.0]], "stop": [[0.0, 1.5, 0.0]]}
            rows = [
                features_row(folder, f"{s}-{k}", label, centres[label] + rng.normal(size=(1, 3)))
                for k, label in enumerate(["come", "stop"] * 4)
            ]
            self.lines.append(write_rows(folder, rows))
        self.words = ["--user", "anna", "--data", str(self.data), "--out", str(self.out), "--run-id", "r1"]

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def out(self) -> Path:
        return self.root / "out"

    def file(self, name: str, text: str = "") -> str:
        (self.root / name).write_text(text)
        return str(self.root / name)

    def give(self, option: str, value: str) -> None:
        self.words[self.words.index(option) + 1] = value

    def rewrite(self, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
        for path in self.lines:
            rows = [row for line in path.read_text().splitlines() if (row := change(json.loads(line))) is not None]
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def break_step(self, name: str, error: Exception) -> None:
        def broken(*_: Any) -> None:
            raise error

        self.monkeypatch.setattr(recipe, name, broken)


def _add(*words: str) -> Callable[[Place], None]:
    return lambda place: place.words.extend(words)


def _give(option: str, value: Callable[[Place], str]) -> Callable[[Place], None]:
    return lambda place: place.give(option, value(place))


def _without_user(place: Place) -> None:
    del place.words[:2]


def _two_users(place: Place) -> None:
    place.words += ["--pool-users", "anna,ben", "--consent-to-pool"]


def _taken(place: Place) -> None:
    (place.out / "gesture_anna_r1").mkdir(parents=True)


def _bad_line(place: Place) -> None:
    place.lines[0].write_text(place.lines[0].read_text() + "{\n")


def _unreadable(place: Place) -> None:
    (place.lines[0].parent / "features" / "s1-0.npz").unlink()


def _without_consent(place: Place) -> None:
    place.rewrite(lambda row: {**row, "consent_given": False})


def _too_few(place: Place) -> None:
    place.rewrite(lambda row: row if row["label"] == "come" or row["record_id"] == "s1-1" else None)


def _one_label(place: Place) -> None:
    place.rewrite(lambda row: {**row, "label": "come"})


def _full_disk(place: Place) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    place.monkeypatch.setattr(os, "fsync", full)


@dataclass(frozen=True)
class Case:
    arrange: Callable[[Place], None]
    code: int
    error: str
    message: str
    known: str = ""  # what is known when it fails: user, config, samples, dataset, metrics; each implies those before
    stored: bool = True  # whether the output folder can take the log
    counts: dict[str, Any] = field(default_factory=dict)  # that differ from COUNTS


CASES = {
    "no user": Case(_without_user, 2, "UsageError", "name whose model to train"),
    "user and pool": Case(_two_users, 2, "UsageError", "name whose model to train", "user"),
    "unknown option": Case(_add("--colour"), 2, "NoSuchOption", "--colour", "user"),
    "bad seed": Case(_add("--seed", "x"), 2, "BadParameter", "--seed", "user"),
    "bad user": Case(_give("--user", lambda _: "../x"), 2, "InvalidNameError", "--user '../x': use 1 to 64"),
    "bad run id": Case(_give("--run-id", lambda _: "a/b"), 2, "InvalidNameError", "--run-id 'a/b'", "user"),
    "bad setting": Case(_add("--set", "sed=1"), 2, "ConfigError", "--set sed=1: sed: is not a known key", "user"),
    "bad YAML": Case(
        lambda p: p.words.extend(["--config", p.file("c.yaml", "a: [1")]), 2, "ConfigError", "c.yaml:1: ", "user"
    ),
    "no such configuration": Case(
        _add("--config", "nowhere.yaml"), 2, "ConfigError", "nowhere.yaml: (whole): file not found", "user"
    ),
    "a folder as configuration": Case(
        lambda p: p.words.extend(["--config", str(p.root)]), 2, "ConfigError", "(whole): is a folder; name", "user"
    ),
    "a file as data root": Case(
        _give("--data", lambda p: p.file("d.txt")), 2, "ConfigError", "d.txt: --data: is a file; name", "config"
    ),
    "a file as output": Case(
        _give("--out", lambda p: p.file("o.txt")), 2, "ConfigError", "o.txt: --out: is a file; name", "config", False
    ),
    "output below a file": Case(
        _give("--out", lambda p: p.file("o.txt") + "/a/b"), 2, "ConfigError", "--out: lies below ", "config", False
    ),
    "output that cannot be made": Case(
        _give("--out", lambda _: "/proc/x"), 2, "ConfigError", "/proc/x: --out: cannot be written: ", "config", False
    ),
    "run id that is taken": Case(_taken, 2, "ConfigError", "--run-id: gesture_anna_r1 exists already", "config"),
    "no such data root": Case(
        _give("--data", lambda _: "nowhere"), 3, "DataError", "nowhere: data: is not a folder", "config"
    ),
    "no such user": Case(
        _give("--user", lambda _: "ben"), 3, "DataError", "user_id: no such user; there are anna", "samples",
        counts=dict.fromkeys(("sample_count", "session_count"), 0) | {"labels": [], "label_counts": {}, "sessions": []},
    ),
    "a line that is no JSON": Case(_bad_line, 3, "DataError", "examples.jsonl:9: (line): is not readable", "samples"),
    "a file that is missing": Case(
        _unreadable, 3, "DataError", "features: features/s1-0.npz: file not found", "samples"
    ),
    "no consent": Case(
        _without_consent, 3, "DataError", "no sample to train on: 24 left out (no consent)", "samples",
        counts=dict.fromkeys(("sample_count", "session_count"), 0) | {"labels": [], "label_counts": {}, "sessions": []},
    ),
    "too few samples": Case(
        _too_few, 3, "DataError", "'stop' has 1 gesture sample; at least 2 are needed", "samples",
        counts={"sample_count": 13, "label_counts": {"come": 12, "stop": 1}},
    ),
    "one label": Case(
        _one_label, 3, "DataError", "all gesture samples are 'come'; at least two labels", "samples",
        counts={"labels": ["come"], "label_counts": {"come": 24}},
    ),
    "no such session": Case(
        _add("--session", "s1", "--session", "s9"), 3, "DataError", "there is no session 's9'", "samples",
        counts={"sample_count": 8, "session_count": 1, "sessions": ["s1"], "label_counts": {"come": 4, "stop": 4}},
    ),
    "internal error": Case(
        lambda p: p.break_step("report", ZeroDivisionError("by chance")), 5, "ZeroDivisionError",
        "internal: ZeroDivisionError: by chance", "dataset",
    ),
    "quality gate": Case(
        _add("--set", "gate.minimum_accuracy=1.0"), 4, "QualityGateError", "below gate.minimum_accuracy", "metrics"
    ),
    "replay": Case(
        lambda p: p.break_step("replay", ReplayError("sample 3: they differ")), 5, "ReplayError", "sample 3", "metrics"
    ),
    "out of memory": Case(
        lambda p: p.break_step("export_model", MemoryError()), 5, "MemoryError", "internal: MemoryError", "metrics"
    ),
    "full disk": Case(_full_disk, 5, "DiskFullError", "no room is left on the disk; make room", "metrics", False),
}  # fmt: skip
LEVELS = ("user", "config", "samples", "dataset", "metrics")


@pytest.mark.parametrize("name", CASES)
def test_a_failure_leaves_a_log_of_all_that_was_known(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case, place = CASES[name], Place(tmp_path, monkeypatch)
    case.arrange(place)
    before = _files(tmp_path)
    code = run(lambda: trainer_command(TRAINER, RECIPE)(place.words, standalone_mode=False))
    printed = capsys.readouterr()
    (line,) = printed.out.splitlines()
    entry = json.loads(line)

    assert (code, entry["status"], entry["error_type"]) == (case.code, "failure", case.error)
    assert case.message in entry["error_message"] and entry["error_message"] in printed.err.replace("error: ", "")
    assert entry["error_trace"].startswith("Traceback")
    TrainingLogEntry.model_validate(entry)
    assert {key: type(entry[key]) for key in A3CP_REQUIRED} == A3CP_REQUIRED
    assert entry["modality"] == "gesture" and entry["seconds"]["total"] >= 0
    if case.error in ("ConfigError", "DataError"):
        assert [f"{f['path']}:{f['line']}" if f["line"] else f["path"] for f in entry["faults"]]

    known = LEVELS[: LEVELS.index(case.known) + 1] if case.known else ()
    user = place.words[place.words.index("--user") + 1] if "user" in known else UNKNOWN_USER
    assert entry["user_id"] == user
    assert bool(entry["training_config"]) == ("config" in known)
    if "config" in known:
        assert entry["training_config"].keys() == TrainerConfig().model_dump().keys()
    counts = COUNTS | case.counts if "samples" in known else dict.fromkeys(COUNTS)
    assert {key: entry[key] or None for key in COUNTS} == {key: value or None for key, value in counts.items()}
    assert bool(entry["data_fingerprint"]) == ("dataset" in known)
    assert bool(entry["training_metrics"]) == bool(entry["metrics"]) == ("metrics" in known)
    if "metrics" in known:
        assert entry["training_metrics"]["accuracy"] < 1 and len(entry["metrics"]["predictions"]) == 24

    new = {path: content for path, content in _files(tmp_path).items() if path not in before}
    stored = place.out / "failures" / f"gesture_{entry['user_id']}_{entry['run_id']}.json"
    assert set(new) == ({stored} if case.stored else set()), "the log, and nothing else"
    if case.stored:
        assert json.loads(new[stored]) == entry
    else:
        assert "the log of this failure is not in" in entry["warnings"][-1]


def _files(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_the_toy_recipe_that_fails_above_succeeds_when_nothing_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Place(tmp_path, monkeypatch)
    assert run(lambda: trainer_command(TRAINER, RECIPE)(place.words, standalone_mode=False)) == 0
    entry = json.loads(capsys.readouterr().out)
    assert {key: entry[key] for key in COUNTS} == COUNTS
    assert Path(entry["bundle"]) == place.out / "gesture_anna_r1"
    assert not (place.out / "failures").exists()


@pytest.mark.slow
def test_each_of_several_users_leaves_a_log_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Place(tmp_path, monkeypatch)
    place.words += ["--user", "ben", "--user", "carl"]
    assert run(lambda: trainer_command(TRAINER, RECIPE)(place.words, standalone_mode=False)) == 3
    entries = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(entry["user_id"], entry["status"]) for entry in entries] == [
        ("anna", "success"),
        ("ben", "failure"),
        ("carl", "failure"),
    ]
    assert sorted(path.name for path in (place.out / "failures").iterdir()) == [
        "gesture_ben_r1.json",
        "gesture_carl_r1.json",
    ]
