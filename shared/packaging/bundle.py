"""The output of one training run: a folder of files that appears whole or not at all, described by `bundle.json`."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import joblib
import numpy as np

from model_registry.storage.durable import staged_folder
from model_registry.storage.entry import BundleEntry, BundleManifest, InputTensor, StoredFile
from shared.errors import ConfigError, Fault
from shared.learning.prediction_sets import fit_set_threshold
from shared.packaging.output import bundle_folder, json_bytes, output_error
from shared.training_run import TrainingRun

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


def bundle_files(run: TrainingRun, reports: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the content of every file of a bundle by its role: the model with its labels, and the `reports`."""
    labels = run.dataset.labels
    return {
        "model": run.exported.model,
        "label_map": label_map(labels),
        "label_encoder": label_encoder(labels),
        **reports,
    }


def bundle_manifest(run: TrainingRun, files: Mapping[str, bytes], timestamp: str) -> BundleManifest:
    """Return what `bundle.json` says: the files, and all of the registry entry that is known before it is published."""
    dataset, spec, report = run.dataset, run.spec, run.report
    ids = "\n".join(sorted(sample.record_id for sample in dataset.samples))
    return BundleManifest(
        format=1,
        user_id=dataset.user_id,
        modality=dataset.modality,
        run_id=run.job.run_id,
        created=timestamp,
        files=stored_files(files),
        encoder_refs=spec.encoder_refs,
        entry=BundleEntry(
            timestamp=timestamp,
            trainer_name=f"{dataset.modality}_trainer",
            vector_version=run.model.graph.spec_id,
            feature_spec_id=run.model.graph.spec_id,
            encoding=run.encoding,
            config=run.config.model_dump(mode="json"),
            labels=dataset.labels,
            metrics=report.metrics,
            verdict=report.verdict,
            example_count=len(dataset),
            session_count=len(set(dataset.session_ids)),
            examples_hash=f"sha256:{hashlib.sha256(ids.encode()).hexdigest()}",
            data_fingerprint=dataset.fingerprint,
            job_fingerprint=run.job.fingerprint,
            normalisation_version=spec.normalisation_version,
            expected_frame_rate=spec.expected_frame_rate,
            expected_length=spec.expected_length,
            rejection_threshold=run.validation.rule.threshold,
            set_threshold=fit_set_threshold(
                run.validation.probabilities, dataset.label_index, np.array(dataset.groups)
            ),
            inputs=tuple(InputTensor(**asdict(tensor)) for tensor in run.model.graph.contract),
            preparation=dict(spec.preparation),
        ),
    )


def stored_files(files: Mapping[str, bytes]) -> dict[str, StoredFile]:
    """Return name, sha256 and size of files by their role."""
    return {
        role: StoredFile(name=FILE_NAMES[role], sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        for role, data in files.items()
    }


def write_bundle(out: Path, manifest: BundleManifest, files: Mapping[str, bytes]) -> Bundle:
    """Write the contents of `files` (role -> bytes) to `<out>/<modality>_<user>_<run_id>/` and return the bundle.

    Everything is staged in a folder in `out` and renamed into place. Raises DiskFullError, and ConfigError if `out`
    cannot be written otherwise or the run id is taken.
    """
    folder = bundle_folder(out, manifest.modality, manifest.user_id, manifest.run_id)
    try:
        with staged_folder(folder, replace=False) as staged:
            for role, data in files.items():
                (staged / FILE_NAMES[role]).write_bytes(data)
            (staged / "bundle.json").write_bytes(manifest.to_json())
    except FileExistsError:
        raise ConfigError([Fault(str(out), None, "--run-id", f"{folder.name} exists already")]) from None
    except OSError as error:
        raise output_error(out, error) from None
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
    """Return scikit-learn's LabelEncoder as `joblib.dump` writes it: the same labels give the same bytes.

    For consumers that were promised one; they read it with `joblib.load`. Nothing of ours does.
    """
    from sklearn.preprocessing import LabelEncoder  # slow to import, and prediction needs no bundle

    buffer = io.BytesIO()
    joblib.dump(LabelEncoder().fit(list(labels)), buffer)
    return buffer.getvalue()
