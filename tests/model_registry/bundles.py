"""Bundles made in code, as a trainer would leave them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from model_registry.storage.encoders import EncoderSpec, Source, Tensor

FILES = {
    "model": "model.onnx",
    "label_map": "label_map.json",
    "label_encoder": "label_encoder.pkl",
    "training_log": "training_log.json",
    "model_card": "model_card.html",
    "confusion_matrix": "confusion_matrix.png",
}


def entry(**changes: Any) -> dict[str, Any]:
    """What a trainer says of a model."""
    return {
        "timestamp": "2026-03-01T10:00:00.000Z",
        "trainer_name": "gesture_trainer",
        "vector_version": "hands_xy_v1",
        "feature_spec_id": "hands_xy_v1",
        "config": {"seed": 0, "heads": ["lda", "ridge"], "alpha": 1e-3},
        "labels": ["drink", "stop", "très"],
        "metrics": {"accuracy": 0.91, "f1_macro": 0.9},
        "verdict": "good",
        "example_count": 60,
        "session_count": 3,
        "examples_hash": "sha256:" + "1" * 64,
        "data_fingerprint": "d" * 64,
        "job_fingerprint": "j" * 64,
    } | changes


def describe(folder: Path, contents: dict[str, bytes], **changes: Any) -> dict[str, Any]:
    """`bundle.json` for files that lie in `folder`."""
    return {
        "format": 1,
        "user_id": "user123",
        "modality": "gesture",
        "run_id": "run1",
        "created": "2026-03-01T10:00:01.000Z",
        "files": {
            role: {"name": FILES[role], "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
            for role, data in contents.items()
        },
        "encoder_refs": [],
        "entry": entry(),
    } | changes


def make_bundle(
    out: Path,
    *,
    user: str = "user123",
    modality: str = "gesture",
    run: str = "run1",
    model: bytes | None = None,
    encoder_refs: list[dict[str, str]] | None = None,
    log: dict[str, Any] | None = None,
    card: bytes = b"<!doctype html><title>card</title>",
    **changes: Any,
) -> Path:
    """Write a bundle and return its folder; `log` adds to its training log, `changes` replace fields of the entry."""
    folder = out / f"{modality}_{user}_{run}"
    folder.mkdir(parents=True)
    said = {"user_id": user, "modality": modality, "run_id": run, "status": "success", "model_artifact_path": ""}
    contents = {
        "model": model if model is not None else f"model of {run}".encode(),
        "label_map": json.dumps({"drink": 0, "stop": 1}).encode(),
        "label_encoder": b"cos\nsystem\n(S'touch /tmp/never'\ntR.",  # a pickle that would run a command
        "training_log": json.dumps(said | (log or {})).encode(),
        "model_card": card,
        "confusion_matrix": b"\x89PNG\r\n",
    }
    for role, data in contents.items():
        (folder / FILES[role]).write_bytes(data)
    names = {"user_id": user, "modality": modality, "run_id": run, "encoder_refs": encoder_refs or []}
    description = describe(folder, contents, **names, entry=entry(**changes))
    (folder / "bundle.json").write_text(json.dumps(description))
    return folder


def make_encoder(
    out: Path, *, network: bytes = b"network", name: str = "minilm", tokenizer: str = "{}"
) -> dict[str, str]:
    """Write a shared encoder beside the bundles and return the reference to it."""
    files = {"model.onnx": network, "tokenizer.json": tokenizer.encode()}
    digests = {file: hashlib.sha256(data).hexdigest() for file, data in files.items()}
    spec = EncoderSpec(
        name=name,
        sha256=digests["model.onnx"],
        inputs={"ids": Tensor(dtype="int64", shape=("n", "length"), meaning="token ids")},
        outputs={"embedding": 2},
        licence="Apache-2.0",
        source=Source(package="made-up", version="1.0"),
        files=digests,
    )
    return write_encoder(out, spec, files)


def write_encoder(out: Path, spec: EncoderSpec, files: dict[str, bytes]) -> dict[str, str]:
    """Write an encoder as `spec` describes it, and return the reference to it."""
    folder = out / "encoders" / spec.sha256
    folder.mkdir(parents=True, exist_ok=True)
    for file, data in files.items():
        (folder / file).write_bytes(data)
    (folder / "encoder.json").write_text(spec.text())
    return {"name": spec.name, "sha256": spec.sha256}


def all_bytes(root: Path) -> dict[str, bytes]:
    """Every file under a folder, by its path."""
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}
