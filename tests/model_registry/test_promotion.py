"""A version that is worse does not take the place of the active one."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from model_registry.client import RemoteRegistry
from model_registry.errors import CorruptError, RegistryError
from model_registry.location import WritableRegistry
from model_registry.promotion import decide, publish
from model_registry.storage.tokens import add_token, tokens_file
from model_registry.store import Registry
from orchestrator.jobs import Job, Outcome
from orchestrator.registry_uploader import publisher
from tests.model_registry.bundles import make_bundle, make_encoder
from tests.model_registry.service.serving import served


@pytest.fixture
def store(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "models")


@pytest.fixture(params=["folder", "service"])
def registry(request: pytest.FixtureRequest, store: Registry) -> Iterator[WritableRegistry]:
    if request.param == "folder":
        yield store
        return
    token = add_token(tokens_file(store.created()), "trainer", ("read", "publish"))
    with served(store) as url:
        yield RemoteRegistry(url, token)


def _log(wrong: set[int] = frozenset(), n: int = 40, start: int = 0) -> dict[str, Any]:  # type: ignore[assignment]
    """Samples of a, b, c, d in turn; those in `wrong` are answered with x."""
    rows = [[f"r{k}", "abcd"[k % 4], "x" if k in wrong else "abcd"[k % 4]] for k in range(start, start + n)]
    return {"metrics": {"predictions": rows}}


@pytest.mark.parametrize(("policy", "wanted"), [("always", True), ("never", False)])
def test_the_policy_decides_alone_where_it_says_so(policy: Any, wanted: bool) -> None:
    found = decide(policy, _log({0, 1, 2, 3, 4, 5, 6, 7}), _log())
    assert (found.promote, found.reason) == (wanted, f"requested with --promote {policy}")


def test_a_damaged_encoder_does_not_hide_the_active_version(store: Registry, tmp_path: Path) -> None:
    """Its log says how good it is all the same; reading the encoders would take longer than all else."""
    ref = make_encoder(tmp_path)
    store.publish(make_bundle(tmp_path, run="r1", encoder_refs=[ref], log=_log()))
    (store.root / "encoders" / ref["sha256"] / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(CorruptError):
        store.resolve("user123", "gesture")
    worse = make_bundle(tmp_path, run="r2", encoder_refs=[ref], log=_log({0, 1, 2, 3, 4, 5, 6, 7}))
    assert not publish(worse, store, "if-better")[1].promote


def test_as_good_or_better_is_promoted_and_worse_is_not() -> None:
    same = decide("if-better", _log({1}), _log({1}))
    assert same.promote and "gained 0 and lost 0" in same.reason, "what both get wrong is neither"
    assert decide("if-better", _log(), _log({1, 2, 3})).promote
    worse = decide("if-better", _log({0, 1, 2, 3}), _log())
    assert not worse.promote and "gained 0 and lost 4" in worse.reason


def test_one_label_that_falls_is_a_veto_whatever_others_gain() -> None:
    found = decide("if-better", _log({0, 4, 8}), _log({1, 2, 3, 5, 6, 7}))
    assert not found.promote and found.reason.startswith("it recognises a less often")


def test_without_anything_to_compare_it_becomes_active_and_says_why() -> None:
    assert decide("if-better", _log(), None).reason == "this user has no active version yet"
    assert "only 0 of the same" in decide("if-better", _log(), _log(start=100)).reason
    assert "only 0 of the same" in decide("if-better", _log(), {"metrics": {}}).reason


def test_the_log_of_a_version_published_before_is_read_under_its_old_name() -> None:
    old = {"metrics": {"answers": _log({0, 1})["metrics"]["predictions"]}}
    assert "of 40 samples that both were tested on" in decide("if-better", _log({1, 2, 3, 7}), old).reason


def test_a_sample_that_was_relabelled_is_not_compared() -> None:
    old = _log()
    old["metrics"]["predictions"] = [[r, "z", "z"] for r, _, _ in old["metrics"]["predictions"]]
    assert "only 0 of the same" in decide("if-better", _log({0, 4, 8}), old).reason


@pytest.mark.slow
def test_what_is_worse_is_published_as_a_candidate_and_log_and_history_say_why(
    registry: WritableRegistry, store: Registry, tmp_path: Path
) -> None:
    """Through a folder and through the service alike."""
    for run, wrong, status in (("r1", {1}, "active"), ("r2", {0, 4, 8}, "candidate"), ("r3", set(), "active")):
        made, found = publish(make_bundle(tmp_path, run=run, log=_log(wrong)), registry, "if-better")
        assert (made.entry.status, found.promote) == (status, status == "active")
    reasons = [event.reason for event in store.history("user123", "gesture")]
    assert reasons[0] == "this user has no active version yet"
    assert reasons[1].startswith("it recognises a less often")
    assert reasons[2].startswith("it is not worse")
    kept = store.resolve("user123", "gesture", 2)
    log = json.loads(kept.files["training_log"].read_text())
    assert log["promotion"] == {"promote": False, "reason": reasons[1]}
    assert store.resolve("user123", "gesture").version == 3


@pytest.mark.parametrize(("policy", "status"), [("always", "active"), ("never", "candidate")])
def test_asked_for_it_is_published_so_whatever_its_figures(
    policy: Any, status: str, store: Registry, tmp_path: Path
) -> None:
    publish(make_bundle(tmp_path, run="r1", log=_log()), store, "if-better")
    made, _ = publish(make_bundle(tmp_path, run="r2", log=_log({0, 4, 8})), store, policy)
    assert made.entry.status == status


def test_publishing_again_decides_again_and_changes_nothing(store: Registry, tmp_path: Path) -> None:
    first, second = (make_bundle(tmp_path, run=f"r{k}", log=_log(wrong)) for k, wrong in ((1, set()), (2, {0, 4, 8})))
    for bundle in (first, second, second, first):
        publish(bundle, store, "if-better")
    assert [entry.status for entry in store.entries()] == ["active", "candidate"]
    assert len(store.history("user123", "gesture")) == 2


def test_a_batch_keeps_a_worse_version_as_a_candidate_and_says_why(store: Registry, tmp_path: Path) -> None:
    job = Job(user="user123", modality="gesture", data=str(tmp_path), fingerprint="f")
    found = []
    for run, wrong in (("r1", set()), ("r2", {0, 4, 8})):
        bundle = make_bundle(tmp_path, run=run, log=_log(wrong))
        outcome = Outcome(user="user123", modality="gesture", run_id=run, bundle=str(bundle))
        found.append(publisher(store)(job, outcome))
    assert [outcome.status for outcome in found] == ["active", "candidate"]
    assert found[0].reason == "" and found[1].reason.startswith("it recognises a less often")
    assert all(outcome.succeeded for outcome in found)


def test_a_serving_version_that_is_damaged_is_replaced(store: Registry, tmp_path: Path) -> None:
    publish(make_bundle(tmp_path, run="r1", log=_log()), store, "if-better")
    store.resolve("user123", "gesture").files["model"].write_bytes(b"damaged")
    made, found = publish(make_bundle(tmp_path, run="r2", log=_log({0, 4, 8})), store, "if-better")
    assert made.entry.status == "active" and found.promote


def _labelled(labels: str, wrong: set[int]) -> dict[str, Any]:
    """One sample for each letter, its label; those in `wrong` are taken for x."""
    return {"metrics": {"predictions": [[f"r{k}", c, "x" if k in wrong else c] for k, c in enumerate(labels)]}}


def test_ten_samples_in_common_are_compared_and_nine_are_not() -> None:
    assert not decide("if-better", _log({0, 1, 2}, n=10), _log(n=10)).promote
    nine = decide("if-better", _log({0, 1, 2}, n=9), _log(n=9))
    assert nine.promote and "only 9 of the same" in nine.reason


@pytest.mark.parametrize(
    ("lost", "gained", "promote"),
    [
        ({0}, set(), True),  # one is within one standard error of none
        ({0, 1}, set(), False),
        ({0, 1, 2}, {3}, True),  # two, of four that changed
        ({0, 1, 2, 3}, {4}, False),  # three, of five
        ({0, 4, 1, 5, 2, 6, 3, 7}, {8, 9, 10, 11}, False),  # each label loses one on balance
    ],
)
def test_worse_by_more_than_one_standard_error_is_worse(lost: set[int], gained: set[int], promote: bool) -> None:
    found = decide("if-better", _log(lost), _log(gained))
    assert found.promote is promote
    assert f"of 40 samples that both were tested on it gained {len(gained)} and lost {len(lost)}" in found.reason
    assert found.reason.startswith("it is not worse" if promote else "it is worse")


@pytest.mark.parametrize(
    ("support", "lost", "promote"), [(10, 1, True), (10, 2, False), (20, 2, False), (40, 3, True), (40, 4, False)]
)
def test_a_label_may_lose_less_than_two_samples_and_less_than_a_tenth(support: int, lost: int, promote: bool) -> None:
    labels = "a" * support + "b" * 20
    found = decide(
        "if-better", _labelled(labels, set(range(lost))), _labelled(labels, set(range(support, support + 9)))
    )
    assert found.promote is promote


def test_what_a_label_gains_outweighs_what_it_loses_itself() -> None:
    labels = "a" * 10 + "b" * 10
    assert decide("if-better", _labelled(labels, {0, 1, 2}), _labelled(labels, {3, 4, 5})).promote


def test_only_the_first_five_labels_that_fall_are_named() -> None:
    labels = "gfedcba" * 4
    reason = decide("if-better", _labelled(labels, set(range(28))), _labelled(labels, set())).reason
    assert reason.startswith("it recognises a, b, c, d, e and 2 more less often")


def test_a_sample_that_only_one_was_tested_on_counts_for_neither() -> None:
    found = decide("if-better", _log({0, 1, 2, 3, 4, 5}, n=30), _log(n=40, start=10))
    assert found.promote and "of 20 samples" in found.reason


@pytest.mark.parametrize("log", [b"[]", b"{", b"\xff"])
def test_a_log_that_cannot_be_read_is_compared_with_nothing(store: Registry, tmp_path: Path, log: bytes) -> None:
    publish(make_bundle(tmp_path, run="r1", log=_log()), store, "if-better")
    bundle = make_bundle(tmp_path, run="r2", log=_log({0, 4, 8}))
    (bundle / "training_log.json").write_bytes(log)
    with pytest.raises(RegistryError):
        publish(bundle, store, "if-better")
    (bundle / "training_log.json").unlink()
    with pytest.raises(RegistryError):
        publish(bundle, store, "if-better")
    assert store.resolve("user123", "gesture").version == 1


def test_a_long_reason_is_cut_to_what_a_history_holds(store: Registry, tmp_path: Path) -> None:
    def log(predicted: bool) -> dict[str, Any]:
        rows = [[f"r{k}", f"{k % 5}" + "x" * 150, f"{k % 5}" + "x" * 150 if predicted else "y"] for k in range(20)]
        return {"metrics": {"predictions": rows}}

    publish(make_bundle(tmp_path, run="r1", log=log(True)), store, "if-better")
    made, found = publish(make_bundle(tmp_path, run="r2", log=log(False)), store, "if-better")
    assert made.entry.status == "candidate" and len(found.reason) > 500
    assert store.history("user123", "gesture")[-1].reason == found.reason[:500]
