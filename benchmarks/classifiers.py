"""What our own classifiers gain over scikit-learn's: `python -m benchmarks.classifiers`.

The figures of docs/decisions/pooled-lda.md and docs/decisions/kernel-ridge.md. Both classifiers get the same features,
the same training samples and the same test samples.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.kernel_ridge import KernelRidge as ScikitKernelRidge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from benchmarks.few_shot import Numbers, draw_per_class, load_all, quiet_job
from benchmarks.real_data import SOURCE, data_root
from benchmarks.sound_accuracy import FIRST_TESTED, SPEAKERS, recordings_of
from gesture_trainer.preprocessing.sequences import landmark_sequences
from gesture_trainer.train import GestureConfig, gesture_candidates
from shared.learning.candidates import PrecomputedFeatures
from shared.learning.classifiers import LDA, KernelRidge
from shared.learning.folds import session_folds
from shared.learning.heads import fitter, subset_fitter
from speech_context_trainer.train import SpeechConfig, available_encoders, embed, transcripts

SHAPE_LDA = GestureConfig.model_validate({"candidates": [{"features": "hand_shape", "classifier": {"type": "lda"}}]})
USE_AND_MINILM = SpeechConfig.model_validate(
    {"candidates": [{"features": ["use", "minilm"], "classifier": {"type": "kernel_ridge"}}]}
)
SAMPLES_PER_LABEL = (2, 3, 5, 10, 20)
DRAWS = 5
Features = NDArray[np.float32]
Classify = Callable[[Features, Numbers, Features], Numbers]  # training features and classes, test features -> classes


@dataclass(frozen=True)
class Problem:
    """Features (n, D) with classes (n,); training samples are drawn from `pool`, the samples `test` are classified."""

    features: Features
    classes: Numbers
    pool: Numbers
    test: Numbers

    def accuracy(self, classify: Classify, per_label: int, draw: int) -> float:
        """Return the accuracy on `test` after training on `per_label` samples of each label."""
        train = draw_per_class(self.classes, self.pool, per_label, draw)
        predicted = classify(self.features[train], self.classes[train], self.features[self.test])
        return float((predicted == self.classes[self.test]).mean())


def pooled_lda(features: Features, classes: Numbers, test: Features) -> Numbers:
    """Classify with our LDA: one shrunk covariance, pooled over the classes before shrinking."""
    return np.asarray(
        np.asarray(fitter(LDA())(features, classes, int(classes.max()) + 1)(test)).argmax(axis=1), np.int64
    )


def per_class_lda(features: Features, classes: Numbers, test: Features) -> Numbers:
    """Classify with scikit-learn's LDA and `shrinkage="auto"`, which shrinks the covariance of each class."""
    priors = np.full(len(np.unique(classes)), 1 / len(np.unique(classes)))
    lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=priors)
    return np.asarray(make_pipeline(StandardScaler(), lda).fit(features, classes).predict(test), np.int64)


def signs() -> Iterator[Problem]:
    """Yield the hand signs: training samples from every other block, the rest for the test."""
    root = data_root("signs")
    sequences, dataset = landmark_sequences(load_all(root, "signer", "gesture"), GestureConfig().extraction)
    (candidate,) = gesture_candidates(quiet_job("signer", root), SHAPE_LDA, sequences)
    block = np.unique(dataset.session_ids, return_inverse=True)[1]
    assert isinstance(candidate.source, PrecomputedFeatures)
    rows, classes = candidate.source.computed.base, dataset.label_index
    yield Problem(rows, classes, np.flatnonzero(block % 2 == 0), np.flatnonzero(block % 2 == 1))


def digits() -> Iterator[Problem]:
    """Yield the spoken digits of each speaker, all features together."""
    for name in SPEAKERS:
        speaker = recordings_of(name)
        (candidate,) = (c for c in speaker.candidates if c.features == ("speech_embedding", "spectral"))
        assert isinstance(candidate.source, PrecomputedFeatures)
        rows, first = candidate.source.computed.base, speaker.takes < FIRST_TESTED
        yield Problem(rows, speaker.digits, np.flatnonzero(first), np.flatnonzero(~first))


def lda_table() -> Table:
    """Return accuracy by samples per label, mean over draws (and speakers)."""
    table = Table("features", "shrinkage", *(f"{k} per label" for k in SAMPLES_PER_LABEL), title="LDA")
    for title, make in (("hand signs", signs), ("spoken digits", digits)):
        problems = list(make())
        for name, classify in (("of each class", per_class_lda), ("pooled", pooled_lda)):
            rates = [
                np.mean([p.accuracy(classify, k, draw) for p in problems for draw in range(DRAWS)])
                for k in SAMPLES_PER_LABEL
            ]
            table.add_row(f"{title} ({problems[0].features.shape[1]})", name, *(f"{rate:.3f}" for rate in rates))
    return table


def kernel_table() -> Table:
    """Return the CPU seconds and the accuracy of all fits of a session-wise validation."""
    root = data_root("contexts")
    dataset, job = load_all(root, "talker", "speech"), quiet_job("talker", root)
    texts = transcripts(dataset)
    encoders, _ = available_encoders(
        SpeechConfig.model_validate(
            {"candidates": [{"features": ["use", "minilm"], "classifier": {"type": "kernel_ridge"}}]}
        )
    )
    samples = embed(job, texts, ["" for _ in texts], [None for _ in texts], encoders)
    rows = np.concatenate([np.stack([sample[name] for sample in samples]) for name in ("use", "minilm")], axis=1)
    rows = rows.astype(np.float32) / np.sqrt(np.float32(2))  # of unit length, as the recipe joins them
    classes, count = dataset.label_index, len(dataset.labels)
    folds = session_folds(classes, dataset.session_ids, range(len(classes)), 5, 0)
    held_out = sorted({*folds.outer, *(a | b for a in folds.outer for b in folds.inner(a))}, key=sorted)
    ours, gamma = KernelRidge(kernel="rbf", scaler="none"), 1.0 / float(np.mean(np.sum(rows**2, axis=1)))

    def scikit(train: Numbers, test: Numbers) -> Features:
        weight = 1.0 / np.bincount(classes[train], minlength=count)[classes[train]]
        model = ScikitKernelRidge(kernel="rbf", gamma=gamma).set_params(alpha=ours.alpha)
        model.fit(rows[train], np.eye(count)[classes[train]], sample_weight=weight * len(train) / count)
        return np.asarray(model.predict(rows[test]))

    def refitted(train: Numbers, test: Numbers) -> Features:
        return np.asarray(fitter(ours)(rows[train], classes[train], count)(rows[test]))

    def with_shared_products() -> Callable[[Numbers, Numbers], Features]:
        fit = subset_fitter(ours, rows)
        assert fit is not None
        return lambda train, test: np.asarray(fit(train, classes[train], count)(rows[test]))

    table = Table(
        "kernel ridge regression", "CPU seconds", "accuracy", title=f"{len(held_out)} fits, {len(rows)} texts"
    )
    for name, prepare in (
        ("scikit-learn's", lambda: scikit),
        ("ours, inner products computed in each fit", lambda: refitted),
        ("ours, inner products shared", with_shared_products),
    ):
        started = time.process_time()
        predict = prepare()
        predicted = [predict(folds.outside(cells), folds.inside(cells)).argmax(axis=1) for cells in held_out]
        seconds = time.process_time() - started
        correct = [p == classes[folds.inside(cells)] for p, cells in zip(predicted, held_out, strict=True)]
        table.add_row(name, f"{seconds:.2f}", f"{np.concatenate(correct).mean():.3f}")
    return table


@click.command()
def main() -> None:
    """Print accuracy and seconds of our own classifiers beside scikit-learn's.

    \b
    Example:
      python -m benchmarks.classifiers
    """
    if not SOURCE.is_dir():
        raise click.ClickException(f"no real data at {SOURCE}; set MODEL_TRAINER_DATA to the folder with it")
    threadpool_limits(1)
    warnings.simplefilter("ignore")
    console = Console(width=110)
    console.print(lda_table())
    console.print(kernel_table())


if __name__ == "__main__":
    main()
