"""Whether a new version becomes the active one: compared with the present one, on samples that both were tested on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_registry.errors import CorruptError, DocumentError, InvalidNameError, NotFoundError
from model_registry.location import WritableRegistry
from model_registry.messages import list_names
from model_registry.storage.entry import FILE_LIMIT, parse_json
from model_registry.storage.publication import Publication
from shared.schema_utils import PromotionPolicy

POLICIES: tuple[PromotionPolicy, ...] = ("always", "if-better", "never")
FEWEST = 10  # samples in common, under which nothing can be compared
MOST = 5  # labels that are named
VETO = 0.1  # share of one label's samples whose loss no gain elsewhere makes up for


@dataclass(frozen=True)
class Promotion:
    """The decision and its reason in plain words."""

    promote: bool
    reason: str


def publish(bundle: Path, registry: WritableRegistry, policy: PromotionPolicy) -> tuple[Publication, Promotion]:
    """Publish a bundle, as the active version or as a candidate, with the reason in its log and its history.

    Raises what publishing raises, and UnreachableError.
    """
    log = _log(_read(bundle / "training_log.json"))
    active = None
    if policy == "if-better":
        try:
            active = _log(registry.training_log(str(log.get("user_id", "")), str(log.get("modality", ""))))
        except (NotFoundError, CorruptError, InvalidNameError):  # no version is active, or the active one is damaged
            active = None
    promotion = decide(policy, log, active)
    return registry.publish(bundle, promote=promotion.promote, reason=promotion.reason[:500]), promotion


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(FILE_LIMIT + 1)
    except OSError:  # the registry says what is wrong with the bundle
        return b"{}"


def _log(data: bytes) -> Mapping[str, Any]:
    try:
        found = parse_json(data, "training log", FILE_LIMIT)
    except DocumentError:
        return {}
    return found if isinstance(found, dict) else {}


def decide(policy: PromotionPolicy, new: Mapping[str, Any], active: Mapping[str, Any] | None) -> Promotion:
    """Compare two training logs by `metrics.answers`: (record id, label, held-out answer) of every sample.

    Samples are paired by record id where both logs give them the same label. The new version must not be worse by
    more than one standard error of the paired difference, and must not lose two or more samples and VETO of any label.
    """
    if policy != "if-better":
        return Promotion(policy == "always", f"asked for with --promote {policy}")
    if active is None:
        return Promotion(True, "this user has no active version yet")
    before, now = _answers(active), _answers(new)
    common = sorted(record for record in now.keys() & before.keys() if now[record][0] == before[record][0])
    if len(common) < FEWEST:
        return Promotion(True, f"the active version was tested on only {len(common)} of the same samples")
    gained, lost, meant = Counter[str](), Counter[str](), Counter[str]()
    for record in common:
        label, answered = now[record]
        was, right = before[record][1] == label, answered == label
        meant[label] += 1
        gained[label] += right and not was
        lost[label] += was and not right
    net = gained.total() - lost.total()
    counts = f"of {len(common)} samples that both were tested on it gained {gained.total()} and lost {lost.total()}"
    fallen = sorted(k for k in meant if lost[k] - gained[k] >= max(2, VETO * meant[k]))
    if fallen:
        named = list_names(fallen, MOST)
        return Promotion(False, f"it recognises {named} less often than the active version; {counts}")
    if net < -math.sqrt(gained.total() + lost.total()):
        return Promotion(False, f"it is worse than the active version: {counts}")
    return Promotion(True, f"it is not worse than the active version: {counts}")


def _answers(log: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    metrics = log.get("metrics")
    rows = metrics.get("answers") if isinstance(metrics, dict) else None
    return {record: (label, answered) for record, label, answered in rows or ()}
