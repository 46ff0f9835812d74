"""What every test has: no deadline on noisy machines, the same examples each time, and folders of its own."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.paths import ROOT
from tests.soak import TALLY, Tally

if TYPE_CHECKING:
    from tests.published_models import PublishedModels

settings.register_profile("house", deadline=None, derandomize=True, max_examples=40, database=None)
settings.register_profile("fast", settings.get_profile("house"), max_examples=10)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "house"))

REAL_DATA = Path(os.environ.get("MODEL_TRAINER_DATA") or ROOT.parent / "shared" / "data")


@pytest.fixture(scope="session", autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["MODEL_TRAINER_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):  # those of whoever runs the tests stay as they are
        os.environ[name] = str(tmp_path_factory.mktemp("home"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that need the demo's data as slow: each process takes seconds to make them."""
    for item in items:
        if "demo_data" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's data root, made once. Tests that change it work on a copy."""
    from demo.make_data import main

    root = tmp_path_factory.mktemp("demo") / "data"
    main([str(root)], standalone_mode=False)
    return root


@pytest.fixture(scope="session")
def cases() -> Path:
    """The folder of small files as people have them; the test is skipped where it is absent."""
    folder = REAL_DATA.parent / "cases"
    if not folder.is_dir():
        pytest.skip(f"no cases at {folder}; they lie beside the real data that MODEL_TRAINER_DATA names")
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; the test is skipped where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real data at {REAL_DATA}; name the folder with MODEL_TRAINER_DATA")
    return REAL_DATA


@pytest.fixture
def tally(record_property: Callable[[str, object], None]) -> Tally:
    """Return what counts the kills, flipped bits and the like that a test tried, for the run's summary."""
    return lambda what, count: record_property(TALLY + what, count)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how much of each kind the passed tests have tried."""
    totals: Counter[str] = Counter()
    for report in terminalreporter.getreports("passed"):
        totals.update({name[len(TALLY) :]: count for name, count in report.user_properties if name.startswith(TALLY)})
    if totals:
        terminalreporter.write_line("tried: " + ", ".join(f"{totals[what]:,} {what}" for what in sorted(totals)))


@pytest.fixture(scope="session")
def published_models(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> PublishedModels:
    """A model of every modality in a registry; tests that share it are of the group `published_models`."""
    from tests.published_models import publish_models

    return publish_models(demo_data, tmp_path_factory.mktemp("published"))
