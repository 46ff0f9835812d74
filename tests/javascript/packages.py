"""Node and the packages that `make javascript` installs here."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def installed_packages() -> Path:
    """Return the folder `node_modules`. The test is skipped where not all packages are installed."""
    folder = Path(__file__).parent / "node_modules"
    if not (folder / ".package-lock.json").is_file():  # which npm writes last
        pytest.skip("no JavaScript packages here; install them with: make javascript")
    return folder


def run_node(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Node in a folder that finds the packages. The test is skipped where Node or they are missing."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node here; Debian's package is called nodejs")
    (folder / "node_modules").symlink_to(installed_packages())
    return subprocess.run([node, *words], cwd=folder, capture_output=True, text=True, timeout=300, check=False)
