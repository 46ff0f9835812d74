"""Candidates on many data sets, on sessions or people that they were not trained on: `make bench-recipes`.

Of each set some sessions are held out, k samples of each label are drawn from the others, and everything goes as in
training: the default candidates are compared by session-wise validation on what was drawn, and the model that wins is
calibrated on it and tested on the sessions that were held out. All other candidates are fitted on the same samples.
"""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import yaml
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.special import stdtrit
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from benchmarks.data_sets import DataSet, data_root, data_sets, sets_option
from benchmarks.prepared import BASELINES, Prepared, PrepareFor, prepare, subset
from benchmarks.real_data import ROOT
from shared.data_loader import users_with_data
from shared.errors import TrainerError
from shared.evaluation import EvaluationConfig, Validation, validate_by_session
from shared.learning.calibration import calibration_error
from shared.learning.candidates import Candidate, fit_candidate, fit_head
from shared.learning.folds import Indices, session_folds
from shared.learning.heads import Classes
from shared.report.intervals import clustered_interval
from shared.trainers import modality_names

RESULTS = ROOT / "benchmarks" / "results"
PLAIN = EvaluationConfig(random_split=False, learning_curve=False)
FOLDS = 5  # of sessions, each held out in turn
LEFT_OUT = 5  # one label in so many is left out to see whether it is rejected
ALL = "all"
UNEVEN = "uneven"
FEW_AND_MANY = (3, 40)  # samples, at most, of one half of the labels and of the other, where they are uneven


@dataclass(frozen=True)
class Split:
    """Samples of one draw: those trained on, and those of the held-out sessions."""

    train: Indices
    test: Indices


@dataclass(frozen=True)
class Draw:
    """What one draw came to. Accuracies weigh every label the same."""

    samples: int
    labels: int
    accuracy: Mapping[str, float]  # of every candidate
    defaults: tuple[str, ...]
    chosen: str
    probabilities: NDArray[np.float32]  # (n, K) on held-out sessions, by what was chosen
    correct: NDArray[np.bool_]
    accepted: NDArray[np.bool_]
    unknown_accepted: NDArray[np.bool_]  # of labels that were left out
    unknown_auroc: float | None
    covered: bool | None  # whether the interval from training holds the held-out accuracy; None with one session
    seconds: float  # to choose, calibrate and fit, features known


def split(prepared: Prepared, k: str, number: int, seed: int) -> Split | None:
    """Return samples of every label from some sessions, as many as `k` says, and the samples of the other sessions.

    Labels with a single training sample are left out. None where most labels have fewer samples than asked for.
    """
    classes, random = prepared.classes, np.random.default_rng(seed)
    folds = session_folds(classes, prepared.sessions, prepared.times, FOLDS, 0)
    fold = folds.outer[number % len(folds.outer)]
    pool, test = folds.outside(fold), folds.inside(fold)
    counts = np.bincount(classes[pool], minlength=int(classes.max()) + 1)
    if k.isdecimal() and np.median(counts) < int(k):
        return None
    known = np.flatnonzero(counts >= 2)
    if k == UNEVEN:
        most = random.permutation(np.resize(FEW_AND_MANY, len(known)))
    else:
        most = counts[known] if k == ALL else np.full(len(known), int(k))
    chosen = []
    for label, limit in zip(known, most, strict=True):
        own = pool[classes[pool] == label]
        chosen.append(own if len(own) <= limit else np.sort(random.choice(own, limit, replace=False)))
    train, test = np.sort(np.concatenate(chosen)), test[np.isin(classes[test], known)]
    return Split(train, test) if len(known) > 1 and len(test) else None


def measure(prepared: Prepared, own: Split, number: int, names: Sequence[str] | None = None) -> Draw:
    """Train on the drawn samples as the trainer does, and fit every candidate, or those `names`, on them."""
    present, _ = np.unique(prepared.classes[own.train], return_inverse=True)
    defaults = prepared.defaults(np.searchsorted(present, prepared.classes[own.train]))
    start = time.perf_counter()
    known = RecipeRun(prepared, own.train, own.test)
    found = known.validated(defaults)
    chosen, predicted, chances, accepted, _ = known.predictions(found)
    seconds = time.perf_counter() - start
    truth = prepared.classes[own.test]
    accuracy = {
        name: balanced(known.predict(prepared.candidates[name]), truth) for name in names or prepared.candidates
    }
    unknown_accepted, area = np.zeros(0, np.bool_), None
    left_out = present[number % LEFT_OUT :: LEFT_OUT] if len(present) > LEFT_OUT else present[[number % len(present)]]
    unknown = own.test[np.isin(truth, left_out)]
    rest = own.train[~np.isin(prepared.classes[own.train], left_out)]
    if len(unknown) and len(present) - len(left_out) > 1:
        others = own.test[~np.isin(truth, left_out)]
        *_, results, scores = RecipeRun(prepared, rest, np.concatenate([others, unknown])).by_default([chosen])
        unknown_accepted = results[len(others) :]
        is_known = np.arange(len(scores)) < len(others)
        area = float(roc_auc_score(is_known, scores)) if len(others) else None
    return Draw(
        len(own.train),
        len(present),
        accuracy,
        tuple(defaults),
        chosen,
        chances,
        predicted == truth,
        accepted,
        unknown_accepted,
        area,
        known.covered(found, float(np.mean(predicted == truth))),
        seconds,
    )


class RecipeRun:
    """Candidates on some training and test samples, both numbered within them, as are the classes."""

    def __init__(self, prepared: Prepared, train: Indices, test: Indices) -> None:
        self._prepared, self._train = prepared, train
        self._both = np.concatenate([train, test])
        self._labels, self._classes = np.unique(prepared.classes[train], return_inverse=True)
        self._own = np.arange(len(train))

    def by_default(self, names: Sequence[str]) -> tuple[str, Classes, Any, NDArray[np.bool_], NDArray[np.float32]]:
        """Choose among the candidates `names`; return the choice and the winner's answers to the test samples."""
        return self.predictions(self.validated(names))

    def validated(self, names: Sequence[str]) -> Validation:
        """Validate the candidates `names` on the training samples, by session."""
        candidates = [subset(self._prepared.candidates[name], self._train) for name in names]
        sessions, times = ([of[k] for k in self._train] for of in (self._prepared.sessions, self._prepared.times))
        return validate_by_session(candidates, self._classes, sessions, times, PLAIN, 0)

    def predictions(self, found: Validation) -> tuple[str, Classes, Any, NDArray[np.bool_], NDArray[np.float32]]:
        """Return a validation's choice and what it answers to the test samples, fitted on all training samples."""
        whole = subset(self._prepared.candidates[found.winner.name], self._both)
        fitted = fit_candidate(whole, self._whole_classes(), self._own, len(self._labels))
        rows = whole.source.rows(self._own).base[len(self._own) :]
        predicted, chances, accepted, score = map(np.asarray, found.rule(*fitted(rows)))
        return found.winner.name, self._labels[predicted], chances, accepted, score

    def covered(self, found: Validation, accuracy: float) -> bool | None:
        """Return whether the interval that the card would give holds an accuracy; None where sessions give none."""
        sessions = [self._prepared.sessions[k] for k in self._train]
        if found.folds.scheme == "within-session":
            return None
        groups = np.unique(sessions, return_inverse=True)[1]
        low, high = clustered_interval(found.predicted == self._classes, groups)
        return low <= accuracy <= high

    def predict(self, candidate: Candidate) -> Classes:
        """Fit the candidate and return its classes of the test samples."""
        whole = subset(candidate, self._both)
        head = fit_head(whole, self._whole_classes(), self._own, len(self._labels))
        rows = whole.source.rows(self._own).base[len(self._own) :]
        return np.asarray(self._labels[np.asarray(head(rows)).argmax(axis=1)], np.int64)

    def _whole_classes(self) -> Classes:
        return np.concatenate([self._classes, np.zeros(len(self._both) - len(self._own), np.int64)])


def balanced(predicted: Classes, truth: Classes) -> float:
    """Return the accuracy with every label weighing the same."""
    return float(np.mean([np.mean(predicted[truth == k] == k) for k in np.unique(truth)]))


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean over draws with its 95 % interval (Student's t)."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, 0.0, 1.0
    half = float(np.std(values, ddof=1) / np.sqrt(len(values)) * stdtrit(len(values) - 1, 0.975))
    return mean, max(mean - half, 0.0), min(mean + half, 1.0)


def summary(one: DataSet, k: str, draws: Sequence[Draw]) -> dict[str, Any]:
    """Return the figures of a set's draws at one number of samples a label."""
    by_name = {name: interval([draw.accuracy[name] for draw in draws]) for name in draws[0].accuracy}
    defaults = draws[0].defaults
    of_chosen = interval([draw.accuracy[draw.chosen] for draw in draws])
    best = max(defaults, key=lambda name: by_name[name][0])
    best_of_all = max(by_name, key=lambda name: by_name[name][0])
    known = np.concatenate([draw.accepted for draw in draws])
    unknown = np.concatenate([draw.unknown_accepted for draw in draws])
    areas = [draw.unknown_auroc for draw in draws if draw.unknown_auroc is not None]
    sure = np.concatenate([draw.probabilities.max(axis=1) for draw in draws])
    correct = np.concatenate([draw.correct for draw in draws])
    return {
        "set": one.name,
        "modality": one.modality,
        "k": k,
        "draws": len(draws),
        "samples": round(float(np.mean([draw.samples for draw in draws]))),
        "labels": draws[0].labels,
        "accuracy": of_chosen,
        "chosen": dict(Counter(draw.chosen for draw in draws).most_common()),
        "best_default": best,
        "regret": by_name[best][0] - of_chosen[0],
        "best": best_of_all,
        "false_rejection": 1 - float(known.mean()),
        "false_acceptance": float(unknown.mean()) if len(unknown) else None,
        "unknown_auroc": float(np.mean(areas)) if areas else None,
        "ece": calibration_error(np.stack([sure, 1 - sure], axis=1), correct),
        "covered": [draw.covered for draw in draws if draw.covered is not None],
        "seconds": float(np.mean([draw.seconds for draw in draws])),
        "candidates": by_name,
        "defaults": list(defaults),
    }


def left_out_in_turn(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, float, str, float]]:
    """Return for each set the candidate that is best on the other sets, and its gain over training's own choice.

    (set, accuracy of training's choice, candidate, its accuracy). A candidate is judged on the sets that have it: by
    the mean of what it gains over training's choice there.
    """
    gains: dict[str, dict[str, float]] = defaultdict(dict)
    for row in rows:
        for name, (mean, _, _) in row["candidates"].items():
            gains[name][row["set"]] = mean - row["accuracy"][0]
    found = []
    for row in rows:
        elsewhere = {
            name: float(np.mean(others))
            for name in row["candidates"]
            if (others := [gain for other, gain in gains[name].items() if other != row["set"]])
        }
        if elsewhere:
            best = max(elsewhere, key=lambda name: elsewhere[name])
            found.append((row["set"], row["accuracy"][0], best, row["candidates"][best][0]))
    return found


def run(
    one: DataSet, sets: Path, ks: Sequence[str], draws: int, extra: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the figures of a set at each number of samples a label that it has enough samples for."""
    root = data_root(one, sets)
    prepared: list[PrepareFor] = [prepare(one.modality, root, user, extra) for user in users_with_data(root)]
    rows = []
    for k in ks:
        found = []
        for number in range(draws):
            of = prepared[number % len(prepared)]
            ready = of(1)
            own = split(ready, k, number + number // len(prepared), number)
            if own is not None:
                found.append(measure(of(len(own.train)), own, number))
        if found:
            rows.append(summary(one, k, found))
    return rows


def figures_of_sets(
    modalities: Sequence[str],
    sets: Path,
    each: int,
    draws: int,
    measure: Callable[[Prepared, Split, int], tuple[float, ...]],
) -> Iterator[tuple[DataSet, NDArray[np.float64]]]:
    """Yield each set of the modalities (default: all) with what `measure` returns for each draw, (draws, figures).

    Sets that cannot be read are named and left out.
    """
    for one in data_sets():
        if modalities and one.modality not in modalities:
            continue
        try:
            root = data_root(one, sets)
            people = [prepare(one.modality, root, user, []) for user in users_with_data(root)]
            rows = []
            for number in range(draws):
                of = people[number % len(people)]
                own = split(of(1), str(each), number + number // len(people), number)
                if own is not None:
                    rows.append(measure(of(len(own.train)), own, number))
        except TrainerError as error:
            click.echo(f"{one.name}: left out: {str(error).splitlines()[0]}", err=True)
            continue
        if rows:
            click.echo(f"{one.name}: {len(rows)} draws", err=True)
            yield one, np.array(rows)


def tables(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print a table of the sets, one of the candidates, and what is best on sets left out in turn."""
    names = (
        "set",
        "k",
        "n",
        "accuracy",
        "interval",
        "chosen",
        "regret",
        "best",
        "of it",
        "FR",
        "FA",
        "AUROC",
        "ECE",
        "s",
    )
    table = Table(*names, title="what training would choose, on held-out sessions")
    for row in rows:
        mean, low, high = row["accuracy"]
        cells = [row["set"], row["k"], str(row["samples"]), f"{mean:.3f}", f"{low:.2f}–{high:.2f}"]
        cells += [next(iter(row["chosen"])), f"{row['regret']:+.3f}", row["best"]]
        cells += [f"{row['candidates'][row['best']][0]:.3f}", f"{row['false_rejection']:.2f}"]
        cells += ["" if row[key] is None else f"{row[key]:.2f}" for key in ("false_acceptance", "unknown_auroc", "ece")]
        table.add_row(*cells, f"{row['seconds']:.1f}")
    console.print(table)
    console.print(_overview(rows))
    for modality in dict.fromkeys(row["modality"] for row in rows):
        for k in dict.fromkeys(row["k"] for row in rows):
            mine = [row for row in rows if row["modality"] == modality and row["k"] == k]
            if mine:
                console.print(_candidates_table(mine, f"{modality}, k = {k}"))


def _overview(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return means over sets: of training's choice, and of the baselines on the features that it chose most often."""
    kinds = [str(classifier["type"]) for classifier in BASELINES]
    names = (
        "modality",
        "k",
        "sets",
        "training's choice",
        *kinds,
        "best",
        "regret",
        "FR",
        "FA",
        "AUROC",
        "ECE",
        "covered",
        "s",
    )
    table = Table(*names, title="means over sets")
    for modality, k in dict.fromkeys((row["modality"], row["k"]) for row in rows):
        mine = [row for row in rows if (row["modality"], row["k"]) == (modality, k)]
        figures = [[row["accuracy"][0] for row in mine]]
        for kind in kinds:
            own = [(row, f"{next(iter(row['chosen'])).partition(': ')[0]}: {kind}") for row in mine]
            figures.append(
                [
                    mean
                    for row, start in own
                    for name, (mean, _, _) in row["candidates"].items()
                    if name in (start, f"{start}(n_neighbors=1)")
                ]
            )
        figures.append([row["candidates"][row["best"]][0] for row in mine])
        keys = ("regret", "false_rejection", "false_acceptance", "unknown_auroc", "ece")
        figures += [[row[key] for row in mine if row[key] is not None] for key in keys]
        cells = [f"{np.mean(values):.3f}" if values else "" for values in figures]
        covered = [one for row in mine for one in row["covered"]]
        cells.append(f"{sum(covered)} of {len(covered)}")
        table.add_row(modality, k, str(len(mine)), *cells, f"{np.mean([row['seconds'] for row in mine]):.1f}")
    return table


def _candidates_table(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    table = Table("candidate", *(row["set"] for row in rows), "sets", "mean gain", title=title)

    def cell(row: Mapping[str, Any], name: str) -> str:
        if name not in row["candidates"]:
            return ""
        return f"{row['candidates'][name][0]:.3f}{'*' if name in row['defaults'] else ''}"

    accuracies = [row["accuracy"][0] for row in rows]
    table.add_row("training's choice", *(f"{a:.3f}" for a in accuracies), str(len(rows)), f"{np.mean(accuracies):.3f}")
    in_turn = left_out_in_turn(rows)
    if in_turn:
        chosen = {name: accuracy for name, _, _, accuracy in in_turn}
        gain = float(np.mean([accuracy - before for _, before, _, accuracy in in_turn]))
        cells = [f"{chosen[row['set']]:.3f}" if row["set"] in chosen else "" for row in rows]
        table.add_row("best on the other sets", *cells, str(len(in_turn)), f"{gain:+.3f}")
    for name in dict.fromkeys(name for row in rows for name in row["candidates"]):
        own = [row["candidates"][name][0] - row["accuracy"][0] for row in rows if name in row["candidates"]]
        table.add_row(name, *(cell(row, name) for row in rows), str(len(own)), f"{np.mean(own):+.3f}")
    return table


def _candidates_of(path: Path | None) -> list[Mapping[str, Any]]:
    if path is None:
        return []
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(found, list):
        raise click.ClickException(f"{path}: must be a list of candidates, as a configuration has them")
    return found


@click.command()
@click.option("--modality", "modalities", multiple=True, type=click.Choice(modality_names()), help="Only these.")
@sets_option
@click.option("--only", "names", multiple=True, help="Only the sets of these names.")
@click.option(
    "--k", "ks", multiple=True, default=("3", "5", "10", "20", ALL), help="Samples a label, or all, or uneven."
)
@click.option("--draws", default=6, help="Draws for each set and k; each holds out other sessions.")
@click.option("--candidates", type=click.Path(path_type=Path, exists=True), help="YAML list of more candidates.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=RESULTS, help="Folder of the results.")
@click.option("--quick", is_flag=True, help="Three draws of 3 and of 10 samples a label.")
def main(
    modalities: tuple[str, ...],
    sets: Path,
    names: tuple[str, ...],
    ks: tuple[str, ...],
    draws: int,
    candidates: Path | None,
    out: Path,
    quick: bool,
) -> None:
    """Measure the default candidates, and others, on real data sets; write a file of JSON lines for each set.

    \b
    Example:
      python -m benchmarks.recipes --modality sound --sets ~/sets --quick
    """
    threadpool_limits(1)
    ks, draws = (("3", "10"), 3) if quick else (ks, draws)
    extra, console = _candidates_of(candidates), Console(width=230)
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for one in data_sets():
        if (modalities and one.modality not in modalities) or (names and one.name not in names):
            continue
        start = time.perf_counter()
        try:
            found = run(one, sets, ks, draws, extra)
        except TrainerError as error:
            click.echo(f"{one.name}: left out: {str(error).splitlines()[0]}", err=True)
            continue
        rows += found
        place = out / f"recipes-{one.modality}-{one.name}.jsonl"
        place.write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
        click.echo(f"{one.name}: {time.perf_counter() - start:.0f} s", err=True)
    tables(rows, console)


if __name__ == "__main__":
    main()
