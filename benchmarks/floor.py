"""The least that a training takes: imports, reading the samples, and, where nothing is cached, decoders and networks.

`benchmarks.speed` runs it in turn with each trainer and prints how much longer the trainer takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from shared.data_loader import Dataset, load_features
from shared.features.encoders import load_encoder
from shared.features.graph import open_session
from shared.job import Job
from shared.recipe import load, load_recipe
from shared.trainers import find_trainer


@click.command()
@click.argument("modality")
@click.argument("data", type=click.Path(path_type=Path))
@click.argument("user")
@click.option("--cached", is_flag=True, help="Decode nothing and run no network.")
def main(modality: str, data: Path, user: str, cached: bool) -> None:
    """Import the trainer of MODALITY, read USER's samples in DATA, decode them and run the networks on them once."""
    job = Job((user,), data, data, "floor")
    dataset = load(job, load_recipe(find_trainer(modality)).config(), modality)
    if modality == "gesture":
        for sample in dataset.samples:
            load_features(sample)
    elif not cached:
        _NETWORKS[modality](job, dataset)


def _sound(job: Job, dataset: Dataset) -> None:
    from sound_trainer.preprocessing.embedding import pad_centred
    from sound_trainer.preprocessing.recordings import open_recordings
    from sound_trainer.train import SoundConfig

    config = SoundConfig()
    encoder = load_encoder(config.encoder)
    session = open_session((encoder.folder / encoder.spec.model).read_bytes())
    waves = [inputs["wave"] for inputs in open_recordings(job, dataset, config.decoding)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda wave: session.run(["embedding"], {"wave": pad_centred(wave)}), waves))


def _speech(job: Job, dataset: Dataset) -> None:
    from speech_context_trainer.preprocessing.tokens import embed_texts
    from speech_context_trainer.train import SpeechConfig, available_encoders, transcripts

    for encoder in available_encoders(SpeechConfig())[0].values():
        embed_texts(encoder, transcripts(dataset))


def _visual_environment(job: Job, dataset: Dataset) -> None:
    from visual_environment_trainer.preprocessing.choosing import select_encoder
    from visual_environment_trainer.preprocessing.embeddings import encode_images
    from visual_environment_trainer.train import VisualConfig, encoding_for, wanted_encoders

    config = VisualConfig()
    encoder, _ = select_encoder(wanted_encoders(config, len(dataset)), job.out)
    encode_images(job, dataset, encoding_for(config, encoder, len(dataset)))


_NETWORKS: Mapping[str, Callable[[Job, Dataset], None]] = {
    "sound": _sound,
    "speech": _speech,
    "visual_environment": _visual_environment,
}


if __name__ == "__main__":
    main()
