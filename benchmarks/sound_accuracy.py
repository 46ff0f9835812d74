"""The sound recipe on spoken digits, one model per speaker: few-shot, by session, and with unknown sounds.

As in training, the configured candidates are selected and calibrated on the training takes alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.few_shot import (
    DRAWS,
    Numbers,
    Predictions,
    Row,
    draw_per_class,
    fit_and_predict,
    load_all,
    quiet_job,
    wilson_row,
)
from benchmarks.real_data import data_root
from shared.evaluation import validate_by_session
from shared.features.arrays import Inputs
from shared.features.probes import FITTED, REPORTED
from shared.learning.candidates import Candidate
from sound_trainer.preprocessing.probes import sound_probes
from sound_trainer.preprocessing.recordings import open_recordings
from sound_trainer.train import SoundConfig, sound_candidates

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
FIRST_TESTED = 25  # takes from here on are never trained on
FEW_TAKES_TARGETS = {3: 0.97, 5: 0.975, 10: 0.985}
CONFIG = SoundConfig()
_TAKE = re.compile(r"_(\d+)(?:-[0-9a-f]+)?\.wav$")


@dataclass(frozen=True)
class Speaker:
    """One speaker's recordings (n,): digit and take number of each, the candidates with their features, and probes."""

    digits: Numbers
    takes: Numbers
    candidates: tuple[Candidate, ...]
    probes: tuple[Inputs, ...] = ()

    @property
    def sessions(self) -> list[str]:
        """Ten consecutive takes count as a session."""
        return [str(take // 10) for take in self.takes]

    def predict(self, train: Numbers, test: Numbers) -> Predictions:
        """Return the predictions for `test` after training on `train`."""
        return fit_and_predict(self.candidates, self.digits, self.sessions, train, test)

    def draw(self, takes: int, seed: int, left_out: int | None = None) -> Numbers:
        """Return the indices of `takes` samples of each digit, drawn from those that are never tested."""
        pool = np.flatnonzero((self.takes < FIRST_TESTED) & (self.digits != (-1 if left_out is None else left_out)))
        return draw_per_class(self.digits, pool, takes, seed)


def few_takes() -> list[Row]:
    """Accuracy on takes 25 to 49 after 3, 5 and 10 training takes per digit, mean over draws; lowest speaker at 3."""
    rows: list[Row] = []
    for takes, target in FEW_TAKES_TARGETS.items():
        rates = {name: float(np.mean([_few(name, takes, draw) for draw in range(DRAWS)])) for name in SPEAKERS}
        title = f"spoken digits, {takes} takes per label"
        rows.append(wilson_row(title, float(np.mean(list(rates.values()))), 1500, target))
        if takes == min(FEW_TAKES_TARGETS):
            lowest = min(rates, key=lambda name: rates[name])
            rows.append(wilson_row(f"{title}, lowest speaker ({lowest})", rates[lowest], 250, 0.93))
    return rows


def sessions() -> list[Row]:
    """Accuracy when each of five sessions of ten takes is held out in turn, and on a random split."""
    held_out, random = [], []
    for name in SPEAKERS:
        own = recordings_of(name)
        validation = validate_by_session(
            own.candidates, own.digits, own.sessions, own.takes.tolist(), CONFIG.evaluation, CONFIG.seed
        )
        held_out.append(float((validation.predicted == own.digits).mean()))
        random.append(float(validation.random_accuracy or 0.0))
    return [
        wilson_row("spoken digits, by session", float(np.mean(held_out)), 3000, 0.95),
        wilson_row("spoken digits, random split", float(np.mean(random)), 3000, None),
    ]


def unknown_digits() -> list[Row]:
    """Ten training takes of nine digits: open-set detection AUROC for the tenth digit, and rejection rates."""
    aurocs, rejected_known, rejected_unknown = [], [], []
    for name in SPEAKERS:
        speaker = recordings_of(name)
        test = np.flatnonzero(speaker.takes >= FIRST_TESTED)
        for draw in range(DRAWS):
            left_out = draw % 10
            predictions = speaker.predict(speaker.draw(10, draw, left_out), test)
            known = speaker.digits[test] != left_out
            aurocs.append(roc_auc_score(known, predictions.score))
            rejected_known.append(1 - float(predictions.accepted[known].mean()))
            rejected_unknown.append(1 - float(predictions.accepted[~known].mean()))
    return [
        wilson_row("spoken digits, open-set detection AUROC", float(np.mean(aurocs)), 1500, 0.97),
        wilson_row("spoken digits, false rejection rate (at most)", float(np.mean(rejected_known)), 1350, 0.08),
        wilson_row("spoken digits, unknown digit rejected", float(np.mean(rejected_unknown)), 1500, None),
    ]


def _few(name: str, takes: int, draw: int) -> float:
    speaker = recordings_of(name)
    test = np.flatnonzero(speaker.takes >= FIRST_TESTED)
    predictions = speaker.predict(speaker.draw(takes, draw), test)
    return float((predictions.classes == speaker.digits[test]).mean())


@cache
def recordings_of(name: str) -> Speaker:
    """Return the recordings of one speaker with the features of every candidate."""
    root = data_root("digits")
    dataset, job = load_all(root, name, "sound"), quiet_job(name, root)
    recordings = open_recordings(job, dataset, CONFIG.decoding)
    takes = [match[1] for s in dataset.samples if s.path and (match := _TAKE.search(s.path.name))]
    taken = [recordings[k] for k, take in enumerate(takes) if int(take) < FIRST_TESTED]
    background = [probe.inputs for seed in FITTED for probe in sound_probes(taken, seed)]
    candidates = sound_candidates(job, CONFIG, recordings, background)
    probes = tuple(probe.inputs for probe in sound_probes(taken, REPORTED))
    return Speaker(dataset.label_index, np.array(takes, np.int64), tuple(candidates), probes)


FIGURES = (few_takes, sessions, unknown_digits)
