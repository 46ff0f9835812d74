"""Write demo data for three fictional people, four modalities and three sessions each, in the project's own layout.

    python -m demo.make_data .demo/data

The same seed gives the same bytes. A few examples in each first session must not be used for training: a gesture whose
label was rejected, a sound recorded without consent, a partial transcript.
"""

from __future__ import annotations

import hashlib
import io
import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import soundfile
from rich.console import Console

from demo import gestures, scenes, sentences, sounds
from demo.people import PEOPLE, SAMPLES_PER_LABEL, SESSIONS, Person, SessionConditions
from model_registry.storage.durable import staged_folder
from shared.schema_utils import Example, FeaturesRef, FileRef, SessionMetadata

MARKER = "demo.json"  # marks a folder that this command wrote, and records its seed and code
CORRECTED_EVERY = 11  # takes whose label a partner corrected


@click.command(
    epilog="Example: python -m demo.make_data .demo/data --seed 7",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="model-trainer")
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the random takes.")
def main(out: Path, seed: int) -> None:
    """Write demo data for three fictional people to the folder OUT, unless it is already there."""
    write_demo_data(out, seed)


def write_demo_data(out: Path, seed: int) -> None:
    """Write the data root `out`, unless it is there already. Raises UsageError where `out` holds other files."""
    console = Console(stderr=True)
    provenance = fingerprint(seed)
    if out.exists() and any(out.iterdir()):
        if not (out / MARKER).is_file():
            raise click.UsageError(f"{out} contains other files; choose a new folder")
        if json.loads((out / MARKER).read_text(encoding="utf-8")) == provenance:
            console.print(f"demo data is already in {out}", highlight=False)
            return
    with console.status("generating demo data: gestures, sounds, transcripts, pictures (about ten seconds)"):
        count = make_data(out, seed, provenance)
    console.print(f"wrote {count} demo examples of {len(PEOPLE)} people to {out}", highlight=False)


def fingerprint(seed: int) -> dict[str, Any]:
    """Return what determines the data's bytes: the seed and a hash of the code that generates them."""
    code = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        code.update(source.read_bytes())
    return {"seed": seed, "code": code.hexdigest()}


def make_data(out: Path, seed: int, provenance: dict[str, Any]) -> int:
    """Write the whole data root to `out`, replacing an older one, and return the number of examples."""
    with staged_folder(out) as root:
        jobs = [(root, person, session, seed) for person in PEOPLE for session in SESSIONS]
        # Spawned, not forked: a forked copy of a process with running threads can deadlock on their locks.
        with ProcessPoolExecutor(max_workers=2, mp_context=get_context("spawn")) as pool:
            counts = list(pool.map(write_session, *zip(*jobs, strict=True)))
        (root / MARKER).write_text(json.dumps(provenance) + "\n", encoding="utf-8")
    return sum(counts)


def write_session(root: Path, person: Person, session: SessionConditions, seed: int) -> int:
    """Write one session folder with its files and return the number of its examples."""
    cv2.setNumThreads(1)
    folder = root / "users" / person.user_id / "sessions" / session.session_id
    for name in ("features", "sounds", "pictures"):
        (folder / name).mkdir(parents=True)
    start = datetime.fromisoformat(f"{session.day}T{9 + 4 * SESSIONS.index(session):02d}:00:00").replace(tzinfo=UTC)
    contents = [*takes(person, session, seed), *left_out(person, session, seed)]
    order = _generator(seed, person, session, "order").permutation(len(contents))
    examples = []
    for number, place in enumerate(order):
        fields = contents[place]
        for name, content in fields.pop("files", {}).items():
            (folder / name).write_bytes(content)
        examples.append(
            Example(
                user_id=person.user_id,
                session_id=session.session_id,
                timestamp=start + timedelta(seconds=15 * number),
                performer_id=person.user_id,
                is_demo=True,
                **{"label_status": "confirmed", "consent_given": True, **fields},
            )
        )
    metadata = SessionMetadata(
        user_id=person.user_id,
        session_id=session.session_id,
        start_time=start,
        end_time=start + timedelta(seconds=15 * len(examples)),
        labeler_id="carer01",
        performer_id=person.user_id,
        device=session.device,
        modality_versions={"gesture": gestures.ENCODING},
        notes=session.notes,
        is_training_data=True,
    )
    lines = (example.model_dump_json(exclude_none=True, exclude_defaults=False) for example in examples)
    (folder / "examples.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (folder / "session.json").write_text(metadata.model_dump_json(indent=2, exclude_none=True) + "\n", encoding="utf-8")
    return len(examples)


def takes(person: Person, session: SessionConditions, seed: int) -> Iterator[dict[str, Any]]:
    """Yield the fields of every usable example of a session; `files` maps paths to the bytes to write."""
    for modality, labels in vocabulary(person).items():
        for label in labels:
            for take in range(SAMPLES_PER_LABEL):
                rng = _generator(seed, person, session, f"{modality}/{label}/{take}")
                fields = _sample(modality, label, f"{label}_{take + 1:02d}", person, session, rng)
                if rng.integers(CORRECTED_EVERY) == 0:
                    fields["label_status"] = "corrected"
                yield fields


def left_out(person: Person, session: SessionConditions, seed: int) -> Iterator[dict[str, Any]]:
    """Yield the fields of the examples that must not be used for training, all in the first session."""
    if session != SESSIONS[0]:
        return
    rng = _generator(seed, person, session, "left out")
    gesture, other = person.gestures[:2]
    yield {**_sample("gesture", gesture, "rejected", person, session, rng), "label": other, "label_status": "rejected"}
    yield {**_sample("sound", person.sounds[0], "without_consent", person, session, rng), "consent_given": False}
    complete = sentences.utterance(person.topics[0], person, session, rng)
    yield _transcript(person.topics[0], sentences.cut_short(complete, rng), rng)


def vocabulary(person: Person) -> dict[str, tuple[str, ...]]:
    """Return the labels that a person uses in each modality."""
    return {
        "gesture": person.gestures,
        "sound": person.sounds,
        "speech": person.topics,
        "visual_environment": person.places,
    }


def _sample(
    modality: str, label: str, name: str, person: Person, session: SessionConditions, rng: np.random.Generator
) -> dict[str, Any]:
    """Return the fields of one example with the bytes of its file."""
    if modality == "gesture":
        return _features(label, f"features/{name}.npz", gestures.landmarks(label, person, session, rng), rng)
    if modality == "sound":
        wave = sounds.recording(label, person, session, rng)
        buffer = io.BytesIO()
        soundfile.write(buffer, wave, session.sample_rate, format="WAV", subtype="PCM_16")
        return _media(modality, label, f"sounds/{name}.wav", buffer.getvalue(), rng)
    if modality == "speech":
        return _transcript(label, sentences.utterance(label, person, session, rng), rng)
    picture = scenes.photograph(label, person, session, rng)
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 82])
    return _media(modality, label, f"pictures/{name}.jpg", encoded.tobytes(), rng)


def _features(label: str, path: str, sequence: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, features=sequence)
    content = buffer.getvalue()
    reference = FeaturesRef(
        uri=path,
        hash=f"sha256:{hashlib.sha256(content).hexdigest()}",
        encoding=gestures.ENCODING,
        shape=sequence.shape,
        dtype="float32",
    )
    return {**_named("gesture", label, rng), "features": reference, "files": {path: content}}


def _media(modality: str, label: str, path: str, content: bytes, rng: np.random.Generator) -> dict[str, Any]:
    reference = FileRef(path=path, sha256=hashlib.sha256(content).hexdigest())
    return {**_named(modality, label, rng), "media": reference, "files": {path: content}}


def _transcript(label: str, utterance: sentences.Utterance, rng: np.random.Generator) -> dict[str, Any]:
    return {
        **_named("speech", label, rng),
        "transcript": utterance.text,
        "confidence": utterance.confidence,
        "language": "en",
        "is_partial": utterance.is_partial,
    }


def _named(modality: str, label: str, rng: np.random.Generator) -> dict[str, Any]:
    return {"record_id": str(uuid.UUID(bytes=rng.bytes(16), version=4)), "modality": modality, "label": label}


def _generator(seed: int, person: Person, session: SessionConditions, purpose: str) -> np.random.Generator:
    """Return a separate generator for each purpose, so that a further label does not change the others."""
    name = f"{seed}/{person.user_id}/{session.session_id}/{purpose}"
    return np.random.default_rng(list(hashlib.sha256(name.encode()).digest()))


if __name__ == "__main__":
    main()
