"""What `field --propose` gains over confirming samples at random: `python -m benchmarks.proposals`.

A replay: two sessions are labelled, two samples of each label. Then sessions in use arrive one at a time. After each a
partner confirms five of the samples that nobody has labelled yet, the model is trained again as the trainer does it,
and is tested on sessions that are in none of this. Both ways of choosing start from the same samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.special import stdtrit
from threadpoolctl import threadpool_limits

from benchmarks.few_shot import quiet_job
from benchmarks.prepared import Prepared, prepare
from benchmarks.real_data import SOURCE, data_root
from benchmarks.recipes import RecipeRun, balanced
from demo.gestures import ENCODING, landmarks
from demo.people import PEOPLE, SESSIONS, Person, SessionConditions
from gesture_trainer.preprocessing.sequences import Sequences
from gesture_trainer.train import GestureConfig, gesture_candidates
from model_registry.names import Modality
from shared.learning.folds import Indices
from shared.learning.proposals import margins, propose

LABELLED = 2  # sessions, and samples of each label in each
CONFIRMED = 5  # samples after each session in use
_IN_USE, _TESTED = 8, 4  # sessions of a synthetic person
_MOST = 40  # samples of a session in use

Choose = Callable[[NDArray[np.float32], int, np.random.Generator], Indices]


@dataclass(frozen=True)
class Replay:
    """One person's samples (n,): those labelled at first, those of each session in use, and those that are tested."""

    prepared: Prepared
    labelled: Indices
    in_use: tuple[Indices, ...]
    tested: Indices


@dataclass(frozen=True)
class Source:
    """Where replays come from: `replay(seed)` returns one for each person."""

    title: str
    replays: Callable[[int], Iterator[Replay]]


def by_proposal(probabilities: NDArray[np.float32], count: int, rng: np.random.Generator) -> Indices:
    """Choose what `field --propose` proposes."""
    return propose(probabilities, count)


def by_margin(probabilities: NDArray[np.float32], count: int, rng: np.random.Generator) -> Indices:
    """Choose the smallest margins, however alike the samples are."""
    return np.argsort(margins(probabilities), kind="stable")[:count]


def at_random(probabilities: NDArray[np.float32], count: int, rng: np.random.Generator) -> Indices:
    """Choose at random."""
    return rng.permutation(len(probabilities))[:count]


WAYS: Mapping[str, Choose] = {"random": at_random, "margin alone": by_margin, "proposed": by_proposal}


def accuracies(replay: Replay, choose: Choose, seed: int) -> NDArray[np.float64]:
    """Return the accuracy (sessions in use,) on tested sessions after the samples of each session are confirmed."""
    rng = np.random.default_rng(seed)
    labelled, pool = replay.labelled, np.zeros(0, np.int64)
    curve = []
    for session in replay.in_use:
        pool = np.concatenate([pool, session])
        probabilities = _predict(replay, labelled, pool)[1]
        chosen = pool[choose(probabilities, CONFIRMED, rng)]
        labelled, pool = np.sort(np.concatenate([labelled, chosen])), np.setdiff1d(pool, chosen)
        curve.append(balanced(_predict(replay, labelled, replay.tested)[0], replay.prepared.classes[replay.tested]))
    return np.array(curve)


def _predict(replay: Replay, train: Indices, query: Indices) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return classes (n,) and probabilities (n, K) of the samples `query` after training on the samples `train`."""
    present, _ = np.unique(replay.prepared.classes[train], return_inverse=True)
    defaults = replay.prepared.defaults(np.searchsorted(present, replay.prepared.classes[train]))
    _, predicted, chances, *_ = RecipeRun(replay.prepared, train, query).by_default(defaults)
    return predicted, chances


def people(seed: int) -> Iterator[Replay]:
    """Yield a replay of each of the demo's people, with gestures and days of their own and labels of unequal use."""
    for number, person in enumerate(PEOPLE):
        rng = np.random.default_rng([seed, number])
        use = rng.permutation(1 / np.arange(1, len(person.gestures) + 1))
        each = np.arange(len(person.gestures))
        labels = [np.repeat(each, LABELLED) for _ in range(LABELLED)]
        labels += [rng.choice(each, 24, p=use / use.sum()) for _ in range(_IN_USE)]
        labels += [np.repeat(each, 6) for _ in range(_TESTED)]
        yield _of_sessions(_gestures(person, labels, rng), _TESTED)


def _gestures(person: Person, labels: Sequence[Indices], rng: np.random.Generator) -> Prepared:
    """Return a person's gestures with these labels in each session."""
    days = [_day(number, rng) for number in range(len(labels))]
    places = [(day, label) for day, own in zip(days, labels, strict=True) for label in own]
    sequences = tuple(landmarks(person.gestures[label], person, day, rng) for day, label in places)
    data = Sequences(sequences, ENCODING, sequences[0].shape[1], "body_xy")
    built = gesture_candidates(quiet_job(person.user_id, Path()), GestureConfig(), data)
    sessions = tuple(day.session_id for day, _ in places)
    names = [candidate.name for candidate in built]
    by_name = dict(zip(names, built, strict=True))
    return Prepared(np.concatenate(labels), sessions, tuple(range(len(places))), by_name, lambda _: names)


def _day(number: int, rng: np.random.Generator) -> SessionConditions:
    """Return the conditions of a day, with the camera at a place of its own."""
    return replace(
        SESSIONS[0],
        session_id=f"{number:02d}-{rng.integers(1 << 30)}",  # habits of the day follow from the name
        camera_distance=rng.uniform(3.2, 5.4),
        camera_shift=(rng.uniform(-0.09, 0.09), rng.uniform(-0.09, 0.09)),
        camera_tilt=rng.uniform(-7, 7),
        landmarks_lost=rng.uniform(0.02, 0.16),
    )


def _of_sessions(prepared: Prepared, tested: int, seed: int | None = None) -> Replay:
    """Return the replay of sessions in their order, or in one drawn with `seed`; the last ones are tested."""
    names = list(dict.fromkeys(prepared.sessions))
    rng = np.random.default_rng(seed)
    if seed is not None:
        names = [names[k] for k in rng.permutation(len(names))]
    of_session = [np.flatnonzero(np.array(prepared.sessions) == name) for name in names]
    if seed is not None:
        few = [_few(own, prepared.classes, rng) for own in of_session[:LABELLED]]
        used = [np.sort(rng.permutation(own)[:_MOST]) for own in of_session[LABELLED:-tested]]
        of_session = [*few, *used, *of_session[-tested:]]
    labelled, used, last = of_session[:LABELLED], of_session[LABELLED:-tested], of_session[-tested:]
    return Replay(prepared, np.sort(np.concatenate(labelled)), tuple(used), np.sort(np.concatenate(last)))


def _few(own: Indices, classes: Indices, rng: np.random.Generator) -> Indices:
    """Return `LABELLED` samples of each label of the samples `own`."""
    return np.concatenate([rng.permutation(own[classes[own] == k])[:LABELLED] for k in np.unique(classes[own])])


def real(name: str, modality: Modality, users: Sequence[str], tested: int) -> Callable[[int], Iterator[Replay]]:
    """Return what yields replays of real data, their sessions in an order of each seed."""

    @cache
    def prepared(user: str) -> Prepared:
        return prepare(modality, data_root(name), user)(0)

    def replays(seed: int) -> Iterator[Replay]:
        for user in users:
            yield _of_sessions(prepared(user), tested, seed)

    return replays


SOURCES: Mapping[str, Source] = {
    "people": Source("gestures of the demo's people", people),
    "signs": Source("hand signs", real("signs-1000", "gesture", ("signer",), 3)),
    "contexts": Source("contexts of what is said", real("contexts", "speech", ("talker",), 1)),
    "digits": Source("spoken digits", real("digits", "sound", ("george", "theo"), 1)),
}


def gain(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean with its 95 % interval (Student's t) over replays."""
    mean = float(np.mean(values))
    half = float(np.std(values, ddof=1) / np.sqrt(len(values)) * stdtrit(len(values) - 1, 0.975))
    return mean, mean - half, mean + half


@click.command()
@click.option("--source", "names", multiple=True, type=click.Choice(list(SOURCES)), help="Only these.")
@click.option("--replays", default=10, type=click.IntRange(min=2), show_default=True, help="Replays of each person.")
@click.option("--seed", default=0, show_default=True, help="Seed of the first replay; each later one has the next.")
def main(names: tuple[str, ...], replays: int, seed: int) -> None:
    """Print the mean accuracy over the sessions in use, and what is gained over random choice, with its interval.

    `labels` is how many confirmed samples it took on average to reach the accuracy that random choice has at the end.
    """
    table = Table("data", "way", "accuracy", "at the end", "labels", "gain", "95 % interval")
    for name in names or SOURCES:
        if name != "people" and not SOURCE.is_dir():
            click.echo(
                f"{name}: no real data at {SOURCE}; set MODEL_TRAINER_DATA to the folder that holds it", err=True
            )
            continue
        curves = _measure(SOURCES[name], range(seed, seed + replays))
        random, end = curves["random"].mean(axis=(1, 2)), curves["random"][:, :, -1].mean()
        for way, own in curves.items():
            mean, low, high = gain((own.mean(axis=(1, 2)) - random).tolist())
            reached = np.flatnonzero(own.mean(axis=(0, 1)) >= end)
            labels = str((reached[0] + 1) * CONFIRMED) if len(reached) else ""
            cells = [f"{own.mean():.3f}", f"{own[:, :, -1].mean():.3f}", labels]
            table.add_row(SOURCES[name].title, way, *cells, f"{mean:+.3f}", f"{low:+.3f} to {high:+.3f}")
    Console(width=120).print(table)


def _measure(source: Source, seeds: Sequence[int]) -> dict[str, NDArray[np.float64]]:
    """Return for each way the accuracies (replays, people, sessions in use)."""
    curves: dict[str, list[list[NDArray[np.float64]]]] = {way: [] for way in WAYS}
    with threadpool_limits(1):
        for seed in seeds:
            own = list(source.replays(seed))
            for way, choose in WAYS.items():
                curves[way].append([accuracies(replay, choose, seed) for replay in own])
            click.echo(f"{source.title}: replay {seed} of {seeds[0]} to {seeds[-1]}", err=True)
    return {way: np.array(values) for way, values in curves.items()}


if __name__ == "__main__":
    main()
