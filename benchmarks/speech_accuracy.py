"""The speech recipe on ten contexts of CLINC150, measured on the official test split.

Training texts are drawn at random, distributed over five sessions, and the recipe trains on them. The model file that
it writes is what is measured.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit
from sklearn.metrics import roc_auc_score

from benchmarks.few_shot import DRAWS, Row
from benchmarks.real_data import SOURCE
from shared.features.cache import FeatureCache
from shared.features.encoders import load_encoder
from shared.features.graph import open_session
from shared.job import Job
from shared.learning.calibration import calibration_error
from shared.logs import RunLog
from speech_context_trainer.preprocessing.text import clean, code_points
from speech_context_trainer.preprocessing.tokens import embed_texts
from speech_context_trainer.train import SpeechConfig, train

SESSIONS = 5
WORD_ERRORS = 0.2
MANY_DRAWS = 3  # of 1,000 texts
FEW_TEXTS_TARGETS = {3: 0.60, 5: 0.68, 10: 0.77, 20: 0.84}
Inputs = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Texts:
    """Texts with the index of their context (n,); -1 is out of scope."""

    texts: tuple[str, ...]
    contexts: NDArray[np.int64]


@dataclass(frozen=True)
class Scores:
    """Figures of one trained model on the test split."""

    accuracy: float
    noisy_accuracy: float
    out_of_scope: float  # AUROC
    calibration_error: float


@cache
def contexts() -> tuple[str, ...]:
    """Return the names of the contexts."""
    return tuple(sorted(_read("domains.json")))


@cache
def split(name: str) -> Texts:
    """Return the texts of `train`, `test` or `oos_test`."""
    context = {intent: k for k, domain in enumerate(contexts()) for intent in _read("domains.json")[domain]}
    rows = _read("data_small.json")[name]
    return Texts(tuple(clean(text) for text, _ in rows), np.array([context.get(intent, -1) for _, intent in rows]))


def with_word_errors(texts: Sequence[str], seed: int) -> list[str]:
    """Return the texts with a fifth of their words substituted, deleted or followed by another, equally often."""
    rng = np.random.default_rng(seed)
    words = sorted({word for text in split("train").texts for word in text.split()})
    changed = []
    for text in texts:
        recognised: list[str] = []
        for word in text.split():
            kind = rng.integers(3) if rng.random() < WORD_ERRORS else -1
            other = words[rng.integers(len(words))]
            recognised += {-1: [word], 0: [other], 1: [], 2: [word, other]}[int(kind)]
        changed.append(" ".join(recognised) or text)
    return changed


def few_texts() -> list[Row]:
    """Accuracy on the test split after training on 3 to 20 texts of each context, over ten draws."""
    return [
        _row(f"contexts, {k} texts per label", [train_and_test(k, seed).accuracy for seed in range(DRAWS)], target)
        for k, target in FEW_TEXTS_TARGETS.items()
    ]


def thousand_texts() -> list[Row]:
    """Accuracy after training on 1,000 texts."""
    return [_row("contexts, 1,000 texts", [train_and_test(100, seed).accuracy for seed in range(MANY_DRAWS)], 0.935)]


def out_of_scope() -> list[Row]:
    """AUROC of the score for texts of no context."""
    few = [train_and_test(20, seed).out_of_scope for seed in range(DRAWS)]
    many = [train_and_test(100, seed).out_of_scope for seed in range(MANY_DRAWS)]
    return [
        _row("contexts, out-of-scope AUROC, 20 texts per label", few, 0.90),
        _row("contexts, out-of-scope AUROC, 100 texts per label", many, 0.94),
    ]


def calibration() -> list[Row]:
    """Expected calibration error of the probabilities on the test split."""
    few = [train_and_test(20, seed).calibration_error for seed in range(DRAWS)]
    many = [train_and_test(100, seed).calibration_error for seed in range(MANY_DRAWS)]
    return [
        _row("contexts, 20 texts per label, ECE (at most)", few, 0.03),
        _row("contexts, 1,000 texts, ECE (at most)", many, 0.03),
    ]


def recognition_errors() -> list[Row]:
    """Accuracy lost, at 20 training texts of each context, if a fifth of the words is replaced, left out or added."""
    lost = [train_and_test(20, seed).accuracy - train_and_test(20, seed).noisy_accuracy for seed in range(DRAWS)]
    return [_row("contexts, accuracy lost to 20 % word errors (at most)", lost, 0.12)]


@cache
def train_and_test(k: int, seed: int) -> Scores:
    """Train on `k` texts of each context, drawn with `seed`, and return the figures of the written model."""
    # The trainer's own estimates are not needed here.
    model, _ = train_model(k, seed, {"random_split": False, "unknown": False})
    truth = split("test").contexts
    known, probabilities, _ = _predict(model, "test")
    unknown, _, _ = _predict(model, "oos_test")
    _, noisy, _ = _predict(model, "noisy")
    correct = probabilities.argmax(axis=1) == truth
    return Scores(
        float(correct.mean()),
        float((noisy.argmax(axis=1) == truth).mean()),
        float(roc_auc_score(np.repeat([1, 0], [len(known), len(unknown)]), np.concatenate([known, unknown]))),
        calibration_error(probabilities, correct),
    )


def acceptance(k: int, seed: int) -> tuple[float, float, float]:
    """Train on `k` texts of each context: false rejection, acceptance of out-of-scope texts, acceptance of probes."""
    model, metrics = train_model(k, seed, {"random_split": False, "learning_curve": False})
    known, unknown = (_predict(model, name)[2] for name in ("test", "oos_test"))
    return 1 - float(known.mean()), float(unknown.mean()), metrics["probe_acceptance"]


def train_model(k: int, seed: int, evaluation: dict[str, Any]) -> tuple[bytes, dict[str, float]]:
    """Train on `k` texts of each context, drawn with `seed`, and return the written model and its metrics."""
    with tempfile.TemporaryDirectory(prefix="model-trainer-") as folder:
        write_draw(Path(folder, "data"), k, seed)
        name = f"draw-{k}-{seed}"
        job = Job(
            ("talker",),
            Path(folder, "data"),
            Path(folder, "out"),
            name,
            fingerprint=name,
            cache=FeatureCache(),
            log=RunLog(io.StringIO()),
        )
        config = SpeechConfig.model_validate({"evaluation": evaluation})
        outcome = train(job, config)
        return (outcome.bundle.folder / "model.onnx").read_bytes(), outcome.entry.training_metrics or {}


@cache
def _inputs(name: str) -> list[Inputs]:
    texts = with_word_errors(split("test").texts, 0) if name == "noisy" else list(split(name).texts)
    embedded = {encoder: embed_texts(load_encoder(encoder, 2), texts, FeatureCache()) for encoder in ("minilm", "use")}
    return [
        {"points": code_points(text), **{encoder: rows[k] for encoder, rows in embedded.items()}}
        for k, text in enumerate(texts)
    ]


def _predict(model: bytes, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """Return the model's scores (n,), probabilities (n, K) and acceptance (n,) for a split of n texts."""
    session = open_session(model)
    names = [tensor.name for tensor in session.get_inputs()]

    def run(sample: Inputs) -> Any:
        return session.run(["score", "probabilities", "accepted"], {tensor: sample[tensor] for tensor in names})

    with ThreadPoolExecutor(2) as pool:
        outputs = list(pool.map(run, _inputs(name)))
    scores, probabilities, accepted = zip(*outputs, strict=True)
    return np.array(scores), np.stack(probabilities), np.array(accepted, np.bool_)


def accuracy_on_test(model: bytes) -> float:
    """Return the accuracy of a written model on the test split."""
    return float((_predict(model, "test")[1].argmax(axis=1) == split("test").contexts).mean())


def write_draw(root: Path, k: int, seed: int) -> None:
    """Write `k` texts of each context, drawn with `seed`, as sessions of the user `talker`."""
    texts, rng = split("train"), np.random.default_rng(seed)
    chosen = [rng.choice(np.flatnonzero(texts.contexts == c), k, replace=False) for c in range(len(contexts()))]
    for session in range(SESSIONS):
        folder = root / "users" / "talker" / "sessions" / f"s{session}"
        folder.mkdir(parents=True)
        day = f"2026-01-{session + 1:02d}T10:00:00.000Z"
        metadata = {"user_id": "talker", "session_id": f"s{session}", "start_time": day, "end_time": day}
        (folder / "session.json").write_text(json.dumps(metadata))
        lines = [
            json.dumps(
                {
                    "record_id": f"t{row:05d}",
                    **{key: metadata[key] for key in ("user_id", "session_id")},
                    "timestamp": day,
                    "modality": "speech",
                    "label": contexts()[context],
                    "consent_given": True,
                    "transcript": texts.texts[row],
                }
            )
            for context, own in enumerate(chosen)
            for row in own[session::SESSIONS]
        ]
        (folder / "examples.jsonl").write_text("".join(f"{line}\n" for line in lines))


@cache
def _read(name: str) -> Any:
    return json.loads((SOURCE / "clinc150" / name).read_text(encoding="utf-8"))


def _row(name: str, figures: Sequence[float], target: float) -> Row:
    """Return the mean over draws with its 95 % interval (Student's t)."""
    mean, error = float(np.mean(figures)), float(np.std(figures, ddof=1) / np.sqrt(len(figures)))
    half = error * float(stdtrit(len(figures) - 1, 0.975))
    return name, mean, mean - half, mean + half, target


FIGURES = (few_texts, thousand_texts, out_of_scope, calibration, recognition_errors)
