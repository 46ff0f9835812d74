"""Node and the packages that `make javascript` installs here."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

NODE_MODULES = Path(__file__).parent / "node_modules"


def run_node(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Node in a folder that finds the packages. The test is skipped where Node or they are missing."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node here; Debian's package is called nodejs")
    if not NODE_MODULES.is_dir():
        pytest.skip("no JavaScript packages here; install them with: make javascript")
    (folder / "node_modules").symlink_to(NODE_MODULES)
    return subprocess.run([node, *words], cwd=folder, capture_output=True, text=True, timeout=300, check=False)
