"""What people call a version's metrics, which belong together, and their intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

NAMES = {  # where the name is not the key with blanks
    "top2_accuracy": "top-2 accuracy",
    "f1_macro": "macro F1",
    "ece": "expected calibration error",
    "ece_calibrated": "expected calibration error with calibration",
    "ece_uncalibrated": "expected calibration error without calibration",
    "accuracy_accepted": "accuracy of accepted recordings",
    "optimism_gap": "random split accuracy minus accuracy",
    "background_acceptance": "acceptance of background",
    "false_alarms_per_hour": "false alarms an hour of background",
    "set_coverage": "coverage of prediction sets",
    "set_size": "mean size of prediction sets",
    "probe_acceptance": "acceptance of inputs that no label can be",
    "open_set_auroc": "open-set detection AUROC (label held out)",
    "unknown_auroc": "open-set detection AUROC (label held out)",  # as older versions call it
}
GROUPS = {  # heading -> metrics, in the order in which people read them
    "Accuracy": (
        *("accuracy", "balanced_accuracy", "f1_macro", "top2_accuracy", "majority_baseline"),
        *("random_split_accuracy", "optimism_gap", "set_coverage", "set_size"),
    ),
    "Unknown": (
        *("coverage", "accuracy_accepted", "false_rejection_rate", "false_rejection", "false_acceptance_rate"),
        *("false_acceptance", "open_set_auroc", "unknown_auroc", "probe_acceptance", "background_acceptance"),
        "false_alarms_per_hour",
    ),
    "Calibration": ("ece", "ece_calibrated", "ece_uncalibrated"),
}
# Their intervals hold without a second session.
OF_NO_SESSION = ("probe_acceptance", "background_acceptance", "false_alarms_per_hour")
OTHERS = "Others"
_ENDS = ("_low", "_high")


@dataclass(frozen=True)
class Metric:
    """A metric's key and value, with the ends of its interval where it has one."""

    key: str
    value: float
    low: float | None = None
    high: float | None = None

    @property
    def name(self) -> str:
        return metric_name(self.key)


def metric_name(key: str) -> str:
    """Return what people call a metric."""
    return NAMES.get(key, key.replace("_", " "))


def metric(metrics: Mapping[str, float], key: str) -> Metric | None:
    """Return a metric with its interval, or None where it is not among `metrics`."""
    if key not in metrics:
        return None
    low, high = (metrics.get(key + end) for end in _ENDS)
    return Metric(key, metrics[key]) if low is None or high is None else Metric(key, metrics[key], low, high)


def metric_keys(metrics: Mapping[str, float]) -> list[str]:
    """Return the keys of `metrics` that are no end of another's interval, in the order of the groups."""
    ends = {key + end for key in metrics for end in _ENDS if all(key + each in metrics for each in _ENDS)}
    order = {key: k for k, key in enumerate(key for keys in GROUPS.values() for key in keys)}
    return sorted(metrics.keys() - ends, key=lambda key: (order.get(key, len(order)), key))


def grouped(keys: list[str]) -> dict[str, list[str]]:
    """Return heading -> those of `keys` that belong under it; those that no group names are under the last heading."""
    headings = {key: heading for heading, keys in GROUPS.items() for key in keys}
    groups: dict[str, list[str]] = {}
    for key in keys:
        groups.setdefault(headings.get(key, OTHERS), []).append(key)
    return groups
