"""Change one thing at a time in a module, and see whether the tests of its area notice: mutation testing by Cosmic Ray.

    python -m benchmarks.mutants [--only NAME] [--minutes N]

A changed module is a mutant. It is killed if a test fails or the tests take too long, else it survives: either a
test is missing, or the change makes no difference. `[tool.mutants]` in pyproject.toml lists modules and tests.
Works on a copy of the working tree, `.mutants/tree`, so that an interrupted run leaves nothing changed, and keeps
results in `.mutants/<name>-<hash of the module>.sqlite`: a later run takes what was not run, then the survivors.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from cosmic_ray import plugins
from cosmic_ray.commands import init
from cosmic_ray.mutating import use_mutation
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkItem, WorkResult
from parso.python.tree import Keyword
from parso.tree import BaseNode, NodeOrLeaf

ROOT = Path(__file__).parents[1]
WORK = ROOT / ".mutants"
TREE = WORK / "tree"
OUTPUT = WORK / "pytest.txt"  # of the latest run
MEMORY = Path("/dev/shm")  # a file system in memory, where syncs take no time
# Imported once; the tests run in forks, which import only our own modules, among them the changed one.
LIBRARIES = (
    "hypothesis", "ndonnx", "numpy", "onnx", "onnxruntime", "pydantic.root_model", "scipy.optimize", "scipy.stats",
    "skl2onnx", "sklearn.discriminant_analysis", "sklearn.ensemble", "sklearn.neighbors", "sklearn.svm", "spox",
)  # fmt: skip
Positions = Iterator[tuple[tuple[int, int], tuple[int, int]]]

# Of Cosmic Ray's operators these: of those left out, each makes many mutants that die of the same test.
CORE = (
    "ReplaceBinaryOperator_Add_Sub", "ReplaceBinaryOperator_Sub_Add", "ReplaceBinaryOperator_Mul_Div",
    "ReplaceBinaryOperator_Div_Mul", "ReplaceBinaryOperator_Pow_Mul", "ReplaceBinaryOperator_Mod_Add",
    "ReplaceBinaryOperator_FloorDiv_Mul", "ReplaceBinaryOperator_BitAnd_BitOr", "ReplaceBinaryOperator_BitOr_BitAnd",
    "ReplaceComparisonOperator_Eq_NotEq", "ReplaceComparisonOperator_NotEq_Eq", "ReplaceComparisonOperator_Lt_LtE",
    "ReplaceComparisonOperator_LtE_Lt", "ReplaceComparisonOperator_Gt_GtE", "ReplaceComparisonOperator_GtE_Gt",
    "ReplaceComparisonOperator_Is_IsNot", "ReplaceComparisonOperator_IsNot_Is", "ReplaceUnaryOperator_Delete_USub",
    "ReplaceUnaryOperator_Delete_Not", "AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue",
    "ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ExceptionReplacer", "NumberReplacer",
    "ZeroIterationForLoop",
)  # fmt: skip


class RemoveStatement:
    """Replaces by `pass`: a call whose result is not used, such as a sync; an addition in place; a `raise`."""

    def mutation_positions(self, node: NodeOrLeaf) -> Positions:
        """Yield where `node` can be changed."""
        if node.type != "simple_stmt" or not isinstance(node, BaseNode):
            return
        statement = node.children[0]
        called = statement.type == "atom_expr" and statement.get_last_leaf().get_code(False) == ")"
        added = (
            statement.type == "expr_stmt"
            and statement.children[1].type == "operator"
            and (statement.children[1].get_code(False) not in ("=", ":"))
        )
        raised = statement.type == "raise_stmt" or statement.get_code(False) == "raise"
        if called or added or raised:
            yield statement.start_pos, statement.end_pos

    def mutate(self, node: BaseNode, index: int) -> BaseNode:
        """Return the changed node."""
        statement = node.children[0]
        node.children[0] = Keyword("pass", statement.start_pos, statement.get_first_leaf().prefix)
        return node

    @classmethod
    def arguments(cls) -> tuple[()]:
        """Return nothing: there is nothing to set."""
        return ()


class RemoveOperand:
    """Removes one operand of `and` or `or`."""

    def mutation_positions(self, node: NodeOrLeaf) -> Positions:
        """Yield where `node` can be changed."""
        if node.type in ("and_test", "or_test") and isinstance(node, BaseNode):
            for operand in node.children[::2]:
                yield operand.start_pos, operand.end_pos

    def mutate(self, node: BaseNode, index: int) -> BaseNode:
        """Return the changed node."""
        start = max(0, 2 * index - 1)
        del node.children[start : start + 2]
        return node

    @classmethod
    def arguments(cls) -> tuple[()]:
        """Return nothing: there is nothing to set."""
        return ()


_ANNOTATIONS = ("annotation", "returns")
OWN = {"RemoveStatement": RemoveStatement, "RemoveOperand": RemoveOperand}
OPERATORS = frozenset({f"core/{name}" for name in CORE} | {f"own/{name}" for name in OWN})


@dataclass(frozen=True)
class Outcome:
    """What came of the mutants of a module."""

    killed: int
    not_run: int
    survivors: tuple[str, ...]  # differences


def targets() -> Mapping[str, Mapping[str, Any]]:
    """Return name -> `module` and `tests`, as pyproject.toml lists them."""
    table: Mapping[str, Mapping[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mutants"]
    return table


def copy_tree() -> None:
    """Copy all files that git knows or would add to `TREE`, compiled so that a change shows whatever its time stamp."""
    shutil.rmtree(TREE, ignore_errors=True)
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (TREE / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, TREE / name)
    if (ROOT / ".pretrained").exists():
        (TREE / ".pretrained").symlink_to(ROOT / ".pretrained")
    checked = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash", "."]
    subprocess.run(checked, cwd=TREE, check=True)


def mutants(module: Path, database: WorkDB) -> list[WorkItem]:
    """Return the mutants of a module, in random order; none of annotations and of the `*` of a signature.

    Those that the database has no result of come first, then survivors. What was killed is left out.
    """
    plugins.OPERATOR_PROVIDERS["own"] = OWN
    source = module.read_text()
    lines = source.splitlines()
    fields = [getattr(node, field, None) for node in ast.walk(ast.parse(source)) for field in _ANNOTATIONS]
    annotations = [
        ((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset))
        for node in fields
        if isinstance(node, ast.expr)
    ]
    if not database.num_work_items:
        init([module], database, {})
    survivors = [item for item, result in database.completed_work_items if result.test_outcome != TestOutcome.KILLED]
    return [
        item
        for item in (*database.pending_work_items, *survivors)
        if item.mutations[0].operator_name in OPERATORS
        and not any(start <= item.mutations[0].start_pos < end for start, end in annotations)
        and not lines[item.mutations[0].start_pos[0] - 1][item.mutations[0].start_pos[1] :].startswith("*,")
    ]


def test_module(name: str, target: Mapping[str, Any], minutes: float) -> Outcome:
    """Run the tests of a module on each of its mutants, for at most so many minutes. Raises click.ClickException."""
    module, tests = Path(target["module"]), target["tests"]
    started = time.monotonic()
    check_unchanged(name, tests)
    baseline = time.monotonic() - started
    seconds = int(10 + 4 * baseline)
    digest = hashlib.blake2b(module.read_bytes(), digest_size=6).hexdigest()  # nothing of ours may be imported here
    deadline, done = started + 60 * minutes, 0
    with use_db(str(WORK / f"{name}-{digest}.sqlite")) as database:
        items = mutants(module, database)
        click.echo(f"{name}: {len(items)} mutants of {target['module']} to run, up to {baseline:.0f} s each")
        for item in items:
            if time.monotonic() > deadline:
                break
            result = run_mutant(item, tests, seconds)
            database.set_result(item.job_id, result)
            done += 1
            if result.test_outcome == TestOutcome.SURVIVED and result.diff:
                click.echo(f"  {done}/{len(items)}: {difference(result.diff)}", err=True)
        ids = {item.job_id for item in mutants(module, database)}
        not_run = sum(1 for item in database.pending_work_items if item.job_id in ids)
        results = [result for _, result in database.results]
    check_unchanged(name, tests)  # else what seemed killed died of something else, such as a full disk
    survived = [result.diff for result in results if result.test_outcome == TestOutcome.SURVIVED]
    survivors = [difference(diff) for diff in survived if diff]
    survivors.sort(key=lambda text: int(text.split()[1]))
    return Outcome(len(results) - len(survivors), not_run, tuple(survivors))


def run_mutant(item: WorkItem, tests: Sequence[str], seconds: int) -> WorkResult:
    """Return whether the tests notice a mutant. Raises click.ClickException if it cannot be made."""
    mutation = item.mutations[0]
    operator = get_operator(mutation.operator_name)(**mutation.operator_args)
    with use_mutation(mutation.module_path, operator, mutation.occurrence) as (unchanged, changed):
        if changed is None:
            raise click.ClickException(f"{mutation.module_path}: {mutation.operator_name} changes nothing")
        code = run_tests(tests, seconds)
    outcome = TestOutcome.KILLED if code else TestOutcome.SURVIVED
    diff = "\n".join(difflib.unified_diff(unchanged.split("\n"), changed.split("\n"), lineterm=""))
    how = "the tests took too long" if code == -signal.SIGALRM else f"exit code {code}"
    return WorkResult(WorkerOutcome.NORMAL, output=how, test_outcome=outcome, diff=diff)


def run_tests(tests: Sequence[str], seconds: int) -> int:
    """Return the exit code of tests that a fork of this process runs, -SIGALRM after so many seconds; 0 if all pass."""
    process = multiprocessing.get_context("fork").Process(target=_run_pytest, args=(tests, seconds))
    process.start()
    process.join()
    with suppress(ProcessLookupError):
        os.killpg(process.pid or 0, signal.SIGKILL)  # what the tests started and left
    return process.exitcode or 0


def _run_pytest(tests: Sequence[str], seconds: int) -> None:
    os.setsid()
    signal.alarm(seconds)  # ends a mutant that runs for ever, also where the process that waits for it was killed
    with OUTPUT.open("wb") as output:
        os.dup2(output.fileno(), sys.stdout.fileno())
        os.dup2(output.fileno(), sys.stderr.fileno())
    without = [
        f"-pno:{plugin}" for plugin in ("cacheprovider", "anyio", "xdist", "unraisableexception")
    ]  # half the time
    sys.exit(pytest.main(["-x", "-q", *without, "-m", "not slow", *tests]))


def check_unchanged(name: str, tests: Sequence[str]) -> None:
    """Raise click.ClickException unless the tests pass without any change."""
    if run_tests(tests, 600):
        raise click.ClickException(f"{name}: the tests fail without any change:\n{OUTPUT.read_text()}")


def difference(diff: str) -> str:
    """Return where a mutant differs, and how: the lines of a unified difference without context."""
    lines = diff.splitlines()
    changed = [line for line in lines if line[:1] in "+-" and line[:3] not in ("---", "+++")]
    hunk = next(k for k, line in enumerate(lines) if line.startswith("@@"))
    first = int(lines[hunk].split()[1].split(",")[0][1:])
    ahead = next(k for k, line in enumerate(lines[hunk + 1 :]) if line[:1] in "+-")
    return "\n".join([f"line {first + ahead}", *changed])


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.option("--only", help="one of the modules in pyproject.toml, by its name there")
@click.option("--minutes", type=float, default=60.0, show_default=True, help="that a module may take")
def main(only: str | None, minutes: float) -> None:
    """Run the mutants and print those that survived."""
    table = targets()
    if only and only not in table:
        raise click.UsageError(f"no module is named {only}; there are {', '.join(table)}")
    copy_tree()
    os.chdir(TREE)
    os.environ["PYTHONPATH"] = str(TREE)  # also for the processes that tests start elsewhere
    sys.dont_write_bytecode = False  # else pytest rewrites the tests for each mutant
    for library in LIBRARIES:
        importlib.import_module(library)
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        os.environ["TMPDIR"] = tempfile.tempdir = folder  # where pytest makes its folders
        outcomes = {name: test_module(name, table[name], minutes) for name in ([only] if only else table)}
    for name, outcome in outcomes.items():
        for survivor in outcome.survivors:
            click.echo(f"\n{table[name]['module']}, {survivor}")
    click.echo()
    for name, outcome in outcomes.items():
        left = f", {outcome.not_run} not run" if outcome.not_run else ""
        click.echo(f"{name}: {outcome.killed} killed, {len(outcome.survivors)} survived{left}")


if __name__ == "__main__":
    main()
