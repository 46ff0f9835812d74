"""The contract that all four trainers keep, on the demo's data."""

from __future__ import annotations

import importlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_registry.names import Modality
from model_registry.store import Registry
from shared import recipe
from shared.config import load_config
from shared.features import graph, graph_cache
from shared.job import Job
from shared.learning.candidates import Candidate, FittedModel
from shared.learning.cost import PlannedCandidate
from shared.learning.decision_rule import DecisionRule
from shared.learning.heads import Features
from shared.prediction import LiveModel, classifier_output, portable_model
from shared.recipe import load_recipe
from shared.schema_utils import TrainingLogEntry
from shared.trainers import Trainer, find_trainer, modality_names
from shared.training_run import Exported, Replay
from tests.paths import ROOT
from tests.trainer_runs import PACKAGES, USER, Run, copy_modality, copy_some, runs_of

A3CP_REQUIRED = {"user_id", "modality", "timestamp", "sample_count", "training_config", "status"}
A3CP_REQUIRED |= {"model_artifact_path", "label_encoder_path", "schema_version"}


@pytest.fixture
def data(demo_data: Path) -> Path:
    return demo_data


@pytest.fixture(params=PACKAGES)
def trainer(request: pytest.FixtureRequest) -> Trainer:
    return find_trainer(request.param)


@pytest.fixture
def train(trainer: Trainer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    return runs_of(trainer, tmp_path / "out", capsys)


def test_every_trainer_is_found_by_its_modality() -> None:
    assert set(PACKAGES) == set(modality_names())
    for modality, package in PACKAGES.items():
        found = find_trainer(modality)
        assert (found.modality, found.package) == (modality, package)


def test_configurations_say_what_the_schema_says(trainer: Trainer) -> None:
    files = sorted((ROOT / trainer.package / "configs").glob("*.yaml"))
    assert len(files) >= 2, "the defaults and an alternative"
    for path in files:
        first = path.read_text().splitlines()[0]
        assert first.startswith("# ")
        assert f"{trainer.console_script} " in first
        assert f"--config {trainer.package}/configs/{path.name}" in first
        schema = load_recipe(trainer).config
        loaded = load_config(schema, path, [])
        assert (loaded == schema()) == (path.name == "default.yaml")


@pytest.mark.slow
def test_a_run_publishes_and_says_so(trainer: Trainer, train: Run, data: Path, tmp_path: Path) -> None:
    root, files = copy_modality(data, trainer.modality, tmp_path / "data")
    lines = [json.loads(line) for line in files[0].read_text().splitlines()]
    lines[0]["label_status"], lines[1]["consent_given"] = "rejected", False
    files[0].write_text("\n".join(map(json.dumps, lines)) + "\n")
    ran = train(root, "--registry", str(tmp_path / "models"))
    entry = TrainingLogEntry.model_validate(ran.entry)
    assert (ran.code, entry.status, entry.model_version) == (0, "success", "v1")
    assert set(ran.entry) >= A3CP_REQUIRED
    assert all(isinstance(value, float) for value in ran.entry["training_metrics"].values())
    metrics = ran.entry["training_metrics"]
    assert metrics["accuracy_low"] <= metrics["accuracy"] <= metrics["accuracy_high"]
    assert metrics["accuracy"] > metrics["majority_baseline"] + 0.2
    assert entry.session_count == 3
    assert "total" in entry.seconds
    dropped = {row["record_id"]: row["reason"] for row in ran.entry["dropped"]}
    assert dropped.keys() >= {lines[0]["record_id"], lines[1]["record_id"]}
    assert all(dropped.values())
    resolved = Registry(tmp_path / "models").resolve(USER, trainer.modality)
    assert resolved.entry.metrics == metrics
    stored = json.loads(resolved.files["training_log"].read_text())
    assert stored["model_artifact_path"] == entry.model_artifact_path
    assert resolved.files["model"].stat().st_size < 4_000_000


@pytest.mark.slow
def test_no_cache_changes_the_model(
    trainer: Trainer, train: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_TRAINER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(graph_cache, "_SETTLED", -np.inf)  # else sources that were just edited are traced each time
    root, _ = copy_modality(data, trainer.modality, tmp_path / "data")
    runs = [train(root, word) for word in ("--no-cache", "--cache")]
    for name in ("_traced", "_remembered"):
        monkeypatch.setattr(graph, name, _traced_again)
    runs.append(train(root, "--cache"))
    assert [ran.code for ran in runs] == [0, 0, 0]
    assert (tmp_path / "cache" / "features.sqlite").is_file()
    models = {Path(ran.entry["bundle"], "model.onnx").read_bytes() for ran in runs}
    assert len(models) == 1


def _traced_again(*_: Any) -> bytes:
    raise AssertionError("a graph that the cache holds was traced again")


@pytest.mark.slow
def test_features_in_the_cache_that_replay_contradicts_are_computed_anew(
    trainer: Trainer, train: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_TRAINER_CACHE", str(tmp_path / "cache"))
    root, _ = copy_modality(data, trainer.modality, tmp_path / "data")
    first = train(root, "--cache")
    with sqlite3.connect(tmp_path / "cache/features.sqlite") as cache:
        spec = first.entry["feature_spec_id"]
        rows = cache.execute("SELECT rowid, data FROM features WHERE spec = ?", [spec]).fetchall()
        for number, content in rows:
            wrong = np.frombuffer(content, np.float32)[::-1] * 3 + 1
            cache.execute("UPDATE features SET data = ? WHERE rowid = ?", [wrong.tobytes(), number])
    second, third = train(root, "--cache"), train(root, "--cache")
    assert (first.code, second.code, third.code) == (0, 0, 0)
    assert first.model == second.model == third.model
    assert ("the feature cache may be wrong" in second.complaints) == bool(rows)
    assert "the feature cache may be wrong" not in third.complaints


@pytest.mark.slow
def test_a_dry_run_plans_what_training_does(
    trainer: Trainer, train: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same candidates, as wide as their features turn out to be, and none left out of the demo's data."""
    module = importlib.import_module(f"{trainer.package}.train")
    planned: list[PlannedCandidate] = []
    compared: list[Candidate] = []

    def spy_on_plan(job: Job, config: Any, dataset: Any, candidates: Sequence[PlannedCandidate]) -> Any:
        planned.extend(candidates)
        return recipe.within_budget(job, config, dataset, candidates)

    def spy_on_validation(job: Job, candidates: Sequence[Candidate], *rest: Any) -> Any:
        compared.extend(candidates)
        return recipe.validate(job, candidates, *rest)

    monkeypatch.setattr(module, "within_budget", spy_on_plan)
    monkeypatch.setattr(module, "validate", spy_on_validation)
    root = copy_some(data, trainer.modality, tmp_path / "data", each=4)
    described = train(root, "--dry-run").entry
    entry = train(root).entry
    assert [one["name"] for one in described["candidates"]] == list(entry["metrics"]["candidates"])
    assert described["left_out_candidates"] == entry["left_out_candidates"] == []
    assert described["label_counts"] == entry["label_counts"]
    every = np.arange(entry["sample_count"])
    widths = {candidate.name: candidate.source.rows(every).base.shape[1] for candidate in compared}
    assert {candidate.name: candidate.width for candidate in planned} == widths


@pytest.mark.slow
def test_the_same_data_configuration_and_seed_give_the_same_bytes(train: Run, data: Path) -> None:
    first, second = (Path(train(data, "--seed", "5").entry["bundle"]) for _ in range(2))
    assert first != second
    assert (first / "model.onnx").read_bytes() == (second / "model.onnx").read_bytes()


@pytest.mark.slow
def test_the_published_file_answers_as_training_did(
    trainer: Trainer, train: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected: list[tuple[Features, np.ndarray]] = []
    replay = recipe.replay

    def spy(
        exported: Exported,
        features: Features,
        samples: Any,
        whole: Any,
        fitted: FittedModel,
        rule: DecisionRule,
        *rest: Any,
    ) -> Replay:
        _, chances, accepted, _ = rule(*fitted(features))
        expected.append((np.asarray(chances), np.asarray(accepted)))
        return replay(exported, features, samples, whole, fitted, rule, *rest)

    monkeypatch.setattr(recipe, "replay", spy)
    train(data, "--registry", str(tmp_path / "models"))
    ((chances, accepted),) = expected
    resolved = Registry(tmp_path / "models").resolve(USER, trainer.modality)
    model = LiveModel(resolved.files["model"], resolved.encoders)
    Registry(tmp_path / "models").export(USER, trainer.modality, tmp_path / "portable.onnx", form="onnx")
    portable = portable_model(tmp_path / "portable.onnx")
    assert not portable.encoders
    labels = model.properties["labels"]
    samples = _samples(data, trainer.modality, tmp_path)
    assert len(samples) == len(chances)
    for k in range(0, len(samples), 9):
        for found in (live.classify(samples[k], load_recipe(trainer)) for live in (model, portable)):
            wanted = classifier_output(labels, chances[k], bool(accepted[k]))
            assert found.keys() == wanted.keys() >= {"unknown"}
            np.testing.assert_allclose(list(found.values()), list(wanted.values()), atol=1e-3)
            assert sum(found.values()) == pytest.approx(1)


def _samples(data: Path, modality: Modality, folder: Path) -> list[Path]:
    """Return a file for each example that training used, in its order; a transcript gets a text file."""
    from shared.data_loader import DataFilter, load_dataset

    files = []
    for sample in load_dataset(data, [USER], modality, DataFilter(include_demo=True)).samples:
        path = sample.path
        if path is None:
            path = folder / f"{sample.record_id}.txt"
            path.write_text(sample.example.transcript or "")
        files.append(path)
    return files


def test_all_bad_records_are_reported_and_nothing_is_written(
    trainer: Trainer, train: Run, data: Path, tmp_path: Path
) -> None:
    root, files = copy_modality(data, trainer.modality, tmp_path / "bad")
    lines = [json.loads(line) for line in files[0].read_text().splitlines()]
    del lines[1]["label"]
    lines[2]["timestamp"] = "yesterday"
    lines[3]["colour"] = "blue"
    if lines[4].get("transcript") is None:
        reference = lines[4].get("media") or lines[4]["features"]
        reference["sha256" if "sha256" in reference else "hash"] = (
            "0" * 64 if "sha256" in reference else "sha256:" + "0" * 64
        )
    else:
        lines[4]["transcript"] = " "
    files[0].write_text("\n".join(map(json.dumps, lines)) + "\n")
    ran = train(root, "--registry", str(tmp_path / "models"))
    assert (ran.code, ran.entry["status"], ran.entry["error_type"]) == (3, "failure", "DataError")
    assert sorted(fault["line"] for fault in ran.entry["faults"]) == [2, 3, 4, 5]
    assert all(f"examples.jsonl:{line}: " in ran.complaints for line in (2, 3, 4, 5))
    assert ran.entry["model_artifact_path"] == ran.entry["label_encoder_path"] == ""
    written = [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert written == [f"{trainer.modality}_{USER}_{ran.entry['run_id']}.json"], "the log of the failure alone"
    assert not (tmp_path / "models").exists()


@pytest.mark.slow
def test_below_the_gate_nothing_is_published(trainer: Trainer, train: Run, data: Path, tmp_path: Path) -> None:
    root, files = copy_modality(data, trainer.modality, tmp_path / "shuffled")
    rng = np.random.default_rng(0)
    for path in files:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        labels = rng.permutation([line["label"] for line in lines])
        for line, label in zip(lines, labels, strict=True):
            line["label"] = str(label)
        path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    ran = train(root, "--registry", str(tmp_path / "models"), "--set", "gate.minimum_accuracy=0.8")
    assert (ran.code, ran.entry["error_type"]) == (4, "QualityGateError")
    assert "below gate.minimum_accuracy" in ran.complaints
    assert not list((tmp_path / "out").glob("*/bundle.json"))
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["--set", "sed=1"], 2, "sed: "),
        (["--set", "evaluation.folds=1"], 2, "evaluation.folds: "),
        (["--config", "nowhere.yaml"], 2, "nowhere.yaml: "),
        (["--session", "never"], 3, "never"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_a_log_entry(
    words: list[str], code: int, complaint: str, train: Run, data: Path
) -> None:
    ran = train(data, *words)
    assert (ran.code, ran.entry["status"]) == (code, "failure")
    assert complaint in ran.complaints
    assert "Traceback" not in ran.complaints
    assert "Traceback" in ran.entry["error_trace"]


@pytest.mark.parametrize("user", ["../../x", "nobody"])
def test_a_user_that_is_not_there_is_refused(user: str, train: Run, data: Path) -> None:
    ran = train(data, user=user)
    assert ran.code == (2 if "/" in user else 3)
    assert len(ran.complaints.splitlines()) <= 3


@pytest.mark.slow
def test_an_internal_error_is_told_whole(
    trainer: Trainer, train: Run, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("by chance")

    monkeypatch.setattr(recipe, "report", broken)
    ran = train(data)
    assert (ran.code, ran.entry["error_type"], ran.entry["stage"]) == (5, "ZeroDivisionError", "validate")
    assert "ZeroDivisionError: by chance" in ran.entry["error_trace"]


def test_one_label_is_too_few(trainer: Trainer, train: Run, data: Path, tmp_path: Path) -> None:
    root, files = copy_modality(data, trainer.modality, tmp_path / "single")
    label = json.loads(files[0].read_text().splitlines()[0])["label"]
    for path in files:
        kept = [line for line in path.read_text().splitlines() if json.loads(line)["label"] == label]
        path.write_text("".join(line + "\n" for line in kept))
    ran = train(root)
    assert ran.code == 3
    assert label in ran.complaints


@pytest.mark.parametrize(("each", "sessions"), [(1, 1), (2, 1), (1, 2)])
@pytest.mark.slow
def test_one_or_two_samples_of_a_label_train_and_are_called_insufficient(
    trainer: Trainer, train: Run, data: Path, tmp_path: Path, each: int, sessions: int
) -> None:
    root = copy_some(data, trainer.modality, tmp_path / "few", each)
    for path in sorted((root / "users" / USER / "sessions").glob("*/examples.jsonl"))[sessions:]:
        path.write_text("")
    if each * sessions == 1:
        refused = train(root)
        assert refused.code == 3
        assert refused.complaints.count("set minimum_per_label=1") == len(refused.entry["faults"]) >= 4
    ran = train(root, "--set", f"minimum_per_label={each}")
    assert (ran.code, ran.entry["verdict"]) == (0, "insufficient data")
    advice = ran.entry["metrics"]["advice"]
    for label in ran.entry["labels"]:
        (line,) = [line for line in advice if f"of `{label}`" in line]
        assert f"Record {10 - each * sessions} more of `{label}` in {3 - sessions} new session" in line
    assert len(ran.entry["metrics"]["predictions"]) == each * sessions * len(ran.entry["labels"])


@pytest.mark.slow
def test_the_three_ways_to_start_it_are_one(trainer: Trainer) -> None:
    script = Path(sys.executable).with_name(trainer.console_script)
    ways = [[str(script)], [sys.executable, "-m", f"{trainer.package}.train"]]
    ways.append([sys.executable, str(ROOT / trainer.package / "train.py")])
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    helped = [
        subprocess.run([*way, "--help"], capture_output=True, check=True, env=environment, cwd="/") for way in ways
    ]
    said = {done.stdout for done in helped}
    assert len(said) == 1
    assert b"Examples:" in said.pop()
