"""The sound recipe on spoken digits, a model a speaker: few takes, whole sessions, and sounds it does not know.

Everything goes as in training: the configured candidates, chosen and calibrated on the training takes alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import numpy as np

from benchmarks.few_shot import DRAWS, Answers, Numbers, Row, drawn, learn, load_all, quiet_job, row
from benchmarks.real_data import data_root
from shared.evaluation import auroc, validate_by_session
from shared.learning.candidates import Candidate
from sound_trainer.preprocessing.decode import open_recordings
from sound_trainer.train import SoundConfig, sound_candidates

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
FIRST_TESTED = 25  # takes from here on are never trained on
FEW_TAKES_BARS = {3: 0.97, 5: 0.975, 10: 0.985}
CONFIG = SoundConfig()
_TAKE = re.compile(r"_(\d+)(?:-[0-9a-f]+)?\.wav$")


@dataclass(frozen=True)
class Speaker:
    """One speaker's recordings: label and take of each, and the candidates with their features."""

    digits: Numbers
    takes: Numbers
    candidates: tuple[Candidate, ...]

    @property
    def sessions(self) -> list[str]:
        """Tens of takes stand for sessions."""
        return [str(take // 10) for take in self.takes]

    def learn(self, train: Numbers, test: Numbers) -> Answers:
        """Return what is said of `test` after training on `train`."""
        return learn(self.candidates, self.digits, self.sessions, train, test)

    def draw(self, takes: int, seed: int, left_out: int | None = None) -> Numbers:
        """Return `takes` samples of each digit, drawn from those that are never tested."""
        pool = np.flatnonzero((self.takes < FIRST_TESTED) & (self.digits != (-1 if left_out is None else left_out)))
        return drawn(self.digits, pool, takes, seed)


def few_takes() -> list[Row]:
    """Accuracy on takes 25 to 49 after 3, 5 and 10 training takes a digit, mean over draws; the lowest speaker at 3."""
    rows: list[Row] = []
    for takes, bar in FEW_TAKES_BARS.items():
        rates = {name: float(np.mean([_few(name, takes, draw) for draw in range(DRAWS)])) for name in SPEAKERS}
        rows.append(row(f"spoken digits, {takes} takes each", float(np.mean(list(rates.values()))), 1500, bar))
        if takes == min(FEW_TAKES_BARS):
            lowest = min(rates, key=lambda name: rates[name])
            rows.append(row(f"spoken digits, {takes} takes each, lowest speaker ({lowest})", rates[lowest], 250, 0.93))
    return rows


def sessions() -> list[Row]:
    """Accuracy when each of five sessions of ten takes is held out in turn, and at a random split of the same."""
    held_out, random = [], []
    for name in SPEAKERS:
        own = _speaker(name)
        found = validate_by_session(
            own.candidates, own.digits, own.sessions, own.takes.tolist(), CONFIG.evaluation, CONFIG.seed
        )
        held_out.append(float((found.predicted == own.digits).mean()))
        random.append(float(found.random_accuracy or 0.0))
    return [
        row("spoken digits, by session", float(np.mean(held_out)), 3000, 0.95),
        row("spoken digits, random split", float(np.mean(random)), 3000, None),
    ]


def unknown_digits() -> list[Row]:
    """Ten training takes of nine digits: AUROC of known takes against the tenth digit, and rejections."""
    areas, rejected_known, rejected_unknown = [], [], []
    for name in SPEAKERS:
        speaker = _speaker(name)
        test = np.flatnonzero(speaker.takes >= FIRST_TESTED)
        for draw in range(DRAWS):
            left_out = draw % 10
            said = speaker.learn(speaker.draw(10, draw, left_out), test)
            known = speaker.digits[test] != left_out
            areas.append(auroc(said.score[known], said.score[~known]))
            rejected_known.append(1 - float(said.accepted[known].mean()))
            rejected_unknown.append(1 - float(said.accepted[~known].mean()))
    return [
        row("spoken digits, unknown digit, AUROC", float(np.mean(areas)), 1500, 0.97),
        row("spoken digits, known digit rejected (at most)", float(np.mean(rejected_known)), 1350, 0.08),
        row("spoken digits, unknown digit rejected", float(np.mean(rejected_unknown)), 1500, None),
    ]


def _few(name: str, takes: int, draw: int) -> float:
    speaker = _speaker(name)
    test = np.flatnonzero(speaker.takes >= FIRST_TESTED)
    said = speaker.learn(speaker.draw(takes, draw), test)
    return float((said.classes == speaker.digits[test]).mean())


@cache
def _speaker(name: str) -> Speaker:
    root = data_root("digits")
    dataset, job = load_all(root, name, "sound"), quiet_job(name, root)
    recordings = open_recordings(job, dataset, CONFIG.decoding)
    takes = [match[1] for s in dataset.samples if s.path and (match := _TAKE.search(s.path.name))]
    candidates = sound_candidates(job, CONFIG, recordings)
    return Speaker(dataset.label_index, np.array(takes, np.int64), tuple(candidates))


FIGURES = (few_takes, sessions, unknown_digits)
