"""Convolutions, fitted where they may be and the same in the graph; and windows, the parts that a camera gives."""

import numpy as np
import pytest

from gesture_trainer.preprocessing.convolutions import PLACES, ConvolutionSource
from gesture_trainer.preprocessing.layouts import layout_of
from gesture_trainer.preprocessing.sequences import Sequences, split_into_windows
from shared.data.samples import Sample
from shared.data_loader import Dataset
from shared.features.graph import TensorSpec
from shared.learning.classifiers import LDA
from shared.learning.heads import fitter
from shared.schema_utils import Example


def _waves(count: int, seed: int = 0, channels: int = 3) -> list[np.ndarray]:
    """Sequences of some channels, of 20 to 90 frames: two rhythms in turn, whatever the amplitude."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        frames = int(rng.integers(20, 90))
        phase = np.linspace(0, 2 * np.pi * (2, 5)[number % 2], frames)[:, None] + rng.uniform(0, 6, (1, channels))
        made.append((rng.uniform(1, 3) * np.sin(phase) + rng.normal(0, 0.1, (frames, channels))).astype(np.float32))
    return made


def _source(sequences: list[np.ndarray]) -> ConvolutionSource:
    contract = (TensorSpec("sequence", "float32", ("frames", sequences[0].shape[1])),)
    return ConvolutionSource(sequences, contract, "convolutions", 0)


@pytest.mark.parametrize("channels", [1, 3, 12])
@pytest.mark.slow
def test_convolutions_are_the_same_in_the_graph_for_any_length(channels: int) -> None:
    short = _waves(1, 5, channels)[0][:2]
    source = _source([*_waves(12, 0, channels), np.zeros_like(short), np.ones_like(short[:1]), short])
    train = np.arange(8)
    computed = source.rows(train).base
    traced = np.stack(list(source.graph(train).run([{"sequence": s} for s in source.sequences])))
    assert computed.shape == traced.shape and np.isfinite(traced).all()
    assert np.abs(computed - traced).max() <= 1.5 / PLACES  # an answer may lie on its bias
    assert np.mean(computed != traced) < 0.01
    everything = np.arange(len(source.sequences))
    shipped = np.stack(list(source.graph(everything).run([{"sequence": s} for s in source.sequences])))
    np.testing.assert_array_equal(source.rows(everything).base, shipped)


@pytest.mark.slow
def test_what_convolutions_are_fitted_with_comes_from_training_samples_alone() -> None:
    waves = _waves(12)
    changed = [*waves[:8], *(100 * wave + 7 for wave in waves[8:])]
    train = np.arange(8)
    one, other = (_source(sequences).rows(train).base for sequences in (waves, changed))
    np.testing.assert_array_equal(one[:8], other[:8])
    assert np.abs(_source(changed).rows(np.arange(12)).base[:8] - one[:8]).max() > 0.1


def test_convolutions_tell_rhythms_apart() -> None:
    source, classes = _source(_waves(40)), np.arange(40) % 2
    train = np.arange(20)
    rows = source.rows(train).base
    logits = np.asarray(fitter(LDA())(rows[:20], classes[:20], 2)(rows[20:]))
    assert (logits.argmax(axis=1) == classes[20:]).all()


def _sample(number: int) -> Sample:
    values = {"record_id": f"r{number}", "user_id": "mia", "session_id": "s", "timestamp": "2026-03-01T10:00:00Z"}
    example = Example.model_validate({**values, "modality": "gesture", "label": "wave", "transcript": "-"})
    return Sample(f"r{number}", "mia", "s", "wave", None, "", example, "examples.jsonl", 1)


def test_windows_are_16_frames_5_apart() -> None:
    sequences = tuple(np.arange(n * 2, dtype=np.float32).reshape(n, 2) for n in (27, 16, 9))
    dataset = Dataset("gesture", "mia", ("mia",), tuple(_sample(k) for k in range(3)))
    data = Sequences(sequences, "accelerometer_v1", 2, layout_of("accelerometer_v1", 2))
    parts, samples = split_into_windows(data, dataset, 16, 5)
    assert [s.record_id for s in samples.samples] == ["r0@0", "r0@5", "r0@10", "r1@0"]
    assert [len(p) for p in parts.sequences] == [16, 16, 16, 16]
    np.testing.assert_array_equal(parts.sequences[1], sequences[0][5:21])
