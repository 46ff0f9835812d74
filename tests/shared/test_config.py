"""Configuration: defaults in the schema, every fault with its place, nothing hostile gets through."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from shared.config import TrainerConfig, load_config
from shared.errors import ConfigError
from shared.learning.candidates import Auto, CandidateConfig


def _file(folder: Path, text: str) -> Path:
    path = folder / "c.yaml"
    path.write_text(text)
    return path


def test_defaults_need_no_file() -> None:
    assert load_config(TrainerConfig, None, []) == TrainerConfig()


def test_settings_lie_over_the_file(tmp_path: Path) -> None:
    path = _file(tmp_path, "seed: 3\nevaluation:\n  folds: 4\n")
    config = load_config(TrainerConfig, path, ["evaluation.folds=3", "data.sessions=[a, b]"])
    assert (config.seed, config.evaluation.folds, config.data.sessions) == (3, 3, ("a", "b"))


def test_all_faults_are_reported_at_once(tmp_path: Path) -> None:
    path = _file(tmp_path, "sed: 3\nevaluation:\n  folds: many\n  false_rejection: 2\n")
    with pytest.raises(ConfigError) as caught:
        load_config(TrainerConfig, path, [])
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"{path}: ") for line in lines)
    assert {line.split(": ")[1] for line in lines} == {"sed", "evaluation.folds", "evaluation.false_rejection"}


class WithCandidates(TrainerConfig):
    candidates: Auto | Annotated[tuple[CandidateConfig[Literal["loud", "long"]], ...], Field(min_length=1)] = "auto"


@pytest.mark.parametrize(
    ("candidates", "faults"),
    [
        ("magic", ["candidates: must be 'auto' or a list"]),
        ("[]", ["candidates: must be 'auto' or a list of at least 1"]),
        ("[loud_lda]", ["candidates.0: must be a mapping of keys to values"]),
        ("[{features: loud}]", ["candidates.0.classifier: is missing"]),
        ("[{classifier: lda}]", ["candidates.0.classifier: must be a mapping of keys to values"]),
        ("[{classifier: {C: 1}}]", ["candidates.0.classifier.type: is missing"]),
        ("[{features: l, classifier: {type: lda}}]", ["candidates.0.features: must be 'loud' or 'long'"]),
        ("[{features: [loud, l], classifier: {type: lda}}]", ["candidates.0.features.1: must be 'loud' or 'long'"]),
        ("[{features: [], classifier: {type: lda}}]", ["candidates.0.features: must be a list of at least 1"]),
        (
            "[{classifier: {type: lda}}, {classifier: {type: svm, C: 0, shrinkage: 0.1}}]",
            [
                "candidates.1.classifier.C: must be greater than 0",
                "candidates.1.classifier.shrinkage: is not a known key",
            ],
        ),
        (
            "[{classifier: {type: ridge, alpha: none}}]",
            ["candidates.0.classifier.alpha: must be 'auto' or a valid number, unable to parse string as a number"],
        ),
    ],
)
def test_a_faulty_candidate_is_one_line_for_each_key_in_words_of_the_configuration(
    candidates: str, faults: list[str]
) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(WithCandidates, None, [f"candidates={candidates}"])
    assert str(refused.value).splitlines() == [f"configuration: {fault}" for fault in faults]


def test_an_unknown_classifier_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"candidates\.0\.classifier\.type: must be one of 'lda', .*'mlp'$"):
        load_config(WithCandidates, None, ["candidates=[{classifier: {type: magic}}]"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &x [1]\nb: *x\n", "aliases are not allowed"),
        ("seed: 1\nseed: 2\n", "duplicate key"),
        ("!!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("- 1\n- 2\n", "must be a mapping"),
        ("a: [1\n", "c.yaml:"),
        ("seed: 1\n" + "# " + "x" * 300_000, "larger than"),
        ("\x00", "c.yaml"),
    ],
)
def test_hostile_yaml_is_one_line(text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        load_config(TrainerConfig, _file(tmp_path, text), [])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("setting", ["seed", "=3", "seed.=3", "seed.x=3", "seed=[", "evaluation=1"])
def test_a_setting_that_cannot_be_used_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError):
        load_config(TrainerConfig, None, ["seed=1", setting])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: \(whole\): No such file"):
        load_config(TrainerConfig, tmp_path / "nowhere.yaml", [])


def test_a_configuration_does_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        TrainerConfig().seed = 1  # type: ignore[misc]
