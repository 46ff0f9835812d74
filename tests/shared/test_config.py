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
    assert [line.split(": ")[:2] for line in lines] == [
        [f"{path}:1", "sed"],
        [f"{path}:3", "evaluation.folds"],
        [f"{path}:4", "evaluation.false_rejection"],
    ]


class WithCandidates(TrainerConfig):
    candidates: Auto | Annotated[tuple[CandidateConfig[Literal["loud", "long"]], ...], Field(min_length=1)] = "auto"


@pytest.mark.parametrize(
    ("candidates", "faults"),
    [
        (
            "magic",
            ["candidates: must be auto, or a list of at least 1, each a section with the keys features"],
        ),
        ("[]", ["candidates: must be auto, or a list of at least 1"]),
        ("[loud_lda]", ["candidates.0: must be a section with the keys features, classifier, not 'loud_lda'"]),
        (
            "[{features: loud}]",
            ["candidates.0.classifier: is missing; it must be a section whose type is one"],
        ),
        ("[{classifier: lda}]", ["candidates.0.classifier: must be a section whose type is one of lda, "]),
        ("[{classifier: {C: 1}}]", ["candidates.0.classifier.type: is missing; it must be one of extra_trees, "]),
        ("[{classifier: {type: rigde}}]", ["candidates.0.classifier.type: must be one of ridge, "]),
        ("[{features: l, classifier: {type: lda}}]", ["candidates.0.features.0: must be one of loud, long, not 'l'"]),
        ("[{features: [loud, l], classifier: {type: lda}}]", ["candidates.0.features.1: must be one of loud, long, "]),
        (
            "[{features: [], classifier: {type: lda}}]",
            ["candidates.0.features: must be a list of at least 1, each"],
        ),
        (
            "[{classifier: {type: lda}}, {classifier: {type: svm, C: 0, shrinkage: 0.1}}]",
            [
                "candidates.1.classifier.C: must be a number above 0.0, not 0",
                "candidates.1.classifier.shrinkage: is not a known key; valid keys: ",
            ],
        ),
        (
            "[{classifier: {type: ridge, alpha: none}}]",
            ["candidates.0.classifier.alpha: must be auto, or a number above 0.0, not 'none'"],
        ),
    ],
)
def test_a_faulty_candidate_is_one_line_for_each_key_in_words_of_the_configuration(
    candidates: str, faults: list[str]
) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(WithCandidates, None, [f"candidates={candidates}"])
    lines = str(refused.value).splitlines()
    assert len(lines) == len(faults)
    for line, fault in zip(lines, faults, strict=True):
        assert line.startswith(f"--set candidates={candidates}: {fault}")


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


def test_every_wrong_setting_is_named_at_once_with_what_is_valid(tmp_path: Path) -> None:
    path = _file(tmp_path, "gate:\n  beat_majorty: true\n  minimum_accuracy: 0.5\n")
    settings = ["foo=1", "seed", "data.sesions=[a]", "evaluation.random_split=on", "gate.minimum_accuracy=2"]
    with pytest.raises(ConfigError) as caught:
        load_config(TrainerConfig, path, settings, {"--seed": {"seed": -1}})
    said = {(fault.path, fault.line, fault.field): fault.reason for fault in caught.value.faults}
    assert {(place, line, key): reason.split(",")[0] for (place, line, key), reason in said.items()} == {
        ("--set foo=1", None, "foo"): "is not a known key; valid keys: seed",
        ("--set seed", None, "(whole)"): "must be written as key.sub=value",
        ("--set data.sesions=[a]", None, "data.sesions"): "is not a known key; valid keys: sessions",
        ("--set gate.minimum_accuracy=2", None, "gate.minimum_accuracy"): "must be a number from 0.0 to 1.0",
        (str(path), 2, "gate.beat_majorty"): "is not a known key; valid keys: beat_majority",
        ("--seed", None, "seed"): "must be a whole number of at least 0 and below 4294967296",
    }
    assert str(caught.value).splitlines() == list(map(str, caught.value.faults))


def test_options_lie_over_settings_and_settings_over_the_file(tmp_path: Path) -> None:
    path = _file(tmp_path, "seed: 1\ndata: {sessions: [a]}\n")
    config = load_config(
        TrainerConfig, path, ["seed=2"], {"--seed": {"seed": 3}, "--session": {"data": {"sessions": ["x=y", "2026"]}}}
    )
    assert (config.seed, config.data.sessions) == (3, ("x=y", "2026")), "an option's value is not read as YAML"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: \(whole\): file not found"):
        load_config(TrainerConfig, tmp_path / "nowhere.yaml", [])


def test_a_configuration_does_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        TrainerConfig().seed = 1  # type: ignore[misc]
