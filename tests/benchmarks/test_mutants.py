"""`make mutants`: what it changes, and that every module and test it names exists."""

from __future__ import annotations

from pathlib import Path

import pytest
from cosmic_ray.mutating import mutate_code
from cosmic_ray.work_db import use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkResult

from benchmarks.mutants import RemoveOperand, RemoveStatement, difference, mutants, targets
from tests.paths import ROOT


@pytest.mark.parametrize(
    ("operator", "code", "changed"),
    [
        (RemoveStatement(), "f(x)\ny = f(x)\n", ["pass\ny = f(x)\n"]),
        (RemoveStatement(), "a.b(x)\nc += 1\n", ["pass\nc += 1\n", "a.b(x)\npass\n"]),
        (
            RemoveStatement(),
            "try:\n    f(1)\nexcept E:\n    raise\n",
            ["try:\n    pass\nexcept E:\n    raise\n", "try:\n    f(1)\nexcept E:\n    pass\n"],
        ),
        (RemoveStatement(), '"""Text."""\nx = 1\nx: int = 1\n', []),
        (RemoveOperand(), "x = (a or b or c)\n", ["x = ( b or c)\n", "x = (a or c)\n", "x = (a or b)\n"]),
        (RemoveOperand(), "x = a and b\n", ["x = b\n", "x = a\n"]),
    ],
)
def test_each_place_is_changed_once(operator: RemoveStatement | RemoveOperand, code: str, changed: list[str]) -> None:
    made = [mutate_code(code, operator, k) for k in range(len(changed) + 1)]
    assert [text.replace("=  ", "= ") for text in made[:-1]] == changed and made[-1] is None


def test_annotations_signatures_and_comments_make_no_mutants(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("def f(x: int | None, *, y: int) -> int | None:  # 1 + 1\n    return x | 3\n")
    with use_db(str(tmp_path / "results.sqlite")) as database:
        assert {item.mutations[0].start_pos[0] for item in mutants(module, database)} == {2}


def test_a_later_run_begins_with_what_was_not_run_and_ends_with_the_survivors(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("x = 1 + 2 - 3\n")
    for outcome in (TestOutcome.SURVIVED, TestOutcome.KILLED):
        with use_db(str(tmp_path / "results.sqlite")) as database:
            first, *others = mutants(module, database)
            database.set_result(first.job_id, WorkResult(WorkerOutcome.NORMAL, test_outcome=outcome))
        with use_db(str(tmp_path / "results.sqlite")) as database:
            later = [item.job_id for item in mutants(module, database)]
        remaining = {item.job_id for item in others}
        if outcome == TestOutcome.SURVIVED:
            assert later[-1] == first.job_id and set(later[:-1]) == remaining
        else:
            assert set(later) == remaining


def test_a_survivor_is_shown_by_its_line() -> None:
    diff = "--- mutation diff ---\n--- a/x.py\n+++ b/x.py\n@@ -4,3 +4,3 @@\n four\n-five\n+FIVE\n six"
    assert difference(diff) == "line 5\n-five\n+FIVE"


def test_every_module_and_test_that_is_named_exists() -> None:
    for target in targets().values():
        assert (ROOT / target["module"]).is_file()
        assert all((ROOT / word).is_file() for word in target["tests"] if word.endswith(".py"))
        assert any(word.endswith(".py") for word in target["tests"])
