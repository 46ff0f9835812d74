"""Bundles go into the registry once, however often they are uploaded."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from model_registry.client import TOKEN_VARIABLE
from model_registry.storage.tokens import add_token, tokens_file
from tests.model_registry.service.serving import served
from tests.orchestrator.orchestrated import Place


@pytest.fixture
def address(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    token = add_token(tokens_file(place.registry.created()), "trainer", ("read", "publish"))
    monkeypatch.setenv(TOKEN_VARIABLE, token)
    with served(place.registry) as url:
        yield url


def _upload(place: Place) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "orchestrator.registry_uploader", str(place.runs)]
    return subprocess.run(
        [*command, "--registry", str(place.root / "other")],
        env=place.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.slow
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


def test_a_folder_without_bundles_is_an_error(place: Place) -> None:
    place.runs.mkdir()
    done = _upload(place)
    assert done.returncode == 3
    assert "no finished bundle" in done.stderr


@pytest.mark.slow
def test_a_batch_publishes_through_the_service_and_knows_what_is_there(place: Place, address: str) -> None:
    place.add("ana", ["speech", "gesture"])
    assert place.launch("--registry", address).returncode == 0
    assert place.versions() == {"ana gesture": ["v1"], "ana speech": ["v1"]}
    again = place.launch("--registry", address)
    assert again.returncode == 0 and "2 up to date" in again.stdout
    uploader = [sys.executable, "-m", "orchestrator.registry_uploader", str(place.runs), "--registry", address]
    done = subprocess.run(uploader, env=place.environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stdout.count("was published before as") == 2


@pytest.mark.slow
def test_without_a_token_the_service_says_what_to_do(
    place: Place, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE)
    place.add("ana")
    done = place.launch("--registry", address)
    assert done.returncode == 2
    assert TOKEN_VARIABLE in done.stderr and "Traceback" not in done.stderr
