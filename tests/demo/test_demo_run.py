"""`make demo` from end to end: data, twelve trainings, publication, table."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from demo.people import PEOPLE
from model_registry.store import Registry
from shared.trainers import modality_names
from tests.paths import ROOT


@pytest.mark.slow
def test_the_demo_publishes_a_model_for_each_person_and_modality_and_ends_with_the_table(tmp_path: Path) -> None:
    done = subprocess.run([ROOT / "demo" / "run.sh", tmp_path], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    registry = Registry(tmp_path / "registry")
    for person in PEOPLE:
        for modality in modality_names():
            assert registry.resolve(person.user_id, modality).version == 1
    rows = [line for line in done.stdout.splitlines() if any(f" {person.user_id} " in line for person in PEOPLE)]
    assert len(rows) == len(PEOPLE) * len(modality_names()) and all(" v1 " in row for row in rows)
    cards = [Path(line.strip()) for line in done.stdout.splitlines() if line.strip().endswith(".html")]
    assert len(cards) == len(rows) and all(card.is_file() for card in cards)
