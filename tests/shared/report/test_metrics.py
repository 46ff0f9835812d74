"""Figures with intervals that hold, and verdicts that promise nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score

from shared.features.probes import Probe
from shared.learning.calibration import calibration_error, reliability
from shared.report.metrics import judge, with_probes
from shared.training_run import LabelReport
from tests.shared.finished_runs import finished_run


def _label(name: str, support: int = 20, recall: float = 0.9, within: bool = False, sessions: int = 3) -> LabelReport:
    return LabelReport(name, 0.9, recall, 0.7, 1.0, 0.9, support, sessions, within)


GOOD = {
    "accuracy_low": 0.8, "majority_baseline": 0.3, "balanced_accuracy": 0.9, "coverage": 0.95,
    "false_acceptance_rate": 0.1, "false_acceptance_rate_high": 0.3,
}  # fmt: skip


def test_values_are_scikit_learns_and_lie_within_their_intervals(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    found, truth, predicted = run.report, run.dataset.label_index, run.validation.predicted
    assert found.confusion_matrix.tolist() == confusion_matrix(truth, predicted).tolist() == [[12, 0], [1, 11]]
    expected = {
        "accuracy": accuracy_score(truth, predicted),
        "balanced_accuracy": balanced_accuracy_score(truth, predicted),
        "f1_macro": f1_score(truth, predicted, average="macro"),
    }
    assert {name: found.metrics[name] for name in expected} == pytest.approx(expected)
    for name in expected:
        assert found.metrics[f"{name}_low"] < found.metrics[name] < found.metrics[f"{name}_high"]
    assert [row.f1 for row in found.labels] == pytest.approx(f1_score(truth, predicted, average=None).tolist())
    (confusion,) = found.confusions
    assert (confusion.label, confusion.predicted, confusion.count, confusion.support) == ("stop", "come", 1, 12)
    assert found.metrics["false_rejection_rate"] == pytest.approx(1 - found.metrics["coverage"])


def test_calibration_error_of_a_known_case() -> None:
    chances = np.array([[0.9, 0.1]] * 10, np.float32)
    correct = np.array([True] * 6 + [False] * 4)
    assert calibration_error(chances, correct) == pytest.approx(0.3)
    assert reliability(chances, correct) == ((pytest.approx(0.9), 0.6, 10),)


@pytest.mark.parametrize(
    ("verdict", "accepted", "expected"),
    [("good", 0, "good"), ("good", 1, "weak"), ("weak", 1, "weak"), ("insufficient data", 1, "insufficient data")],
)
def test_no_good_model_accepts_a_twentieth_of_what_no_label_can_be(
    tmp_path: Path, verdict: str, accepted: int, expected: str
) -> None:
    result = replace(finished_run(tmp_path).report, verdict=verdict, reasons=())
    hits = np.arange(20) < accepted
    found = with_probes(result, [Probe(kind, {}) for kind in ("tone", *["hum"] * 19)], hits)
    assert found.verdict == expected
    assert found.metrics["probe_acceptance"] == accepted / 20
    assert 0 <= found.metrics["probe_acceptance_low"] <= accepted / 20 < found.metrics["probe_acceptance_high"]
    assert [(row.kind, row.count, row.accepted) for row in found.probes] == [("tone", 1, accepted), ("hum", 19, 0)]
    if accepted:
        assert found.reasons[-1] == "it accepts 5% of inputs that no label can be, perhaps 24% (tone)"


def test_accepted_background_is_a_false_alarm_in_the_time_that_was_recorded(tmp_path: Path) -> None:
    result = finished_run(tmp_path).report
    probes = [*(Probe("background", {}, 1.8) for _ in range(100)), *(Probe("hum", {}, 5.0) for _ in range(10))]
    metrics = with_probes(result, probes, np.arange(110) % 50 == 0).metrics
    assert metrics["false_alarms_per_hour"] == pytest.approx(2 / 0.05)
    ends = (metrics["false_alarms_per_hour_low"], metrics["false_alarms_per_hour_high"])
    assert ends == pytest.approx((4.84, 144.5), rel=1e-2)
    untimed = [Probe("background", {}) for _ in range(4)]
    assert "false_alarms_per_hour" not in with_probes(result, untimed, np.arange(4) > 1).metrics


def test_good_needs_every_condition() -> None:
    assert judge(GOOD, [_label("a"), _label("b")], 3, "leave-one-session-out") == ("good", ())


@pytest.mark.parametrize(
    ("metrics", "labels", "sessions", "verdict", "reason"),
    [
        (GOOD, [_label("a")], 1, "insufficient data", "one session"),
        (GOOD, [_label("a", support=3)], 3, "insufficient data", "fewer than 5 samples of `a`"),
        (GOOD | {"accuracy_low": 0.3}, [_label("a")], 3, "weak", "always predicting the most frequent label"),
        (GOOD | {"balanced_accuracy": 0.6}, [_label("a")], 3, "weak", "balanced accuracy is 0.60"),
        (GOOD | {"coverage": 0.7}, [_label("a")], 3, "weak", "false rejection rate is 30%, above 20%"),
        (GOOD | {"false_acceptance_rate": 0.2}, [_label("a")], 3, "weak", "20% or more (perhaps 30%)"),
        ({k: v for k, v in GOOD.items() if "acceptance" not in k}, [_label("a")], 3, "weak", "was not measured"),
        (GOOD, [_label("a", recall=0.5)], 3, "weak", "not more than half recognised of `a`"),
        (GOOD, [_label("a", within=True)], 3, "weak", "one session only: `a`"),
    ],
)
def test_anything_less_is_said(
    metrics: dict[str, float], labels: list[LabelReport], sessions: int, verdict: str, reason: str
) -> None:
    found, reasons = judge(metrics, labels, sessions, "leave-one-session-out")
    assert found == verdict
    assert any(reason in text for text in reasons)
