"""The registry's tasks done with MLflow, for comparison with benchmarks/registry_speed.py.

MLflow is not among the project's packages; `make bench-peers` gives it an environment of its own and runs this:

    .cache/peers/bin/python benchmarks/mlflow_registry.py
"""

import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
from mlflow.tracking import MlflowClient

VERSIONS = 40
NAME = "ana-gesture"


def main() -> None:
    """Print what publishing and fetching take, and whether a changed or missing file is noticed."""
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        mlflow.set_tracking_uri(f"sqlite:///{root}/mlflow.db")
        client = MlflowClient()
        experiment = client.create_experiment("models", artifact_location=(root / "artifacts").as_uri())
        client.create_registered_model(NAME)

        def publish(number: int) -> None:
            bundle = root / f"bundle{number}"
            bundle.mkdir()
            (bundle / "model.onnx").write_bytes(os.urandom(1_000_000))
            run = client.create_run(experiment).info
            client.log_artifacts(run.run_id, str(bundle), "model")
            version = client.create_model_version(NAME, f"{run.artifact_uri}/model", run.run_id)
            client.set_registered_model_alias(NAME, "active", version.version)

        def fetch(_: int) -> Path:
            return Path(mlflow.artifacts.download_artifacts(f"models:/{NAME}@active"), "model.onnx")

        medians = {"publish": _median(publish), "fetch": _median(fetch)}
        if "--json" in sys.argv:
            print(json.dumps(medians))
            return
        print(f"publish: {medians['publish']:.1f} ms")
        print(f"resolve and fetch: {medians['fetch']:.1f} ms")
        source = str(client.get_model_version_by_alias(NAME, "active").source)
        stored = Path(source.removeprefix("file://"), "model.onnx")
        changed = bytearray(stored.read_bytes())
        changed[500] ^= 1
        stored.write_bytes(changed)
        print("one bit changed:", "returned without an error" if fetch(0).read_bytes() == changed else "noticed")
        stored.unlink()
        try:
            fetch(0)
            print("model file missing: an empty folder is returned without an error")
        except (OSError, mlflow.MlflowException) as error:
            print(f"model file missing: {error}")


def _median(act: Callable[[int], Any]) -> float:
    """Return the median milliseconds of a call of `act`, which gets the number of the call."""
    times = []
    for number in range(VERSIONS):
        started = time.perf_counter()
        act(number)
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


if __name__ == "__main__":
    main()
