"""The speech recipe on ten contexts of CLINC150: few texts and many, out of scope, and recognition errors."""

from __future__ import annotations

import json
from functools import cache

import numpy as np

from benchmarks.few_shot import DRAWS, Answers, Numbers, Row, drawn, learn, quiet_job, row
from benchmarks.real_data import SOURCE, WORK
from shared.evaluation import Contender, auroc
from shared.metrics import calibration_error
from speech_context_trainer.preprocessing.text import clean
from speech_context_trainer.train import SpeechConfig, available_encoders, compete, embed

FEW_TEXTS_BARS = {3: 0.60, 5: 0.68, 10: 0.77, 20: 0.84}
TEST = 4500  # of the official split
CONFIG = SpeechConfig()


@cache
def _texts() -> tuple[tuple[str, ...], Numbers, Numbers]:
    """Return texts, their context or -1 out of scope, and their part: 0 train, 1 test, 2 out of scope."""
    data = json.loads((SOURCE / "clinc150" / "data_small.json").read_text("utf-8"))
    domains = json.loads((SOURCE / "clinc150" / "domains.json").read_text("utf-8"))
    context = {intent: k for k, name in enumerate(sorted(domains)) for intent in domains[name]}
    parts = [(data["train"], 0), (data["test"], 1), (data["oos_test"], 2)]
    rows = [(clean(text), context.get(intent, -1), part) for split, part in parts for text, intent in split]
    texts, contexts, where = zip(*rows, strict=True)
    return texts, np.array(contexts), np.array(where)


@cache
def _contenders(extra: tuple[str, ...] = ()) -> tuple[Contender, ...]:
    texts = [*_texts()[0], *extra]
    job = quiet_job("talker", WORK)
    encoders, _ = available_encoders(CONFIG)
    return tuple(compete(job, CONFIG, embed(job, texts, encoders), encoders, few=False))


def _learnt(each: int, draw: int, test: Numbers, contenders: tuple[Contender, ...] | None = None) -> Answers:
    _, contexts, where = _texts()
    train = drawn(contexts, np.flatnonzero(where == 0), each, draw)
    sessions = np.zeros(len(contexts), np.int64)
    sessions[train] = np.random.default_rng(draw).permutation(len(train)) % min(5, each)
    return learn(contenders or _contenders(), contexts, [str(s) for s in sessions], train, test)


def few_texts() -> list[Row]:
    """Accuracy on the official test split after 3, 5, 10 and 20 texts a context, mean over draws."""
    _, contexts, where = _texts()
    test = np.flatnonzero(where == 1)
    rows = []
    for each, bar in FEW_TEXTS_BARS.items():
        rates = [float((_learnt(each, d, test).classes == contexts[test]).mean()) for d in range(DRAWS)]
        rows.append(row(f"contexts, {each} texts each", float(np.mean(rates)), TEST, bar))
    return rows


def thousand_texts() -> list[Row]:
    """Accuracy, calibration and what is told out of scope after 20 and 100 texts a context."""
    _, contexts, where = _texts()
    test, outside = np.flatnonzero(where == 1), np.flatnonzero(where == 2)
    rows: list[Row] = []
    for each, bar in ((20, 0.90), (100, 0.94)):
        answers = _learnt(each, 0, np.concatenate([test, outside]))
        known = np.arange(len(answers.score)) < len(test)
        area = auroc(answers.score[known], answers.score[~known])
        rows.append(row(f"contexts, out of scope, AUROC, {each} texts each", area, len(outside), bar))
        correct = answers.classes[known] == contexts[test]
        if each == 100:
            rows.append(row("contexts, 1,000 texts", float(correct.mean()), TEST, 0.935))
            error = calibration_error(answers.probabilities[known], correct)
            rows.append(row("contexts, 1,000 texts, calibration error (at most)", error, TEST, 0.03))
            rejected = 1 - float(answers.accepted[known].mean())
            rows.append(row("contexts, 1,000 texts, known rejected", rejected, TEST, None))
    return rows


def recognition_errors() -> list[Row]:
    """Points lost at 20 texts a context where a fifth of the words is replaced, left out or added."""
    texts, contexts, where = _texts()
    test = np.flatnonzero(where == 1)
    words = sorted({word for text in texts for word in text.split()})
    rng = np.random.default_rng(0)
    noisy = tuple(_garbled(texts[k], words, rng) for k in test)
    contenders = _contenders(noisy)
    extended = np.arange(len(texts), len(texts) + len(noisy))
    lost = []
    for draw in range(3):
        answers = _learnt(20, draw, np.concatenate([test, extended]), contenders)
        correct = answers.classes == np.concatenate([contexts[test], contexts[test]])
        lost.append(float(correct[: len(test)].mean() - correct[len(test) :].mean()))
    return [row("contexts, points lost to 20 % word errors (at most)", float(np.mean(lost)), TEST, 0.12)]


def _garbled(text: str, words: list[str], rng: np.random.Generator) -> str:
    heard = []
    for word in text.split():
        if rng.random() >= 0.2:
            heard.append(word)
            continue
        kind = rng.integers(3)
        other = words[rng.integers(len(words))]
        heard += [[other], [], [word, other]][kind]
    return " ".join(heard) or text


FIGURES = (few_texts, thousand_texts, recognition_errors)
