"""Write the JSON Schema of every document into this folder: `python docs/schemas/write.py`."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel

from model_registry.storage import entry
from model_registry.storage.encoders import EncoderSpec
from shared import schema_utils

DOCUMENTS: dict[str, type[BaseModel]] = {
    "bundle": entry.BundleManifest,
    "registry_entry": entry.RegistryEntry,
    "manifest": entry.VersionManifest,
    "active": entry.ActivePointer,
    "signature": entry.VersionSignature,
    "history_event": entry.Event,
    "tombstone": entry.Tombstone,
    "registry": entry.RegistryFormat,
    "encoder": EncoderSpec,
    "example": schema_utils.Example,
    "session": schema_utils.SessionMetadata,
    "training_request": schema_utils.TrainingRequest,
    "training_log": schema_utils.TrainingLogEntry,
}


def texts() -> dict[str, str]:
    """Return the text of each schema by its file name."""
    return {
        f"{name}.schema.json": json.dumps(
            {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()},
            indent=2,
            ensure_ascii=False,
        )
        + "\n"
        for name, model in DOCUMENTS.items()
    }


if __name__ == "__main__":
    for _name, _text in texts().items():
        (Path(__file__).parent / _name).write_text(_text, encoding="utf-8")
