"""Size, load time and time per prediction of the demo's models: `python -m benchmarks.inference`, after `make demo`.

Encoders run before the model and are not included; docs/encoders.md has their cost.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.real_data import ROOT

TYPES = {"tensor(float)": np.float32, "tensor(int32)": np.int32, "tensor(int64)": np.int64, "tensor(uint8)": np.uint8}
LENGTHS = {"frames": 30, "samples": 16_000, "length": 40, "views": 3}  # of axes that vary: two seconds, one second, …


@click.command()
@click.option("--registry", type=click.Path(path_type=Path, exists=True), default=ROOT / ".demo" / "registry")
@click.option("--runs", default=50, show_default=True, help="Predictions per model.")
def main(registry: Path, runs: int) -> None:
    """Print the figures of every model in a registry, one thread each.

    \b
    Example:
      python -m benchmarks.inference --runs 200
    """
    table = Table("model", "kB", "load, ms", "predict, ms")
    for path in sorted(registry.glob("users/*/*/v1/*.onnx")):
        load, predict = _milliseconds(path, runs)
        table.add_row(path.stem, f"{path.stat().st_size / 1000:.0f}", f"{load:.1f}", f"{predict:.2f}")
    Console().print(table)


def _milliseconds(path: Path, runs: int) -> tuple[float, float]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    started = time.perf_counter()
    session = onnxruntime.InferenceSession(path, options)
    load = time.perf_counter() - started
    feeds = {tensor.name: _random(tensor) for tensor in session.get_inputs()}
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        session.run(None, feeds)
        times.append(time.perf_counter() - started)
    return load * 1000, statistics.median(times) * 1000


def _random(tensor: Any) -> NDArray[Any]:
    shape = [LENGTHS[axis] if isinstance(axis, str) else axis for axis in tensor.shape]
    values = np.random.default_rng(0).random(shape)
    kind = TYPES[tensor.type]
    return (values if kind is np.float32 else values * 100).astype(kind)


if __name__ == "__main__":
    main()
