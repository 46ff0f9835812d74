"""How often models reject what they know and accept what they do not, on real data: `make bench-unknown`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import click
import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import t

from benchmarks import gesture_accuracy, speech_accuracy, visual_accuracy
from benchmarks.few_shot import Numbers, predict_after_fit
from benchmarks.sound_accuracy import SPEAKERS, recordings_of
from shared.features.probes import REPORTED
from shared.learning.candidates import Candidate
from visual_environment_trainer.preprocessing.probes import visual_probes

Rates = tuple[float, float, float]  # false rejection, false acceptance, acceptance of probes; NaN: not measured
_NONE = float("nan")


@dataclass(frozen=True)
class Case:
    """Models whose rates are averaged, and the bars: the most that may be."""

    title: str
    run: Callable[[int], Iterator[Rates]]  # draws -> rates of each model
    rejection: float | None
    acceptance: float | None


def digits(labels: int, takes: int, sessions: int) -> Callable[[int], Iterator[Rates]]:
    """Some digits of one speaker, `takes` of each in each of `sessions` sessions; the other digits are unknown."""

    def run(draws: int) -> Iterator[Rates]:
        for name in SPEAKERS:
            speaker = recordings_of(name)
            test = np.flatnonzero(speaker.takes >= 30)
            for draw in range(draws):
                random = np.random.default_rng(draw)
                known = random.choice(10, labels, replace=False)
                train = [
                    random.choice(np.flatnonzero((speaker.digits == digit) & (speaker.takes // 10 == k)), takes, False)
                    for k in range(sessions)
                    for digit in known
                ]
                data = (speaker.candidates, speaker.digits, speaker.sessions, np.sort(np.concatenate(train)), test)
                predictions, probes = predict_after_fit(*data, speaker.probes)
                yield _rates(np.isin(speaker.digits[test], known), predictions.accepted, probes)

    return run


def rooms(count: int) -> Callable[[int], Iterator[Rates]]:
    """Three rooms of `count` houses; the fourth is unknown. Tested on other houses."""

    def run(draws: int) -> Iterator[Rates]:
        candidates, dataset = visual_accuracy.default_candidates(), visual_accuracy.houses()
        classes, sessions = dataset.label_index, dataset.session_ids
        probes = [p.inputs for p in visual_probes(dataset, visual_accuracy.few_images_encoding(), REPORTED)]
        for draw in range(4 * draws):
            train, test = visual_accuracy.draw_houses(count, draw)
            known = classes != draw % 4
            predictions, hits = predict_after_fit(candidates, classes, sessions, train[known[train]], test, probes)
            yield _rates(known[test], predictions.accepted, hits)

    return run


def contexts(draws: int) -> Iterator[Rates]:
    """Ten contexts with 20 texts each; out-of-scope texts are unknown."""
    for seed in range(2 * draws):
        yield speech_accuracy.acceptance(20, seed)


def next_block(user: str, name: str) -> Callable[[int], Iterator[Rates]]:
    """Train on one block of hand signs or fingertip paths and test on the next."""

    def run(draws: int) -> Iterator[Rates]:
        candidates, classes, sessions = gesture_accuracy.signs_of(user, name)
        names = sorted(set(sessions))
        for k in range(0, 9, 2 if draws > 1 else 4):
            train, test = (np.flatnonzero(np.array(sessions) == names[place]) for place in (k, k + 1))
            yield _one_session(candidates, classes, train, test)

    return run


def next_houses(draws: int) -> Iterator[Rates]:
    """Train on ten houses as one session and test on the next ten, by number."""
    candidates, dataset = visual_accuracy.default_candidates(), visual_accuracy.houses()
    numbers = np.array([int(session) for session in dataset.session_ids])
    ranks = np.unique(numbers, return_inverse=True)[1]
    for k in range(5):
        train, test = (np.flatnonzero(ranks // 10 == place) for place in (k, k + 1))
        yield _one_session(candidates, dataset.label_index, train, test)


def _one_session(candidates: Sequence[Candidate], classes: Numbers, train: Numbers, test: Numbers) -> Rates:
    predictions, _ = predict_after_fit(candidates, classes, ["one"] * len(classes), train, test)
    return 1 - float(predictions.accepted.mean()), _NONE, _NONE


def _rates(known: np.ndarray, accepted: np.ndarray, probes: np.ndarray) -> Rates:
    return 1 - float(accepted[known].mean()), float(accepted[~known].mean()), float(probes.mean())


CASES = (
    Case("digits, 3 labels x 9 takes, 3 sessions", digits(3, 3, 3), 0.05, 0.10),
    Case("digits, 6 labels x 9 takes, 3 sessions", digits(6, 3, 3), 0.05, 0.07),
    Case("digits, 3 labels x 10 takes, 2 sessions", digits(3, 5, 2), 0.05, 0.12),
    Case("digits, 3 labels x 30 takes, 3 sessions", digits(3, 10, 3), 0.05, 0.05),
    *(
        Case(f"rooms, 3 labels, {k} houses", rooms(k), 0.05 if k == 5 else None, 0.15 if k == 5 else None)
        for k in (3, 5, 10, 20)
    ),
    Case("contexts, 10 labels x 20 texts", contexts, 0.06, 0.45),
    Case("hand signs, one block, tested on the next", next_block("signer", "signs"), 0.12, None),
    Case("fingertip paths, one block, tested on the next", next_block("mover", "fingertip"), 0.12, None),
    Case("rooms, ten houses as one session, tested on the next ten", next_houses, 0.12, None),
)
PROBES = 0.02  # of all probes, the most that may be accepted


@click.command()
@click.option("--quick", is_flag=True, help="Fewer draws.")
@click.option("--only", default="", help="Cases whose title holds this text.")
def main(quick: bool, only: str) -> None:
    """Print the rates of every case with 95 % intervals over models (Student's t), and the bars.

    \b
    Example:
      python -m benchmarks.unknown --quick --only digits
    """
    table = Table("models", "number", "false rejection", "bar", "false acceptance", "bar", "probes accepted", "bar")
    for case in CASES:
        if only not in case.title:
            continue
        rates = np.array(list(case.run(1 if quick else 2)))
        rejection, acceptance, probes = (_interval(column) for column in rates.T)
        bars = ["" if bar is None else f"{bar:.2f}" for bar in (case.rejection, case.acceptance)]
        table.add_row(
            case.title,
            str(len(rates)),
            rejection,
            bars[0],
            acceptance,
            bars[1],
            probes,
            f"{PROBES:.2f}" if probes else "",
        )
        click.echo(f"{case.title}: {rejection} | {acceptance} | {probes}", err=True)
    Console(width=160).print(table)


def _interval(values: np.ndarray) -> str:
    """Return mean and 95 % interval of rates (n,), nothing where they were not measured."""
    if np.isnan(values).any():
        return ""
    mean = float(values.mean())
    half = (
        float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else _NONE
    )
    return f"{mean:.3f} ({max(mean - half, 0):.3f}–{min(mean + half, 1):.3f})"


if __name__ == "__main__":
    main()
