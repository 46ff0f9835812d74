"""Sound features in the model's graph and by librosa: `python -m benchmarks.sound_features`.

The figures of docs/decisions/traced-features.md: accuracy in a noisy room for each place of trimming, and processor
time of mel cepstra. Training sounds are spoken digits as recorded, closely cut. Test sounds are later takes of the same
speaker with 0.2 to 1 s of a room's noise before and after, as a live client records them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from unittest.mock import patch

import click
import librosa
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from benchmarks.few_shot import load_all, quiet_job
from benchmarks.real_data import SOURCE, data_root
from benchmarks.sound_accuracy import CONFIG, SPEAKERS
from shared.features.encoders import load_encoder
from shared.features.graph import FeatureGraph, TensorSpec, open_session
from sound_trainer.preprocessing import spectral
from sound_trainer.preprocessing.embedding import SpeechEmbedding
from sound_trainer.preprocessing.recordings import open_recordings
from sound_trainer.preprocessing.spectral import HOP, RATE, WINDOW, Cepstra

TESTED = ("session-04", "session-05")
NOISE_DB = (40, 25, 15)  # signal-to-noise ratio
Wave = NDArray[np.float32]


def librosa_trim(wave: Wave) -> Wave:
    """(N,) -> (M,): without what is 40 dB below the loudest frame at both ends."""
    trimmed: Wave = librosa.effects.trim(wave, top_db=40, frame_length=WINDOW, hop_length=HOP)[0]
    return trimmed


def untouched(wave: Wave) -> Wave:
    """(N,) -> (N,): the wave itself."""
    return wave


CALLERS: dict[str, tuple[Callable[[Wave], Wave], bool]] = {  # what the caller does, whether the graph trims
    "the graph trims": (untouched, True),
    "the caller trims by librosa, top_db=40": (librosa_trim, False),
    "nobody trims": (untouched, False),
}


@click.command()
def main() -> None:
    """Print accuracies for each place of trimming, and milliseconds per sound.

    \b
    Example:
      python -m benchmarks.sound_features
    """
    if not SOURCE.is_dir():
        raise click.ClickException(f"no real data at {SOURCE}; name the folder with MODEL_TRAINER_DATA")
    table = Table("", *(f"{level} dB" for level in NOISE_DB), title="accuracy at a signal-to-noise ratio")
    for title, (trim, in_graph) in CALLERS.items():
        rows = np.array(list(_accuracies(trim, in_graph)))
        table.add_row(title, *(f"{value:.3f}" for value in rows.mean(axis=0)))
    Console().print(table)
    wave = np.asarray(np.random.default_rng(0).normal(size=RATE) * 0.1, np.float32)
    graph = open_session(FeatureGraph("cepstra", (TensorSpec("wave", "float32", ("samples",)),), Cepstra()).model)
    for title, compute in {
        "mel cepstra and differences of 1 s, in the graph": lambda: graph.run(None, {"wave": wave}),
        "the same by librosa.feature": lambda: librosa_cepstra(wave),
    }.items():
        click.echo(f"{title}: {_milliseconds(compute):.1f} ms of processor time")


def librosa_cepstra(wave: Wave) -> NDArray[np.float32]:
    """(N,) -> (60, T): mel cepstra with their first and second differences."""
    cepstra = librosa.feature.mfcc(y=wave, sr=RATE, n_mfcc=20, n_fft=512, win_length=WINDOW, hop_length=HOP, n_mels=40)
    return np.concatenate([cepstra, librosa.feature.delta(cepstra), librosa.feature.delta(cepstra, order=2)])


def _milliseconds(compute: Callable[[], object], runs: int = 50) -> float:
    compute()
    started = time.process_time()
    for _ in range(runs):
        compute()
    return (time.process_time() - started) / runs * 1000


def _accuracies(trim: Callable[[Wave], Wave], in_graph: bool) -> Iterator[list[float]]:
    """Yield for each speaker the accuracy at every level of noise."""
    for speaker in SPEAKERS:
        dataset, job = load_all(data_root("digits"), speaker, "sound"), quiet_job(speaker, data_root("digits"))
        waves = [sample["wave"] for sample in open_recordings(job, dataset, CONFIG.decoding)]
        late = np.isin(dataset.session_ids, TESTED)
        digits = dataset.label_index
        early_waves = [trim(wave) for wave, tested in zip(waves, late, strict=True) if not tested]
        classifier = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.5)
        classifier.fit(_features(early_waves, in_graph), digits[~late])
        late_waves = [wave for wave, tested in zip(waves, late, strict=True) if tested]
        rng = np.random.default_rng(0)
        accuracies = []
        for level in NOISE_DB:
            noisy = [trim(_in_a_room(wave, level, rng)) for wave in late_waves]
            accuracies.append(float(classifier.score(_features(noisy, in_graph), digits[late])))
        yield accuracies


def _features(waves: list[Wave], in_graph: bool) -> NDArray[np.float32]:
    """(n,) waves -> (n, D) features of the default candidates, with trimming of their own or without."""
    encoder = load_encoder("speech_embedding")
    functions = (SpeechEmbedding(encoder.folder / encoder.spec.model), Cepstra())
    with patch.object(spectral, "trim", spectral.trim if in_graph else untouched):
        return np.stack([np.concatenate([function({"wave": wave}) for function in functions]) for wave in waves])


def _in_a_room(wave: Wave, level: float, rng: np.random.Generator) -> Wave:
    """(N,) -> (M,): with 0.2 to 1 s before and after, and smooth noise `level` dB below the sound throughout."""
    before, after = (np.zeros(int(seconds * RATE)) for seconds in rng.uniform(0.2, 1.0, 2))
    sound = np.concatenate([before, wave, after])
    noise = np.convolve(rng.normal(size=len(sound)), np.ones(4) / 4, "same")
    noise *= np.sqrt(np.mean(wave**2)) * 10 ** (-level / 20) / noise.std()
    return np.asarray(sound + noise, np.float32)


if __name__ == "__main__":
    main()
