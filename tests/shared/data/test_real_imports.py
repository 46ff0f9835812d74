"""The commands of docs/importing.md, run on real data sets, give the users, sessions and labels that they promise."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from shared.commands.check import check_command
from shared.commands.import_data import import_command
from shared.data_loader import DataFilter, Dataset, load_dataset, users_with_data
from tests.paths import ROOT

pytestmark = [pytest.mark.realdata, pytest.mark.slow]
DOCUMENT = ROOT / "docs" / "importing.md"
COMMANDS = {"import": import_command, "check": check_command}
SPEAKERS = ["george", "jackson", "lucas", "nicolas", "theo", "yweweler"]


def documented() -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    return [shlex.split(block.replace("\\\n", " ")) for block in blocks]


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory, real_data: Path) -> Path:
    folder = tmp_path_factory.mktemp("imported")
    commands = documented()
    assert len(commands) == 6
    for program, name, *arguments in commands:
        assert program == "model-trainer"
        given = [text.replace("../shared/data", str(real_data)) for text in arguments]
        given = [str(folder / "data") if text == "data" else text for text in given]
        result = CliRunner().invoke(COMMANDS[name], given)
        assert result.exit_code == 0, result.output + repr(result.exception)
    return folder / "data"


def load(data: Path, user: str, modality: str) -> Dataset:
    return load_dataset(data, [user], modality, DataFilter())


def test_every_folder_is_imported(imported: Path) -> None:
    assert users_with_data(imported) == {
        **{speaker: {"sound": 500} for speaker in SPEAKERS},
        "home": {"visual_environment": 238},
        "mover": {"gesture": 5296},
        "signer": {"gesture": 4787},
        "talker": {"speech": 1000},
    }


def test_spoken_digits_have_five_sessions_of_ten_takes_a_digit(imported: Path) -> None:
    dataset = load(imported, "theo", "sound")
    assert dataset.labels == tuple("0123456789")
    assert set(Counter(zip(dataset.session_ids, dataset.label_index.tolist(), strict=True)).values()) == {10}
    assert len(set(dataset.session_ids)) == 5


def test_a_house_is_a_session(imported: Path) -> None:
    dataset = load(imported, "home", "visual_environment")
    assert dataset.labels == ("bathroom", "bedroom", "frontal", "kitchen")
    assert Counter(Counter(dataset.session_ids).values()) == {4: 59, 2: 1}  # two copies of one photograph are left out
    assert len(set(dataset.session_ids)) == 60


@pytest.mark.parametrize(
    ("user", "labels", "shape"),
    [
        ("signer", ("Close", "OK", "Open", "Pointer"), (1, 42)),
        ("mover", ("Clockwise", "Counter Clockwise", "Move", "Stop"), (16, 2)),
    ],
)
def test_keypoints_are_cut_into_ten_blocks(
    imported: Path, user: str, labels: tuple[str, ...], shape: tuple[int, int]
) -> None:
    dataset = load(imported, user, "gesture")
    assert dataset.labels == labels
    assert len(set(dataset.session_ids)) == 10
    assert {sample.features.shape for sample in dataset.samples if sample.features is not None} == {shape}


def test_texts_are_spread_evenly_over_contexts_and_sessions(imported: Path) -> None:
    dataset = load(imported, "talker", "speech")
    assert set(Counter(sample.label for sample in dataset.samples).values()) == {100}
    assert set(Counter(dataset.session_ids).values()) == {200}
