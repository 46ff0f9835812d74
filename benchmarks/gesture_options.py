"""Accuracy across sessions with options of the gesture recipe: `python -m benchmarks.gesture_options`."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from benchmarks.few_shot import Numbers, load_all
from benchmarks.real_data import SOURCE, data_root
from demo.gestures import ENCODING, landmarks
from demo.people import PEOPLE, SAMPLES_PER_LABEL, SESSIONS
from gesture_trainer.parts import answering_parts, parts_of
from gesture_trainer.preprocessing.postprocessing import OneEuro, SavitzkyGolay, Smoothing, postprocess
from gesture_trainer.preprocessing.sequences import Sequences, landmark_sequences
from gesture_trainer.train import SUITABLE, GestureConfig, gesture_candidates
from shared.evaluation import EvaluationConfig, Validation, validate_by_session
from shared.job import Job
from shared.learning.candidates import fit_candidate
from shared.logs import RunLog

TREES = GestureConfig.model_validate(
    {
        "candidates": [
            {
                "features": "body_motion",
                "classifier": {"type": "extra_trees", "n_estimators": 50, "max_leaf_nodes": 128},
            }
        ],
        "augmentation": {"copies": 3},
    }
)
CONFIG = EvaluationConfig(random_split=False, learning_curve=False, unknown=False)
SMOOTHING: dict[str, tuple[Smoothing | None, float | None]] = {  # and key frames, as a share of the median length
    "no smoothing": (None, None),
    "Savitzky-Golay, 7 frames": (SavitzkyGolay(), None),
    "Savitzky-Golay, 5 frames": (SavitzkyGolay(window=5), None),
    "One-Euro, 1 Hz": (OneEuro(cutoff=1.0), None),
    "One-Euro, 2 Hz": (OneEuro(cutoff=2.0, speed=10.0), None),
    "key frames, half": (None, 0.5),
    "key frames, three quarters": (None, 0.75),
}


@dataclass(frozen=True)
class Case:
    """Sequences of one person with their classes and sessions."""

    data: Sequences
    classes: Numbers
    sessions: tuple[str, ...]

    def validate(self, config: GestureConfig | None = None) -> Validation:
        """Validate the candidates of `config`, by default the first one that suits the layout."""
        config = config or GestureConfig(candidates=SUITABLE[self.data.layout][:1])
        candidates = gesture_candidates(_job(), config, self.data)
        return validate_by_session(candidates, self.classes, self.sessions, range(len(self.classes)), CONFIG, 0)

    def postprocessed(self, smoothing: Smoothing | None, share: float | None) -> Case:
        """Return the case with its sequences smoothed or reduced to key frames."""
        frames = None if share is None else round(share * float(np.median([len(s) for s in self.data.sequences])))
        sequences = tuple(postprocess(s, 2, smoothing, frames) for s in self.data.sequences)
        return replace(self, data=replace(self.data, sequences=sequences))


def _job() -> Job:
    return Job(("options",), Path(), Path(), "options", log=RunLog(io.StringIO()))


def people(seeds: int = 1) -> Iterator[Case]:
    """Yield the demo's people with new takes for each seed: 4 or 5 gestures, 3 sessions of 8 takes."""
    for seed in range(seeds):
        for number, person in enumerate(PEOPLE):
            takes = [
                (landmarks(name, person, session, np.random.default_rng([seed, number, day, label, take])), label, day)
                for day, session in enumerate(SESSIONS)
                for label, name in enumerate(person.gestures)
                for take in range(SAMPLES_PER_LABEL)
            ]
            sequences, classes, days = zip(*takes, strict=True)
            yield Case(Sequences(sequences, ENCODING, 214, "body_xy"), np.array(classes), tuple(map(str, days)))


def fingertip() -> Case:
    """Return the real fingertip paths."""
    dataset = load_all(data_root("fingertip"), "mover", "gesture")
    data, dataset = landmark_sequences(dataset, GestureConfig().extraction)
    return Case(data, dataset.label_index, dataset.session_ids)


def _figures(cases: list[Case], config: GestureConfig | None = None) -> tuple[str, str]:
    validations = [case.validate(config) for case in cases]
    accuracy = np.mean([(v.predicted == case.classes).mean() for case, v in zip(cases, validations, strict=True)])
    return f"{accuracy:.3f}", f"{np.mean([1 - v.accepted.mean() for v in validations]):.3f}"


def _windows(cases: list[Case]) -> list[tuple[str, str, str]]:
    """Return the figures of windows of 16 frames, with the whole-gesture classifier and with their own."""
    rows = np.zeros((len(cases), 4))
    for row, case in zip(rows, cases, strict=True):
        validation = case.validate()
        windows, owner = parts_of(case.data.sequences, 16, 5)
        everything = np.arange(len(case.classes))
        features = np.stack(list(validation.winner.source.graph(everything).run([{"sequence": w} for w in windows])))
        correct, accepted = np.zeros(len(windows), bool), np.zeros(len(windows), bool)
        for fold in np.unique(validation.fold):
            held_out, train = validation.fold[owner] == fold, np.flatnonzero(validation.fold != fold)
            fitted = fit_candidate(validation.winner, case.classes, train, len(set(case.classes)))
            predicted, _, accepted[held_out], _ = validation.rule(*fitted(features[held_out]))
            correct[held_out] = predicted == case.classes[owner][held_out]
        rates = (CONFIG.false_rejection, CONFIG.false_acceptance)
        _, report = answering_parts(_job(), validation, case.data, case.classes, case.sessions, 16, 5, rates)
        assert report is not None
        row[:] = correct.mean(), 1 - accepted.mean(), report.recognised, report.rejected
    whole, rejected, own, own_rejected = (f"{value:.3f}" for value in rows.mean(axis=0))
    return [
        ("windows of 16 frames, whole-gesture classifier", whole, rejected),
        ("windows of 16 frames, their own classifier", own, own_rejected),
    ]


@click.command()
def main() -> None:
    """Print accuracy across sessions and false rejection rate with each option of the recipe.

    \b
    Example:
      python -m benchmarks.gesture_options
    """
    threadpool_limits(1)
    synthetic, console = list(people()), Console(width=110)
    table = Table("option", "data", "accuracy", "false rejection rate")
    for title, cases in (
        ("synthetic gestures", synthetic),
        ("fingertip paths", [fingertip()] if SOURCE.is_dir() else []),
    ):
        for name, (smoothing, share) in SMOOTHING.items() if cases else ():
            table.add_row(name, title, *_figures([case.postprocessed(smoothing, share) for case in cases]))
            console.print(name, title, highlight=False)
    table.add_row("trees instead of discriminants", "synthetic gestures", *_figures(synthetic, TREES))
    for name, accuracy, rejected in _windows(synthetic):
        table.add_row(name, "synthetic gestures", accuracy, rejected)
    console.print(table)


if __name__ == "__main__":
    main()
