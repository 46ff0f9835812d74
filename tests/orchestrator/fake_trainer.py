"""Stands in for a trainer: has its command line, events, log entry and bundle, and misbehaves on demand.

`MODEL_TRAINER_FAKE` names a JSON file: "<user> <modality>" or "*" -> a behaviour. A behaviour is "data", "gate",
"internal", "transient", "kill", "hang", "hog", "silent", "slow <seconds>", "flaky <file>" (fails until the file exists,
which it makes) or "change <file>" (appends a blank line to a file while it trains).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from shared.features.pretrained import pretrained_folder
from shared.fingerprint import Options, code_fingerprint, data_fingerprints, job_fingerprint
from shared.schema_utils import TrainingRequest
from shared.trainers import find_trainer

EXIT_CODES = {"data": 3, "gate": 4, "internal": 5, "transient": 5}
ERROR_TYPES = {"data": "DataError", "gate": "QualityGateError", "internal": "ValueError", "transient": "OSError"}
NOW = "2026-03-01T12:00:00.000Z"


def main() -> int:
    modality = sys.argv[1]
    if "--worker" not in sys.argv:
        log, code = run(modality, sys.argv[2:], {})
        print(json.dumps(log), flush=True)
        return code
    for line in sys.stdin:
        request = json.loads(line)
        log, code = run(modality, request["args"], {"job": request.get("job")})
        print("a library's chatter", flush=True)
        print(json.dumps({**log, "exit_code": code}), flush=True)
    return 0


def run(modality: str, arguments: list[str], extra: dict[str, Any]) -> tuple[dict[str, Any], int]:
    parser = argparse.ArgumentParser()
    for name in ("user", "data", "out", "run-id", "config", "request"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--demo-data", action=argparse.BooleanOptionalAction)
    options = parser.parse_args(arguments)
    behaviour = wanted_behaviour(options.user, modality)
    trained_on = fingerprint(modality, options)
    log: dict[str, Any] = {"run_id": options.run_id, "user_id": options.user, "modality": modality, "bundle": ""}
    for number, stage in enumerate(("load", "fit", "bundle")):
        event = {"time": NOW, "event": "stage", "stage": stage, "done": number, "total": 3, **extra}
        print(json.dumps(event), file=sys.stderr, flush=True)
        if stage == "fit":
            misbehave(behaviour)
    kind = "data" if behaviour.startswith("flaky") and not first_time(behaviour) else behaviour
    if behaviour.startswith("flaky"):
        kind = "transient" if kind != "data" else ""
    if kind in EXIT_CODES:
        log |= {
            "status": "failure",
            "stage": "fit",
            "error_type": ERROR_TYPES[kind],
            "error_message": f"made to fail: {kind}",
        }
        return log, EXIT_CODES[kind]
    bundle = write_bundle(Path(options.out), options.user, modality, options.run_id, trained_on)
    log |= {
        "status": "success",
        "bundle": str(bundle),
        "sample_count": 24,
        "session_count": 3,
        "training_metrics": {"accuracy": 0.9, "accuracy_low": 0.8, "accuracy_high": 0.95},
        "verdict": "good",
        "seconds": {"total": 0.1},
    }
    return log, 0


def wanted_behaviour(user: str, modality: str) -> str:
    place = os.environ.get("MODEL_TRAINER_FAKE")
    table = json.loads(Path(place).read_text()) if place else {}
    return str(table.get(f"{user} {modality}", table.get("*", "")))


def first_time(behaviour: str) -> bool:
    mark = Path(behaviour.split(" ", 1)[1])
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def misbehave(behaviour: str) -> None:
    if behaviour == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif behaviour == "hang":
        time.sleep(600)
    elif behaviour == "hog":
        hoard = b"x" * (400 << 20)
        time.sleep(600)
        print(len(hoard))
    elif behaviour == "silent":
        print("Segmentation fault", file=sys.stderr)
        os._exit(1)
    elif behaviour.startswith("slow "):
        time.sleep(float(behaviour.split()[1]))
    elif behaviour.startswith("change "):
        with Path(behaviour.split(" ", 1)[1]).open("a") as stream:
            stream.write("\n")


def fingerprint(modality: str, options: argparse.Namespace) -> str:
    config = Path(options.config).read_bytes() if options.config else b""
    request = TrainingRequest.model_validate_json(options.request) if options.request else None
    given = Options(
        config=config,
        overrides=options.set,
        seed=options.seed,
        demo_data=options.demo_data,
        training_config=request.training_config if request else {},
    )
    data = data_fingerprints(Path(options.data), options.user, [modality])[modality]
    code = code_fingerprint(find_trainer(modality).package, pretrained_folder())
    return job_fingerprint(options.user, modality, data, given, code)


def write_bundle(out: Path, user: str, modality: str, run_id: str, job_fingerprint: str) -> Path:
    folder = out / f"{modality}_{user}_{run_id}"
    staging = out / f".{folder.name}.{os.getpid()}"
    staging.mkdir(parents=True)
    contents = {
        "model": ("model.onnx", Path(os.environ["MODEL_TRAINER_FAKE_ONNX"]).read_bytes()),
        "label_map": ("label_map.json", b'{"0": "no", "1": "yes"}'),
        "label_encoder": ("label_encoder.pkl", b"never read"),
        "training_log": ("training_log.json", b"{}"),
        "model_card": ("model_card.html", b"<!doctype html><title>card</title>"),
    }
    files = {}
    for role, (name, content) in contents.items():
        (staging / name).write_bytes(content)
        files[role] = {"name": name, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    entry = {
        "timestamp": NOW,
        "schema_version": "1.0.0",
        "trainer_name": f"{modality}_trainer",
        "vector_version": "fake_v1",
        "feature_spec_id": "fake_v1",
        "config": {},
        "labels": ["no", "yes"],
        "metrics": {"accuracy": 0.9},
        "verdict": "good",
        "example_count": 24,
        "session_count": 3,
        "examples_hash": "sha256:" + "0" * 64,
        "data_fingerprint": "0" * 64,
        "job_fingerprint": job_fingerprint,
    }
    manifest = {
        "format": 1,
        "user_id": user,
        "modality": modality,
        "run_id": run_id,
        "created": NOW,
        "files": files,
        "encoder_refs": [],
        "entry": entry,
    }
    (staging / "bundle.json").write_text(json.dumps(manifest))
    staging.rename(folder)
    return folder


if __name__ == "__main__":
    sys.exit(main())
