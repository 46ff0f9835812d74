"""The audit on spoken digits of one person: what was planted among them is named, and nothing else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.sound_trainer.test_sound_training import needs_network, trained

pytestmark = [needs_network, pytest.mark.realdata, pytest.mark.slow]
SESSIONS, TAKES = 3, 8  # of every digit


def _data(recordings: Path, root: Path, copies: dict[str, tuple[str, float]], wrong: dict[str, str]) -> Path:
    """Sessions of digits; what `copies` names is a copy of another recording, with so much noise, if any."""
    for path in sorted(recordings.glob("*_theo_*.wav")):
        digit, take = path.stem.split("_")[0], int(path.stem.split("_")[2])
        if take >= SESSIONS * TAKES:
            continue
        folder = root / "users" / "ana" / "sessions" / f"s{take // TAKES}"
        folder.mkdir(parents=True, exist_ok=True)
        source, noise = copies.get(path.stem, (path.stem, 0.0))
        content = (recordings / f"{source}.wav").read_bytes()
        (folder / path.name).write_bytes(content)
        if noise:
            wave, rate = soundfile.read(recordings / f"{source}.wav", dtype="float32")
            hiss = np.random.default_rng(take).normal(size=len(wave)).astype(np.float32)
            soundfile.write(folder / path.name, 0.97 * wave + noise * float(wave.std()) * hiss, rate)
        media = {"path": path.name, "sha256": hashlib.sha256((folder / path.name).read_bytes()).hexdigest()}
        example: dict[str, Any] = {"record_id": path.stem, "user_id": "ana", "session_id": folder.name, "media": media}
        example |= {"timestamp": "2026-03-01T10:00:00.000Z", "modality": "sound", "consent_given": True}
        example["label"] = wrong.get(path.stem, source.split("_")[0] if path.stem in copies else digit)
        with (folder / "examples.jsonl").open("a") as file:
            file.write(json.dumps(example) + "\n")
        (folder / "session.json").write_text(json.dumps({"user_id": "ana", "session_id": folder.name}))
    return root


def _audited(data: Path, out: Path) -> dict[str, Any]:
    few = {"evaluation": {"random_split": False, "unknown": False, "learning_curve": False}}
    found: dict[str, Any] = trained(data, out, few).entry.metrics["audit"]
    return found


def test_planted_copies_and_wrong_labels_are_named_and_nothing_on_clean_data(real_data: Path, tmp_path: Path) -> None:
    recordings = real_data / "free-spoken-digits" / "recordings"
    clean = _audited(_data(recordings, tmp_path / "clean", {}, {}), tmp_path / "out")
    assert len(clean["identical"]) == len(clean["near_identical"]) == 0

    last = SESSIONS * TAKES - 1
    same = {f"{d}_theo_{last}": (f"{d}_theo_0", 0.0) for d in range(10)}
    near = {f"{d}_theo_{last - k}": (f"{d}_theo_{k}", 0.003) for d in range(10) for k in (1, 2)}
    random = np.random.default_rng(0)
    mislabelled = {f"{d}_theo_{TAKES + int(random.integers(TAKES))}": str((d + 3) % 10) for d in range(10)}
    mislabelled |= {f"{d}_theo_{3}": str((d + 7) % 10) for d in (2, 5)}
    found = _audited(_data(recordings, tmp_path / "planted", same | near, mislabelled), tmp_path / "out2")
    assert {tuple(pair) for pair in found["identical"]} == {(source, copy) for copy, (source, _) in same.items()}
    pairs = {tuple(sorted(pair)) for pair in found["near_identical"]}
    planted = {tuple(sorted((copy, source))) for copy, (source, _) in near.items()}
    assert len(pairs & planted) >= 0.95 * len(planted) and not pairs - planted
    suspects = {row["record_id"] for row in found["suspected_labels"]}
    assert len(suspects & mislabelled.keys()) >= 0.8 * len(suspects)
    assert len(suspects & mislabelled.keys()) >= 0.5 * len(mislabelled)
    assert 0.04 <= len(mislabelled) / (10 * SESSIONS * TAKES) <= 0.06
