"""What options of the gesture recipe are worth across sessions: `python -m benchmarks.gesture_options`."""

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
from demo.people import PEOPLE, ROOMS, SAMPLES_PER_LABEL
from gesture_trainer.parts import answering_parts, parts_of
from gesture_trainer.preprocessing.postprocessing import OneEuro, SavitzkyGolay, Smoothing, finish
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
SMOOTHING: dict[str, tuple[Smoothing | None, float | None]] = {  # and key frames, as a share of the usual length
    "as they are": (None, None),
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

    def validated(self, config: GestureConfig | None = None) -> Validation:
        """Validate the candidates of `config`, or the simplest one that suits the layout."""
        config = config or GestureConfig(candidates=SUITABLE[self.data.layout][:1])
        candidates = gesture_candidates(_job(), config, self.data, few=False)
        return validate_by_session(candidates, self.classes, self.sessions, range(len(self.classes)), CONFIG, 0)

    def finished(self, smoothing: Smoothing | None, share: float | None) -> Case:
        """Return the case with its sequences smoothed, or reduced to key frames."""
        frames = None if share is None else round(share * float(np.median([len(s) for s in self.data.sequences])))
        kept = tuple(finish(s, 2, smoothing, frames) for s in self.data.sequences)
        return replace(self, data=replace(self.data, sequences=kept))


def _job() -> Job:
    return Job(("options",), Path(), Path(), "options", log=RunLog(io.StringIO()))


def people(seeds: int = 1) -> Iterator[Case]:
    """Yield the demo's people, made up anew for each seed: 4 or 5 gestures, 3 sessions of 8 takes."""
    for seed in range(seeds):
        for number, person in enumerate(PEOPLE):
            takes = [
                (landmarks(name, person, room, np.random.default_rng([seed, number, day, label, take])), label, day)
                for day, room in enumerate(ROOMS)
                for label, name in enumerate(person.gestures)
                for take in range(SAMPLES_PER_LABEL)
            ]
            sequences, classes, days = zip(*takes, strict=True)
            yield Case(Sequences(sequences, ENCODING, 214, "body_xy"), np.array(classes), tuple(map(str, days)))


def fingertip() -> Case:
    """Return the real paths of a fingertip."""
    dataset = load_all(data_root("fingertip"), "mover", "gesture")
    data, dataset = landmark_sequences(dataset, GestureConfig().extraction)
    return Case(data, dataset.label_index, dataset.session_ids)


def _figures(cases: list[Case], config: GestureConfig | None = None) -> tuple[str, str]:
    found = [(case, case.validated(config)) for case in cases]
    accuracy = np.mean([(v.predicted == case.classes).mean() for case, v in found])
    return f"{accuracy:.3f}", f"{np.mean([1 - v.accepted.mean() for _, v in found]):.3f}"


def _parts(cases: list[Case]) -> list[tuple[str, str, str]]:
    """Return how parts of 16 frames of held-out sessions are answered: by the model of the whole, and by their own."""
    rows = np.zeros((len(cases), 4))
    for row, case in zip(rows, cases, strict=True):
        found = case.validated()
        cut, owner = parts_of(case.data.sequences, 16, 5)
        everything = np.arange(len(case.classes))
        features = np.stack(list(found.winner.source.graph(everything).run([{"sequence": part} for part in cut])))
        right, taken = np.zeros(len(cut), bool), np.zeros(len(cut), bool)
        for fold in np.unique(found.fold):
            own = found.fold[owner] == fold
            fitted = fit_candidate(
                found.winner, case.classes, np.flatnonzero(found.fold != fold), len(set(case.classes))
            )
            label, _, accepted, _ = found.rule(*fitted(features[own]))
            right[own], taken[own] = label == case.classes[owner][own], accepted
        _, report = answering_parts(
            _job(), found, case.data, case.classes, case.sessions, 16, 5, CONFIG.false_rejection
        )
        assert report is not None
        row[:] = right.mean(), 1 - taken.mean(), report.recognised, report.rejected
    whole, rejected, own_head, own_rejected = (f"{value:.3f}" for value in rows.mean(axis=0))
    return [
        ("parts of 16 frames, the model of the whole", whole, rejected),
        ("parts of 16 frames, their own head", own_head, own_rejected),
    ]


@click.command()
def main() -> None:
    """Print accuracy across sessions, and how much of what is known is rejected, with each option of the recipe.

    \b
    Example:
      python -m benchmarks.gesture_options
    """
    threadpool_limits(1)
    made, console = list(people()), Console(width=110)
    table = Table("option", "data", "accuracy", "known rejected")
    for title, cases in (("made gestures", made), ("fingertip", [fingertip()] if SOURCE.is_dir() else [])):
        for name, (smoothing, share) in SMOOTHING.items() if cases else ():
            table.add_row(name, title, *_figures([case.finished(smoothing, share) for case in cases]))
            console.print(name, title, highlight=False)
    table.add_row("trees instead", "made gestures", *_figures(made, TREES))
    for name, accuracy, rejected in _parts(made):
        table.add_row(name, "made gestures", accuracy, rejected)
    console.print(table)


if __name__ == "__main__":
    main()
