"""What exactly one module does: atomic writes, the time, the hash of a file, lists cut short."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator

import pytest

from tests.paths import ROOT
from tests.test_house import MAY_IMPORT, called, parsed, python_files

DURABLE = "model_registry/storage/durable.py"
TIMESTAMPS = "model_registry/timestamps.py"
MESSAGES = "model_registry/messages.py"
_RENAMES = {"rename", "replace"}  # of a Path: one argument; str.replace takes two, datetime.replace takes names
_CALLS = {"os.fsync", "os.fdatasync", "os.sync", "os.rename", "os.replace", "os.renames", "shutil.move"}
_TEMPORARY = {"tempfile.mkstemp", "tempfile.mkdtemp", "tempfile.NamedTemporaryFile", "mkstemp", "mkdtemp"}


def atomic_writes(tree: ast.AST) -> Iterator[str]:
    """Yield each rename and each sync."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = called(node)
            renames = name.rpartition(".")[2] in _RENAMES and len(node.args) == 1 and not node.keywords and "." in name
            if renames or name in _CALLS | _TEMPORARY:
                yield f"{node.lineno}: {name}"


def file_hashes(tree: ast.AST) -> Iterator[str]:
    """Yield each hash of a whole file: `file_digest`, or `sha256(path.read_bytes())`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = called(node)
            whole = name.endswith("sha256") and any(
                isinstance(argument, ast.Call) and called(argument).endswith("read_bytes") for argument in node.args
            )
            if whole or name.endswith("file_digest"):
                yield f"{node.lineno}: {name}"


def timestamps(tree: ast.AST) -> Iterator[str]:
    """Yield each time that is written as text to a precision of its own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and called(node).endswith(".isoformat"):
            yield f"{node.lineno}: {called(node)}"


def shortened_lists(tree: ast.AST) -> Iterator[str]:
    """Yield each f-string that says `and … more`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) and re.search(r"\band \{.*\} more\b", ast.unparse(node)):
            yield f"{node.lineno}: {ast.unparse(node)}"


def temporary_folders(tree: ast.AST) -> Iterator[str]:
    """Yield each folder for temporary files, in which a killed process could leave a person's data."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = called(node)
            if name.rpartition(".")[2] in ("TemporaryDirectory", "gettempdir"):
                yield f"{node.lineno}: {name}"


# These hold data of nobody: what set-up builds, what is measured, and the files of an encoder.
NOBODYS = ("build_tools/", "benchmarks/", "shared/prediction.py")
SEARCHED = "shared/data/erasure.py"  # looks for what was left


RULES: list[tuple[Callable[[ast.AST], Iterator[str]], str]] = [
    (atomic_writes, DURABLE),
    (file_hashes, DURABLE),
    (timestamps, TIMESTAMPS),
    (shortened_lists, MESSAGES),
    (temporary_folders, DURABLE),
]


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "home"), RULES, ids=[rule.__name__ for rule, _ in RULES])
def test_it_is_done_in_one_module(rule: Callable[[ast.AST], Iterator[str]], home: str) -> None:
    files = python_files(*MAY_IMPORT, "build_tools", "demo", "benchmarks")
    if rule is temporary_folders:
        files = [path for path in files if not str(path.relative_to(ROOT)).startswith((*NOBODYS, SEARCHED))]
    assert list(rule(parsed(ROOT / home))), f"{home} does not do it any more"
    found = [
        f"{path.relative_to(ROOT)}:{fault}" for path in files if path != ROOT / home for fault in rule(parsed(path))
    ]
    assert not found, f"call {home} instead: " + ", ".join(found)


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (atomic_writes, "temporary.replace(target)"),
        (atomic_writes, "staging.rename(folder)"),
        (atomic_writes, "import os\nos.replace(a, b)"),
        (atomic_writes, "import os\nos.fsync(file.fileno())"),
        (atomic_writes, "import tempfile\ntempfile.mkdtemp(dir=out)"),
        (file_hashes, "hashlib.file_digest(file, 'sha256')"),
        (file_hashes, "hashlib.sha256(path.read_bytes())"),
        (timestamps, "datetime.now(UTC).isoformat(timespec='seconds')"),
        (temporary_folders, "with TemporaryDirectory() as folder: pass"),
        (shortened_lists, "f'{names} and {len(rest)} more'"),
    ],
)
def test_the_rules_notice_each_way_to_break_them(rule: Callable[[ast.AST], Iterator[str]], source: str) -> None:
    assert len(list(rule(ast.parse(source)))) == 1


def test_the_rules_let_texts_and_times_be_replaced() -> None:
    assert not list(atomic_writes(ast.parse("text.replace('a', 'b')\ntime.replace(tzinfo=UTC)\nreplace(value, x=1)")))
