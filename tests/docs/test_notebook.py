"""The notebook of the Python API runs from top to bottom, does what it says, and is kept without outputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.paths import ROOT

NOTEBOOK = ROOT / "docs" / "python-api.ipynb"


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


@pytest.fixture
def notebook() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert len(code_cells(content)) >= 8
    return content


@pytest.mark.slow
def test_every_cell_runs(notebook: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in code_cells(notebook):
        exec(compile("".join(cell["source"]), f"{NOTEBOOK.name}: {cell['id']}", "exec"), names)
    assert names["result"].metrics["accuracy"] > 0.7
    assert names["prediction"].label in {"come", "unknown"}
    assert names["published"].version == names["used"][0] == "v1"
    assert names["message"].startswith("samples[89]: features: holds NaN")
    assert names["search"].best_score_ > 0.5
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_it_is_kept_without_outputs(notebook: dict[str, Any]) -> None:
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code_cells(notebook))
