"""The audit finds what was planted, and nothing where nothing was."""

from dataclasses import asdict

import numpy as np
import pytest

from shared.learning.heads import Classes
from shared.report.audit import audit, near_identical, session_fingerprint, suspected_label_errors
from shared.report.metrics import report
from shared.training_run import Audit
from tests.shared.finished_runs import dataset_of, validated

LABELS = tuple("abcde")


def _data(seed: int, dimensions: int = 20, n: int = 400, apart: float = 2.0, shift: float = 0.5):  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(seed)
    classes, place = np.arange(n) % 5, np.arange(n) * 4 // n
    centres, offsets = rng.normal(size=(5, dimensions)) * apart, rng.normal(size=(4, dimensions)) * shift
    return (centres[classes] + offsets[place] + rng.normal(size=(n, dimensions))).astype(np.float32), classes, place


def _audit(x: np.ndarray, classes: Classes, place: np.ndarray, hashes: list[str] | None = None) -> Audit:
    dataset = dataset_of([LABELS[k] for k in classes], [f"s{k}" for k in place], hashes)
    validation = validated(x, dataset)
    return audit(report(validation, classes, dataset.session_ids, LABELS), validation, dataset, x)


@pytest.mark.slow
@pytest.mark.parametrize("dimensions", [3, 6, 20, 200])
@pytest.mark.parametrize("seed", range(3))
def test_clean_data_raises_no_alarm(dimensions: int, seed: int) -> None:
    x, classes, place = _data(seed, dimensions, apart=8.0)
    found = _audit(x, classes, place)
    assert (found.identical, found.near_identical, found.suspected_labels, found.warnings) == ((), (), (), ())


@pytest.mark.slow
def test_every_identical_sample_in_another_session_is_found_and_said() -> None:
    x, classes, place = _data(0, apart=8.0)
    hashes = [f"h{k}" for k in range(400)]
    planted = [(k, k + 300) for k in range(0, 50, 5)]
    for original, copy in planted:
        x[copy], hashes[copy], classes[copy] = x[original], hashes[original], classes[original]
    hashes[1], hashes[2] = "same", "same"  # in one session: no leak
    found = _audit(x, classes, place, hashes)
    assert set(found.identical) == {(f"r{a:03d}", f"r{b:03d}") for a, b in planted}
    assert found.duplicates_across_folds == len(planted)
    assert any("10 samples are in two sessions" in text for text in found.warnings)


@pytest.mark.slow
def test_one_duplicate_is_counted_as_one() -> None:
    x, classes, place = _data(0, apart=8.0)
    hashes = [f"h{k}" for k in range(400)]
    x[300], hashes[300] = x[0], hashes[0]
    assert _audit(x, classes, place, hashes).warnings[0].startswith("1 sample is in two sessions")


@pytest.mark.parametrize("dimensions", [6, 20, 200])
def test_nearly_all_near_copies_are_found_and_hardly_anything_else(dimensions: int) -> None:
    planted, hits, others = 0, 0, 0
    for seed in range(5):
        x, _, place = _data(seed, dimensions)
        rng = np.random.default_rng(seed)
        pairs = {(k, k + 300) for k in range(0, 80, 4)}
        for original, copy in pairs:
            x[copy] = x[original] + rng.normal(size=dimensions) * 0.02 * x.std(axis=0)
        found = set(near_identical(x, place, [str(k) for k in range(400)]))
        planted, hits, others = planted + len(pairs), hits + len(found & pairs), others + len(found - pairs)
    assert hits / planted >= 0.95
    assert others == 0


@pytest.mark.slow
def test_planted_label_errors_are_named_precisely() -> None:
    named, right, planted = 0, 0, 0
    for seed in range(5):
        x, classes, place = _data(seed)
        rng = np.random.default_rng(seed)
        wrong = rng.choice(400, 20, replace=False)
        given = classes.copy()
        given[wrong] = (given[wrong] + rng.integers(1, 5, 20)) % 5
        ids = {f"r{k:03d}" for k in wrong}
        found = {str(row["record_id"]) for row in _audit(x, given, place).suspected_labels}
        named, right, planted = named + len(found), right + len(found & ids), planted + 20
    assert right / named >= 0.8
    assert right / planted >= 0.5


def test_labels_that_the_model_cannot_tell_apart_are_not_suspected() -> None:
    x, classes, place = _data(0, apart=0.05)
    assert _audit(x, classes, place).suspected_labels == ()


def test_what_the_model_often_takes_for_another_label_is_its_own_mistake() -> None:
    classes = np.repeat(np.arange(2), 20)
    chances = np.where(classes[:, None] == np.arange(2), 0.99, 0.01).astype(np.float32)
    chances[[0]] = [[0.01, 0.99]]
    assert suspected_label_errors(chances, classes).tolist() == [0]
    chances[[1, 2]] = [[0.01, 0.99]] * 2
    assert suspected_label_errors(chances, classes).tolist() == []


@pytest.mark.slow
def test_features_that_tell_sessions_apart_better_than_labels_are_a_warning() -> None:
    x, classes, place = _data(0, apart=0.3, shift=5.0)
    found = _audit(x, classes, place)
    assert found.session_skill is not None and found.session_skill > 0.9
    assert any("separate sessions better than labels" in text for text in found.warnings)
    assert session_fingerprint(x, classes, np.zeros_like(place)) is None


@pytest.mark.slow
def test_a_random_split_that_flatters_is_a_warning() -> None:
    """In every session the labels lie elsewhere, so neighbours of the same session give the answer away."""
    rng = np.random.default_rng(0)
    classes, place = np.arange(400) % 5, np.arange(400) // 100
    centres = rng.normal(size=(4, 5, 60)) * 2
    x = (centres[place, classes] + rng.normal(size=(400, 60))).astype(np.float32)
    assert any(text.startswith("a random split reports") for text in _audit(x, classes, place).warnings)


@pytest.mark.slow
def test_an_audit_is_plain_values() -> None:
    assert asdict(_audit(*_data(0, apart=8.0)))["duplicates_across_folds"] == 0
