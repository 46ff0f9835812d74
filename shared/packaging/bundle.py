"""The output of one training run: a folder of files that appears whole or not at all, described by `bundle.json`."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from model_registry.names import Modality
from model_registry.storage.durable import staged_folder
from model_registry.storage.entry import BundleEntry, BundleManifest, EncoderRef, StoredFile
from shared.errors import ConfigError

FILE_NAMES = {
    "model": "model.onnx",
    "label_map": "label_map.json",
    "label_encoder": "label_encoder.pkl",
    "training_log": "training_log.json",
    "model_card": "model_card.html",
    "confusion_matrix": "confusion_matrix.png",
}


@dataclass(frozen=True)
class Bundle:
    """A finished bundle: its folder and what its `bundle.json` says."""

    folder: Path
    manifest: BundleManifest


def write_bundle(
    out: Path,
    user: str,
    modality: Modality,
    run_id: str,
    files: Mapping[str, bytes],
    entry: BundleEntry,
    encoder_refs: Sequence[EncoderRef] = (),
) -> Bundle:
    """Write the contents of `files` (role -> bytes) to `<out>/<modality>_<user>_<run_id>/` and return the bundle.

    Everything is staged in a folder beside and renamed into place. Raises ConfigError if `out` cannot be written
    or the run id is taken.
    """
    folder = out / f"{modality}_{user}_{run_id}"
    manifest = BundleManifest(
        format=1,
        user_id=user,
        modality=modality,
        run_id=run_id,
        created=entry.timestamp,
        files={
            role: StoredFile(name=FILE_NAMES[role], sha256=hashlib.sha256(data).hexdigest(), size=len(data))
            for role, data in files.items()
        },
        encoder_refs=tuple(encoder_refs),
        entry=entry,
    )
    try:
        with staged_folder(folder, replace=False) as staged:
            for role, data in files.items():
                (staged / FILE_NAMES[role]).write_bytes(data)
            (staged / "bundle.json").write_bytes(manifest.to_json())
    except FileExistsError:
        raise ConfigError(f"--run-id {run_id}: {folder.name} exists already in --out") from None
    except OSError as error:
        raise ConfigError(f"--out {out}: {error.strerror or error}") from None
    return Bundle(folder, manifest)


def label_map(labels: Sequence[str]) -> bytes:
    """Return the label map: the model's classes in the order of its probabilities. `unknown` is never among them."""
    document = {
        "schema_version": "1.0.0",
        "labels": list(labels),
        "index": {label: k for k, label in enumerate(labels)},
    }
    return json_bytes(document)


def label_encoder(labels: Sequence[str]) -> bytes:
    """Return a pickled scikit-learn LabelEncoder, for consumers that were promised one. Nothing of ours reads it.

    The class is named without being imported, which takes a second: its name, a new instance of it, its pickled state
    and the instruction to set that (opcodes of pickle's protocol 3).
    """
    state = {"classes_": np.unique(np.asarray(labels)), "_sklearn_version": version("scikit-learn")}
    inside = pickle.dumps(state, protocol=3)[2:-1]  # without the mark of the protocol and the end
    return b"\x80\x03csklearn.preprocessing._label\nLabelEncoder\n)\x81" + inside + b"b."


def json_bytes(document: Any) -> bytes:
    """Return a document as indented UTF-8 JSON."""
    return (json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode()
