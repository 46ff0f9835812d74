"""An import of thousands of files holds little of each."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from shared.data.import_sessions import SessionSplit, assign, find_samples
from shared.data.import_writing import Mode, Origin, import_samples
from tests.paths import ROOT

_BYTES_A_FILE = 2600  # its names, its hash and its record id; an example of pydantic alone has 2,000


def peak_bytes(folder: Path, count: int) -> int:
    for number in range(count):
        path = folder / "recordings" / ("yes" if number % 2 else "no") / f"{number:05d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"sound %d" % number)
    tracemalloc.start()
    try:
        samples, faults = assign(find_samples(folder / "recordings"), "anna", SessionSplit(size=10), None)
        summary = import_samples(folder / "data", samples, Origin("sound", True), Mode(), known_faults=faults)
        assert summary.new == count
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_memory_grows_little_with_the_number_of_files(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from {__name__} import peak_bytes
print(*(peak_bytes(Path({str(tmp_path)!r}, str(count)), count) for count in (50, 500, 2500)))  # 50: for the first use
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    _, few, many = map(int, done.stdout.split())
    assert (many - few) / 2000 < _BYTES_A_FILE
