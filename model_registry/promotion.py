"""Whether a new version becomes the active one: both are compared on the samples that both were tested on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from model_registry.errors import CorruptError, DocumentError, InvalidNameError, NotFoundError
from model_registry.location import WritableRegistry
from model_registry.messages import list_names
from model_registry.storage.comparison import logged_predictions
from model_registry.storage.entry import FILE_LIMIT, parse_json
from model_registry.storage.publication import Publication

PromotionPolicy = Literal["always", "if-better", "never"]
POLICIES: tuple[PromotionPolicy, ...] = ("always", "if-better", "never")
FEWEST = 10  # samples in common; with fewer nothing can be compared
MOST = 5  # labels that are named
VETO = 0.1  # share of one label's samples whose loss no gain elsewhere outweighs


@dataclass(frozen=True)
class Promotion:
    """The decision and its reason in plain words."""

    promote: bool
    reason: str


def publish(bundle: Path, registry: WritableRegistry, policy: PromotionPolicy) -> tuple[Publication, Promotion]:
    """Publish a bundle as the active version or as a candidate, with the reason in its log and its history.

    Raises what publishing raises, and UnreachableError.
    """
    log = _log(_read(bundle / "training_log.json"))
    active = None
    if policy == "if-better":
        try:
            active = _log(registry.training_log(str(log.get("user_id", "")), str(log.get("modality", ""))))
        except (NotFoundError, CorruptError, InvalidNameError):  # no version is active, or the active one is damaged
            active = None
    decision = decide(policy, log, active)
    return registry.publish(bundle, promote=decision.promote, reason=decision.reason[:500]), decision


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(FILE_LIMIT + 1)
    except OSError:  # the registry says what is wrong with the bundle
        return b"{}"


def _log(data: bytes) -> Mapping[str, Any]:
    try:
        log = parse_json(data, "training log", FILE_LIMIT)
    except DocumentError:
        return {}
    return log if isinstance(log, dict) else {}


def decide(policy: PromotionPolicy, new: Mapping[str, Any], active: Mapping[str, Any] | None) -> Promotion:
    """Compare two training logs by the held-out prediction of every sample (`logged_predictions`).

    Samples are paired by record id where both logs give them the same label. The new version must not be worse by
    more than one standard error of the paired difference, and must not lose two or more samples and VETO of any label.
    """
    if policy != "if-better":
        return Promotion(policy == "always", f"requested with --promote {policy}")
    if active is None:
        return Promotion(True, "this user has no active version yet")
    before, now = logged_predictions(active), logged_predictions(new)
    common = sorted(record for record in now.keys() & before.keys() if now[record][0] == before[record][0])
    if len(common) < FEWEST:
        return Promotion(True, f"the active version was tested on only {len(common)} of the same samples")
    gained, lost, support = Counter[str](), Counter[str](), Counter[str]()
    for record in common:
        label, predicted = now[record]
        was_right, is_right = before[record][1] == label, predicted == label
        support[label] += 1
        gained[label] += is_right and not was_right
        lost[label] += was_right and not is_right
    net = gained.total() - lost.total()
    counts = f"of {len(common)} samples that both were tested on it gained {gained.total()} and lost {lost.total()}"
    worse = sorted(k for k in support if lost[k] - gained[k] >= max(2, VETO * support[k]))
    if worse:
        named = list_names(worse, MOST)
        return Promotion(False, f"it recognises {named} less often than the active version; {counts}")
    if net < -math.sqrt(gained.total() + lost.total()):
        return Promotion(False, f"it is worse than the active version: {counts}")
    return Promotion(True, f"it is not worse than the active version: {counts}")
