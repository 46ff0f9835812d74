"""What the code's part of a fingerprint depends on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.features.pretrained import declared
from shared.fingerprint import code_fingerprint


def _describe(pretrained: Path, name: str, sha256: str) -> Path:
    (pretrained / name).mkdir(parents=True)
    (pretrained / name / "encoder.json").write_text(json.dumps({"name": name, "sha256": sha256}, indent=2))
    return pretrained


def _recorded(name: str) -> str:
    (network,) = declared([name])
    return network.files[network.model]


@pytest.mark.parametrize(
    ("package", "name"), [("sound_trainer", "speech_embedding"), ("visual_environment_trainer", "lite0")]
)
def test_networks_that_the_sources_name_change_nothing_whether_they_are_there_or_not(
    tmp_path: Path, package: str, name: str
) -> None:
    assert code_fingerprint(package, _describe(tmp_path, name, _recorded(name))) == code_fingerprint(package)


def test_networks_of_other_trainers_change_nothing(tmp_path: Path) -> None:
    assert code_fingerprint("sound_trainer", _describe(tmp_path, "lite0", "0" * 64)) == code_fingerprint(
        "sound_trainer"
    )


@pytest.mark.parametrize("name", ["speech_embedding", "one_of_mine"])
def test_other_networks_count_by_their_description(tmp_path: Path, name: str) -> None:
    found = {code_fingerprint("sound_trainer", _describe(tmp_path / digit, name, digit * 64)) for digit in "ab"}
    assert len(found | {code_fingerprint("sound_trainer")}) == 3
