"""A version that is worse does not take the place of one that serves."""

from typing import Any

import pytest

from shared.promotion import decide


def _log(wrong: set[int] = frozenset(), n: int = 40, start: int = 0) -> dict[str, Any]:  # type: ignore[assignment]
    """Samples of a, b, c, d in turn; those in `wrong` are answered with x."""
    rows = [[f"r{k}", "abcd"[k % 4], "x" if k in wrong else "abcd"[k % 4]] for k in range(start, start + n)]
    return {"metrics": {"answers": rows}}


@pytest.mark.parametrize(("policy", "wanted"), [("always", True), ("never", False)])
def test_the_policy_decides_alone_where_it_says_so(policy: Any, wanted: bool) -> None:
    found = decide(policy, _log({0, 1, 2, 3, 4, 5, 6, 7}), _log())
    assert (found.promote, found.reason) == (wanted, f"asked for with --promote {policy}")


def test_as_good_or_better_is_promoted_and_worse_is_not() -> None:
    assert decide("if-better", _log({1}), _log({1})).promote
    assert decide("if-better", _log(), _log({1, 2, 3})).promote
    worse = decide("if-better", _log({0, 1, 2, 3}), _log())
    assert not worse.promote and "gained 0 and lost 4" in worse.reason


def test_one_label_that_falls_is_a_veto_whatever_others_gain() -> None:
    found = decide("if-better", _log({0, 4, 8}), _log({1, 2, 3, 5, 6, 7}))
    assert not found.promote and found.reason.startswith("it recognises a less often")


def test_without_anything_to_compare_it_serves_and_says_why() -> None:
    assert decide("if-better", _log(), None).reason == "no version of this user serves yet"
    assert "only 0 of the same" in decide("if-better", _log(), _log(start=100)).reason
    assert "only 0 of the same" in decide("if-better", _log(), {"metrics": {}}).reason


def test_a_sample_that_was_relabelled_is_not_compared() -> None:
    old = _log()
    old["metrics"]["answers"] = [[r, "z", "z"] for r, _, _ in old["metrics"]["answers"]]
    assert "only 0 of the same" in decide("if-better", _log({0, 4, 8}), old).reason
