"""Every benchmark can be imported: what it uses of the project is there."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import benchmarks

NEEDS_A_PACKAGE_OF_ITS_OWN = {"mlflow_registry"}
NAMES = sorted({module.name for module in pkgutil.iter_modules(benchmarks.__path__)} - NEEDS_A_PACKAGE_OF_ITS_OWN)


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_can_be_imported(name: str) -> None:
    importlib.import_module(f"benchmarks.{name}")
