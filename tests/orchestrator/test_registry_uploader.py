"""Bundles go into the registry once, however often they are uploaded."""

from __future__ import annotations

import subprocess
import sys

from orchestrated import Place


def _upload(place: Place) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "orchestrator.registry_uploader", str(place.runs)]
    return subprocess.run(
        [*command, "--registry", str(place.root / "other")],
        env=place.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_uploading_again_changes_nothing_and_a_damaged_bundle_is_refused_alone(place: Place) -> None:
    place.add("ana")
    place.add("ben")
    place.add("cleo")
    assert place.launch("--jobs", "2").returncode == 0
    next(place.runs.glob("bundles/speech_ben_*/model.onnx")).write_bytes(b"other")
    first = _upload(place)
    assert first.returncode == 3
    assert len(first.stdout.splitlines()) == 2 and all("published as" in line for line in first.stdout.splitlines())
    assert "speech_ben" in first.stderr and len(first.stderr.splitlines()) == 1
    second = _upload(place)
    assert all("was published before as" in line for line in second.stdout.splitlines())
    assert sorted(line.rsplit(" ", 1)[1] for line in second.stdout.splitlines()) == ["v1", "v1"]


def test_a_folder_without_bundles_is_told(place: Place) -> None:
    place.runs.mkdir()
    done = _upload(place)
    assert done.returncode == 3
    assert "no finished bundle" in done.stderr
