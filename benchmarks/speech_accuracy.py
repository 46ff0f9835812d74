"""How well speech models trained through the recipe answer clinc150's official test split, against their bars.

Ten contexts. Training texts are drawn at random, dealt over five sessions and trained on by the recipe itself; what is
measured is the file that it writes. `python -m benchmarks.speech_accuracy` prints all rows.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.real_data import SOURCE
from shared.encoders import load_encoder
from shared.evaluation import auroc
from shared.feature_cache import FeatureCache
from shared.graph import open_session
from shared.metrics import calibration_error
from shared.recipe import Job
from speech_context_trainer.preprocessing.text import clean, code_points
from speech_context_trainer.preprocessing.tokens import embed_texts
from speech_context_trainer.train import SpeechConfig, train

SESSIONS = 5
WORD_ERRORS = 0.2
FEW_SHOT_BARS = {3: 0.60, 5: 0.68, 10: 0.77, 20: 0.84}
Inputs = dict[str, NDArray[Any]]


class Row(NamedTuple):
    """One figure: its mean over the draws with a 95 % interval, and the bar that it is measured against."""

    name: str
    figure: float
    low: float
    high: float
    bar: str


@dataclass(frozen=True)
class Texts:
    """Texts with their contexts' numbers (n,); -1 is out of scope."""

    texts: tuple[str, ...]
    contexts: NDArray[np.int64]


@dataclass(frozen=True)
class Drawn:
    """What one trained model answers on the test split."""

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
        heard: list[str] = []
        for word in text.split():
            kind = rng.integers(3) if rng.random() < WORD_ERRORS else -1
            other = words[rng.integers(len(words))]
            heard += {-1: [word], 0: [other], 1: [], 2: [word, other]}[int(kind)]
        changed.append(" ".join(heard) or text)
    return changed


def few_shot() -> list[Row]:
    """Accuracy on the test split at 3 to 20 texts of each context, over ten draws."""
    return [
        _row(f"{k} texts a context", [drawn(k, seed).accuracy for seed in range(10)], f">= {bar}")
        for k, bar in FEW_SHOT_BARS.items()
    ]


def thousand_texts() -> list[Row]:
    """Accuracy at 1,000 texts."""
    return [_row("1,000 texts", [drawn(100, seed).accuracy for seed in range(3)], ">= 0.935")]


def out_of_scope() -> list[Row]:
    """AUROC of the score between the test split and texts of no context."""
    return [
        _row("out of scope, 20 a context", [drawn(20, seed).out_of_scope for seed in range(10)], ">= 0.90"),
        _row("out of scope, 1,000 texts", [drawn(100, seed).out_of_scope for seed in range(3)], ">= 0.94"),
    ]


def calibration() -> list[Row]:
    """Expected calibration error of the model's probabilities on the test split."""
    return [
        _row("calibration error, 20 a context", [drawn(20, s).calibration_error for s in range(10)], "<= 0.03"),
        _row("calibration error, 1,000 texts", [drawn(100, s).calibration_error for s in range(3)], "<= 0.03"),
    ]


def word_errors() -> list[Row]:
    """Accuracy lost to 20 % word errors at 20 texts of each context."""
    lost = [drawn(20, seed).accuracy - drawn(20, seed).noisy_accuracy for seed in range(10)]
    return [_row("lost to 20 % word errors", lost, "<= 0.12")]


BARS: tuple[Callable[[], list[Row]], ...] = (few_shot, thousand_texts, out_of_scope, calibration, word_errors)


@cache
def drawn(k: int, seed: int) -> Drawn:
    """Train on `k` texts of each context, drawn with `seed`, and return how the written model answers."""
    texts = split("train")
    rng = np.random.default_rng(seed)
    chosen = [rng.choice(np.flatnonzero(texts.contexts == c), k, replace=False) for c in range(len(contexts()))]
    with tempfile.TemporaryDirectory(prefix="model-trainer-") as folder:
        _write_sessions(Path(folder, "data"), texts, chosen)
        name = f"draw-{k}-{seed}"
        job = Job(("talker",), Path(folder, "data"), Path(folder, "out"), name, fingerprint=name, cache=FeatureCache())
        # Beside this measurement the trainer's own estimates are not needed.
        config = SpeechConfig.model_validate({"evaluation": {"random_split": False, "unknown": False}})
        model = (train(job, config).bundle.folder / "model.onnx").read_bytes()
    truth = split("test").contexts
    known, chances = _answers(model, "test")
    unknown, _ = _answers(model, "oos_test")
    _, noisy = _answers(model, "noisy")
    right = chances.argmax(axis=1) == truth
    return Drawn(
        float(right.mean()),
        float((noisy.argmax(axis=1) == truth).mean()),
        auroc(known, unknown),
        calibration_error(chances, right),
    )


@cache
def _inputs(name: str) -> list[Inputs]:
    texts = with_word_errors(split("test").texts, 0) if name == "noisy" else list(split(name).texts)
    embedded = {encoder: embed_texts(load_encoder(encoder, 2), texts, FeatureCache()) for encoder in ("minilm", "use")}
    return [
        {"points": code_points(text), **{encoder: rows[k] for encoder, rows in embedded.items()}}
        for k, text in enumerate(texts)
    ]


def _answers(model: bytes, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return scores (n,) and probabilities (n, K)."""
    session = open_session(model)
    wanted = [tensor.name for tensor in session.get_inputs()]

    def one(sample: Inputs) -> Any:
        return session.run(["score", "probabilities"], {tensor: sample[tensor] for tensor in wanted})

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(one, _inputs(name)))
    return np.array([score for score, _ in found]), np.stack([chances for _, chances in found])


def _write_sessions(root: Path, texts: Texts, chosen: Sequence[NDArray[np.int64]]) -> None:
    for session in range(SESSIONS):
        folder = root / "users" / "talker" / "sessions" / f"s{session}"
        folder.mkdir(parents=True)
        day = f"2026-01-{session + 1:02d}T10:00:00.000Z"
        about = {"user_id": "talker", "session_id": f"s{session}", "start_time": day, "end_time": day}
        (folder / "session.json").write_text(json.dumps(about))
        lines = [
            json.dumps(
                {
                    "record_id": f"t{row:05d}",
                    **{key: about[key] for key in ("user_id", "session_id")},
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


def _row(name: str, figures: Sequence[float], bar: str) -> Row:
    from scipy.special import stdtrit

    mean, half = float(np.mean(figures)), float(np.std(figures, ddof=1) / np.sqrt(len(figures)))
    half *= float(stdtrit(len(figures) - 1, 0.975))
    return Row(name, mean, mean - half, mean + half, bar)


@click.command()
def main() -> None:
    """Measure speech models on clinc150.

    \b
    Example:
      python -m benchmarks.speech_accuracy
    """
    if not SOURCE.is_dir():
        raise click.ClickException(f"no real data at {SOURCE}; name the folder with MODEL_TRAINER_DATA")
    table = Table("speech, clinc150 in ten contexts", "figure", "95 % interval", "bar")
    for bar in track(BARS, console=Console(stderr=True)):
        for row in bar():
            table.add_row(row.name, f"{row.figure:.3f}", f"{row.low:.3f}-{row.high:.3f}", row.bar)
    Console().print(table)


if __name__ == "__main__":
    main()
