"""The folder that `--out` names: checked before training begins; bundles go there, and the logs of failed runs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model_registry.names import Modality
from model_registry.storage.durable import FULL, try_writing, write_file_atomically
from shared.errors import ConfigError, DiskFullError, Fault, TrainerError

FAILURES = "failures"  # the folder of their logs


def bundle_folder(out: Path, modality: Modality, user: str, run_id: str) -> Path:
    """Return the folder of a run's bundle."""
    return out / f"{modality}_{user}_{run_id}"


def output_faults(out: Path, bundle: Path) -> list[Fault]:
    """Return why the `bundle` cannot be written into the folder `out`; nothing is changed by trying."""
    try:
        try_writing(out)
    except NotADirectoryError as error:
        what = "is a file" if error.filename == str(out.absolute()) else f"lies below {error.filename}, which is a file"
        return [Fault(str(out), None, "--out", f"{what}; name a folder for the bundles")]
    except OSError as error:
        return [output_fault(out, error)]
    if os.path.lexists(bundle):
        return [Fault(str(out), None, "--run-id", f"{bundle.name} exists already; name another run or another --out")]
    return []


def output_error(out: Path, error: OSError) -> TrainerError:
    """Return what to raise for a folder that the file system does not let us write to."""
    if error.errno in FULL:
        return DiskFullError(f"{out}: no room is left on the disk; make room, then try again")
    return ConfigError([output_fault(out, error)])


def output_fault(out: Path, error: OSError) -> Fault:
    """Return the fault of a folder that the file system does not let us write to."""
    reason = (error.strerror or str(error)).lower()
    return Fault(str(out), None, "--out", f"cannot be written: {reason}; make room or name another folder")


def write_failure(out: Path, entry: Mapping[str, Any]) -> None:
    """Write the log of a failed run to `<out>/failures/<modality>_<user>_<run id>.json`, whole or not at all.

    Raises OSError where the file system refuses.
    """
    path = failure_path(out, entry)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file_atomically(path, json_bytes(entry))


def failure_path(out: Path, entry: Mapping[str, Any]) -> Path:
    """Return where the log of a failed run belongs."""
    return out / FAILURES / f"{entry['modality']}_{entry['user_id']}_{entry['run_id']}.json"


def json_bytes(document: Any) -> bytes:
    """Return a document as indented UTF-8 JSON."""
    return (json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode()
