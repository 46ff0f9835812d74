"""The steps that all recipes share: people of a pooled model never straddle a split, and the quality gate holds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from shared.commands.main import run
from shared.commands.train import trainer_command
from shared.config import TrainerConfig
from shared.data_loader import DataFilter, Dataset, load_dataset
from shared.evaluation import Validation
from shared.features.cache import FeatureCache
from shared.features.graph import FeatureGraph, Samples, TensorSpec
from shared.job import Job
from shared.learning.candidates import Candidate, PrecomputedFeatures, Rows
from shared.learning.classifiers import LDA
from shared.learning.familiarity import whitened_familiarity
from shared.learning.heads import fitter
from shared.recipe import featurise, load_recipe, validate
from shared.trainers import find_trainer
from tests.shared.data.session_folders import row, session_folder, write_rows

PEOPLE = ("anna", "ben", "chika", "dora")
LABELS = ("drink", "eat", "more", "stop")
WIDTH = 60


def write_people(root: Path) -> Path:
    """Write two sessions of every person, with two samples of every label in each."""
    for person in PEOPLE:
        for session in ("s1", "s2"):
            folder = session_folder(root, person, session)
            write_rows(folder, [row(folder, f"{person}-{session}-{k}", LABELS[k % 4]) for k in range(8)])
    return root


def validate_on_habits(dataset: Dataset, tmp_path: Path, sessions: Sequence[str] | None = None) -> Validation:
    """Validate a candidate whose features say how each person does each label, alike in all sessions of theirs."""
    rng = np.random.default_rng(3)
    habits = {(person, label): rng.normal(size=WIDTH) for person in PEOPLE for label in LABELS}
    x = np.stack([habits[sample.user_id, sample.label] + rng.normal(0, 0.01, WIDTH) for sample in dataset.samples])
    rows = Rows(x.astype(np.float32), np.zeros((0, WIDTH), np.float32), np.zeros(0, np.int64))
    graph = FeatureGraph("x", (TensorSpec("x", "float32", (WIDTH,)),), lambda inputs: inputs["x"])
    candidate = Candidate("lda", PrecomputedFeatures(graph, rows), fitter(LDA()), whitened_familiarity)
    job = Job(dataset.users, tmp_path, tmp_path, "run")
    return validate(job, [candidate], dataset, TrainerConfig(), sessions)


@pytest.mark.parametrize("given", [False, True], ids=["its own sessions", "given sessions"])
def test_no_person_of_a_pooled_model_is_on_both_sides_of_a_split(tmp_path: Path, given: bool) -> None:
    dataset = load_dataset(write_people(tmp_path), PEOPLE, "speech", DataFilter())
    validation = validate_on_habits(dataset, tmp_path, dataset.session_ids if given else None)
    folds = {
        person: {int(f) for f, s in zip(validation.fold, dataset.samples, strict=True) if s.user_id == person}
        for person in PEOPLE
    }
    assert [len(held_out) for held_out in folds.values()] == [1, 1, 1, 1]
    accuracy = (validation.predicted == dataset.label_index).mean()
    assert accuracy < 0.6, "what is known of a person from their other session was used"


def test_of_one_person_another_session_may_be_trained_on(tmp_path: Path) -> None:
    dataset = load_dataset(write_people(tmp_path), PEOPLE[:1], "speech", DataFilter())
    validation = validate_on_habits(dataset, tmp_path)
    assert len(set(validation.fold.tolist())) == 2
    assert (validation.predicted == dataset.label_index).mean() == 1.0


@pytest.fixture
def guesswork(demo_data: Path, tmp_path: Path) -> Path:
    """Ana's gestures with labels that say nothing, three in four of them the same."""
    shutil.copytree(demo_data / "users/ana", tmp_path / "data/users/ana")
    rng = np.random.default_rng(0)
    for path in (tmp_path / "data/users/ana/sessions").glob("*/examples.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        gestures = [line for line in lines if line["modality"] == "gesture"]
        labels = ["more"] * len(gestures)
        labels[: len(labels) // 4] = ["stop"] * (len(labels) // 4)
        for line, label in zip(gestures, rng.permutation(labels), strict=True):
            line["label"] = str(label)
        path.write_text("".join(json.dumps(line) + "\n" for line in gestures))
    return tmp_path / "data"


@pytest.mark.slow
@pytest.mark.parametrize(("gate", "code"), [(None, 4), ("true", 4), ("false", 0)])
def test_a_model_no_better_than_the_commonest_label_is_published_only_where_that_is_asked_for(
    gate: str | None, code: int, guesswork: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gesture = find_trainer("gesture")
    words = ["--user", "ana", "--data", str(guesswork), "--out", str(tmp_path / "out"), "--demo-data"]
    words += ["--registry", str(tmp_path / "models")] + (
        [] if gate is None else ["--set", f"gate.beat_majority={gate}"]
    )
    assert run(lambda: trainer_command(gesture, load_recipe(gesture))(words, standalone_mode=False)) == code
    entry = json.loads(capsys.readouterr().out)
    assert (tmp_path / "models").exists() == (code == 0)
    if code:
        assert entry["error_type"] == "QualityGateError"
        assert "no better than always predicting the most frequent label" in entry["error_message"]
    else:
        metrics = entry["training_metrics"]
        assert metrics["accuracy"] <= metrics["majority_baseline"] and entry["verdict"] == "weak"


def test_features_of_samples_and_background_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[int] = []
    run_graph = FeatureGraph.run

    def counted(graph: FeatureGraph, samples: Samples, which: Sequence[int]) -> Iterator[np.ndarray]:
        computed.append(len(which))
        return run_graph(graph, samples, which)

    monkeypatch.setattr(FeatureGraph, "run", counted)
    graph = FeatureGraph("x", (TensorSpec("x", "float32", (3,)),), lambda inputs: inputs["x"])
    samples = [{"x": np.full(3, k, np.float32)} for k in range(4)]
    job = Job(("ana",), tmp_path, tmp_path, "run", cache=FeatureCache(tmp_path / "cache.sqlite"))
    first, second = (featurise(job, graph, samples[:3], list("abc"), background=samples) for _ in range(2))
    assert computed == [3, 4, 0, 0]
    for rows in (first, second):
        assert rows.background is not None
        np.testing.assert_array_equal(rows.background, [[k] * 3 for k in range(4)])
        np.testing.assert_array_equal(rows.base, rows.background[:3])
