"""The sound recipe on spoken digits, a model a speaker: few takes, whole sessions, and sounds it does not know.

Everything goes as in training: the configured contenders, chosen and calibrated on the training takes alone.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.real_data import WORK, data_root
from shared.data_loader import DataFilter, load_dataset
from shared.evaluation import Contender, Fixed, Rows, auroc, fit_contender, validate_by_session
from shared.feature_cache import FeatureCache
from shared.logs import RunLog
from shared.metrics import wilson
from shared.recipe import Job
from sound_trainer.preprocessing.decode import open_recordings
from sound_trainer.train import SoundConfig, compete

Row = tuple[str, float, float, float, float | None]  # name, figure, its interval, and the bar
DRAWS = 10
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
FIRST_TESTED = 25  # takes from here on are never trained on
FEW_TAKES_BARS = {3: 0.97, 5: 0.975, 10: 0.985}
CONFIG = SoundConfig()
_TAKE = re.compile(r"_(\d+)(?:-[0-9a-f]+)?\.wav$")
Numbers = NDArray[np.int64]
Learnt = Callable[
    [Numbers], tuple[Numbers, NDArray[np.bool_], NDArray[np.float32]]
]  # samples -> digit, accepted, score


@dataclass(frozen=True)
class Speaker:
    """One speaker's recordings: label and take of each, and the contenders with their features."""

    digits: Numbers
    takes: Numbers
    contenders: tuple[Contender, ...]

    def learn(self, train: Numbers) -> Learnt:
        """Choose, calibrate and fit on the samples `train`, sessions being tens of takes."""
        names, classes = np.unique(self.digits[train], return_inverse=True)
        own = [replace(c, source=_only(c, train)) for c in self.contenders]
        takes = self.takes[train].tolist()
        evaluation = CONFIG.evaluation.model_copy(update={"random_split": False, "unknown": False})
        found = validate_by_session(own, classes, [str(t // 10) for t in takes], takes, evaluation, CONFIG.seed)
        winner = found.winner
        fitted = fit_contender(winner, classes, np.arange(len(train)), len(names))
        whole = next(c for c in self.contenders if c.name == winner.name).source.rows(train).base

        def answer(samples: Numbers) -> tuple[Numbers, NDArray[np.bool_], NDArray[np.float32]]:
            label, _, accepted, score = found.answer(*fitted(whole[samples]))
            return names[label], accepted, score

        return answer


def few_takes() -> list[Row]:
    """Accuracy on takes 25 to 49 after 3, 5 and 10 training takes a digit, mean over draws; the lowest speaker at 3."""
    rows: list[Row] = []
    for takes, bar in FEW_TAKES_BARS.items():
        rates = {name: float(np.mean([_few(name, takes, draw) for draw in range(DRAWS)])) for name in SPEAKERS}
        rows.append(_row(f"spoken digits, {takes} takes each", float(np.mean(list(rates.values()))), 1500, bar))
        if takes == min(FEW_TAKES_BARS):
            lowest = min(rates, key=lambda name: rates[name])
            rows.append(_row(f"spoken digits, {takes} takes each, lowest speaker ({lowest})", rates[lowest], 250, 0.93))
    return rows


def sessions() -> list[Row]:
    """Accuracy when each of five sessions of ten takes is held out in turn, and at a random split of the same."""
    held_out, random = [], []
    for name in SPEAKERS:
        speaker = _speaker(name)
        takes = speaker.takes.tolist()
        found = validate_by_session(
            speaker.contenders, speaker.digits, [str(t // 10) for t in takes], takes, CONFIG.evaluation, CONFIG.seed
        )
        held_out.append(float((found.predicted == speaker.digits).mean()))
        random.append(float(found.random_accuracy or 0.0))
    return [
        _row("spoken digits, by session", float(np.mean(held_out)), 3000, 0.95),
        _row("spoken digits, random split", float(np.mean(random)), 3000, None),
    ]


def unknown_digits() -> list[Row]:
    """Ten training takes of nine digits: AUROC of known takes against the tenth digit, and rejections."""
    areas, rejected_known, rejected_unknown = [], [], []
    for name in SPEAKERS:
        speaker = _speaker(name)
        tested = speaker.takes >= FIRST_TESTED
        for draw in range(DRAWS):
            left_out = draw % 10
            answer = speaker.learn(_drawn(speaker, 10, draw, left_out))
            known = answer(np.flatnonzero(tested & (speaker.digits != left_out)))
            unknown = answer(np.flatnonzero(tested & (speaker.digits == left_out)))
            areas.append(auroc(known[2], unknown[2]))
            rejected_known.append(1 - float(known[1].mean()))
            rejected_unknown.append(1 - float(unknown[1].mean()))
    return [
        _row("spoken digits, unknown digit, AUROC", float(np.mean(areas)), 1500, 0.97),
        _row("spoken digits, known digit rejected (at most)", float(np.mean(rejected_known)), 1350, 0.08),
        _row("spoken digits, unknown digit rejected", float(np.mean(rejected_unknown)), 1500, None),
    ]


def _few(name: str, takes: int, draw: int) -> float:
    speaker = _speaker(name)
    test = np.flatnonzero(speaker.takes >= FIRST_TESTED)
    digits, _, _ = speaker.learn(_drawn(speaker, takes, draw))(test)
    return float((digits == speaker.digits[test]).mean())


def _drawn(speaker: Speaker, takes: int, draw: int, left_out: int | None = None) -> Numbers:
    """Return `takes` samples of each digit, drawn from those that are never tested."""
    rng = np.random.default_rng(draw)
    pools = [np.flatnonzero((speaker.takes < FIRST_TESTED) & (speaker.digits == digit)) for digit in range(10)]
    chosen = [rng.choice(pool, takes, replace=False) for pool in pools]
    return np.concatenate([drawn for digit, drawn in enumerate(chosen) if digit != left_out])


def _only(contender: Contender, train: Numbers) -> Fixed:
    source = contender.source
    assert isinstance(source, Fixed)
    rows = source.computed
    return replace(source, computed=Rows(rows.base[train], rows.copies[:0], rows.owner[:0]))


@cache
def _speaker(name: str) -> Speaker:
    threadpool_limits(1)
    root = data_root("digits")
    dataset = load_dataset(root, (name,), "sound", DataFilter())
    job = Job((name,), root, WORK, "accuracy", cache=FeatureCache(), log=RunLog(io.StringIO()))
    recordings = open_recordings(job, dataset, CONFIG.decoding)
    takes = [match[1] for s in dataset.samples if s.path and (match := _TAKE.search(s.path.name))]
    contenders = compete(job, CONFIG, recordings)
    return Speaker(dataset.label_index, np.array(takes, np.int64), tuple(contenders))


def _row(name: str, figure: float, trials: int, bar: float | None) -> Row:
    low, high = wilson(figure * trials, trials)
    return name, figure, low, high, bar
