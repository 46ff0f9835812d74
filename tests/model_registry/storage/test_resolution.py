"""A version with its files is one value everywhere."""

from __future__ import annotations

import ast

import pytest

from tests.paths import ROOT


@pytest.mark.slow
def test_storage_has_one_value_for_a_version_with_its_files() -> None:
    """Whatever says `files` and `encoders` of a version is that value, or what the service sends of it."""
    classes = set()
    for path in (ROOT / "model_registry").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                fields = {ast.unparse(item.target) for item in node.body if isinstance(item, ast.AnnAssign)}
                if {"files", "encoders"} <= fields:
                    classes.add(node.name)
    assert classes == {"ResolvedVersion", "ResolveResponse", "VersionManifest"}
