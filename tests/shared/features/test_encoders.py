from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from build_tools.onnx_builder import Network, network_bytes
from model_registry.storage.encoders import EncoderSpec, Source, Tensor, copy_encoder, read_encoder
from shared.errors import ConfigError
from shared.features.cache import FeatureCache, content_key
from shared.features.encoders import TOGETHER, Encoder, encode_cached, export_encoder, load_encoder

F32 = NDArray[np.float32]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An encoder of images (n, 2, 2, 3): `embedding` is their mean colour, `twice` double that."""
    net = Network()
    x = net.add("Cast", "image", to=1)
    net.add("ReduceMean", x, net.integers(1, 2), keepdims=0, name="embedding")
    net.add("Mul", "embedding", net.const(2.0), name="twice")
    raw = network_bytes(
        net.model("m", {"image": ("uint8", ["n", 2, 2, 3])}, {"embedding": ["n", 3], "twice": ["n", 3]})
    )
    digest = hashlib.sha256(raw).hexdigest()
    spec = EncoderSpec(
        name="mean",
        sha256=digest,
        inputs={"image": Tensor(dtype="uint8", shape=("n", 2, 2, 3), meaning="RGB")},
        outputs={"embedding": 3, "twice": 3},
        licence="MIT",
        source=Source(package="p", version="1"),
        files={"model.onnx": digest},
    )
    place = tmp_path / "pretrained" / "mean"
    place.mkdir(parents=True)
    (place / "model.onnx").write_bytes(raw)
    (place / "encoder.json").write_text(spec.text())
    monkeypatch.setenv("MODEL_TRAINER_PRETRAINED", str(place.parent))
    return place


def _images(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 2, 2, 3), dtype=np.uint8)


def _means(images: NDArray[np.uint8]) -> F32:
    return images.mean((1, 2)).astype(np.float32)


def test_an_encoder_is_found_by_name_or_folder_and_answers(folder: Path) -> None:
    images = _images(5)
    for encoder in (load_encoder("mean"), load_encoder(folder), load_encoder(str(folder), threads=2)):
        found = encoder.run({"image": images})
        np.testing.assert_allclose(found["embedding"], _means(images), rtol=1e-6)
        np.testing.assert_allclose(found["twice"], 2 * _means(images), rtol=1e-6)


def test_inputs_that_are_not_as_described_are_refused(folder: Path) -> None:
    encoder = load_encoder("mean")
    for wrong in (_images(2).astype(np.float32), _images(2)[0], _images(2)[:, :, :1]):
        with pytest.raises(ValueError, match=r"mean: image must be \(n, 2, 2, 3\) uint8"):
            encoder.run({"image": wrong})
    with pytest.raises(ValueError, match="takes image"):
        encoder.run({"picture": _images(1)})


def test_an_absent_or_damaged_encoder_says_how_to_make_it(folder: Path) -> None:
    with pytest.raises(ConfigError, match="model-trainer pretrained --only absent"):
        load_encoder("absent")
    (folder / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(ConfigError, match=r"(?s)sha256 is .*--only mean"):
        load_encoder("mean")


def _answer(encoder: Encoder) -> float:
    return float(encoder.run({"image": np.full((1, 2, 2, 3), 9, np.uint8)})["embedding"][0, 0])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_an_encoder_works_in_other_processes_after_it_worked_in_this(folder: Path, method: str) -> None:
    encoder = load_encoder("mean", threads=2)
    assert _answer(encoder) == 9
    assert pickle.loads(pickle.dumps(encoder)) == encoder  # noqa: S301 - made just now
    with ProcessPoolExecutor(2, get_context(method)) as pool:
        assert list(pool.map(_answer, [encoder] * 3)) == [9] * 3


def test_only_what_the_cache_lacks_is_computed(folder: Path, tmp_path: Path) -> None:
    encoder, cache = load_encoder("mean"), FeatureCache(tmp_path / "f.sqlite")
    images = _images(10)
    keys = [content_key(image) for image in images]
    batches: list[int] = []

    def prepare(some: Sequence[NDArray[np.uint8]]) -> list[dict[str, NDArray[np.uint8]]]:
        batches.append(len(some))
        return [{"image": image[None]} for image in some]

    done: list[int] = []
    first = encode_cached(encoder, images[:7], keys[:7], prepare, cache, chunk=4, on_done=done.append)
    assert batches == [4, 3]
    assert done == [0, 4, 7]
    batches.clear()
    done.clear()
    doubled = [*images, images[9]]
    again = encode_cached(encoder, doubled, [*keys, keys[9]], prepare, cache, chunk=4, on_done=done.append)
    assert batches == [3]
    assert done[-1] == 11
    np.testing.assert_allclose(again["embedding"], _means(np.stack(doubled)), rtol=1e-6)
    np.testing.assert_array_equal(again["twice"][:7], first["twice"])
    alone = encode_cached(encoder, images, keys, prepare)
    np.testing.assert_array_equal(alone["embedding"], again["embedding"][:10])


def test_rows_of_equal_shape_run_together_and_none_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = load_encoder("mean")
    any_height = {"image": Tensor(dtype="uint8", shape=("n", "h", 2, 3), meaning="RGB")}
    tall = encoder.spec.model_copy(update={"inputs": any_height})
    seen: list[tuple[int, ...]] = []

    def run(encoder: Encoder, batch: Mapping[str, NDArray[np.uint8]]) -> dict[str, F32]:
        seen.append(batch["image"].shape[:2])
        means = _means(batch["image"])
        return {"embedding": means, "twice": 2 * means}

    monkeypatch.setattr(Encoder, "run", run)
    images = [_images(1)[0, : 1 + k % 2] // 2 + np.uint8(k) for k in range(2 * TOGETHER + 3)]
    made = Encoder(tall, encoder.folder)
    keys = [content_key(image) for image in images]
    found = encode_cached(made, images, keys, lambda some: [{"image": image[None]} for image in some])
    assert sorted(seen) == [(2, 1), (2, 2), (TOGETHER, 1), (TOGETHER, 2)]
    np.testing.assert_allclose(found["embedding"], np.stack([_means(image[None])[0] for image in images]), rtol=1e-6)


def test_no_samples_give_no_rows(folder: Path) -> None:
    found = encode_cached(load_encoder("mean"), [], [], lambda some: [{"image": image[None]} for image in some])
    assert {name: rows.shape for name, rows in found.items()} == {"embedding": (0, 3), "twice": (0, 3)}


def test_an_encoder_is_exported_beside_the_bundles(folder: Path, tmp_path: Path) -> None:
    encoder = load_encoder("mean")
    target = export_encoder(encoder, tmp_path / "out")
    assert target == tmp_path / "out" / "encoders" / encoder.spec.sha256
    assert read_encoder(target) == encoder.spec
    assert _answer(load_encoder(target)) == 9


def test_an_exported_encoder_is_read_again_only_when_its_files_changed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, copies = load_encoder("mean"), []

    def counted(source: Path, target: Path, verified: EncoderSpec) -> Path:
        copies.append(source)
        return copy_encoder(source, target, verified)

    monkeypatch.setattr("shared.features.encoders.copy_encoder", counted)
    for _ in range(3):
        target = export_encoder(encoder, tmp_path / "out")
    assert len(copies) == 1
    (target / "model.onnx").unlink()
    export_encoder(encoder, tmp_path / "out")
    assert len(copies) == 2
    assert _answer(load_encoder(target)) == 9
