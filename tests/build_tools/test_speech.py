from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from scipy.special import erf
from tokenizers import Tokenizer

from build_tools.onnx_builder import network_bytes
from build_tools.speech import quantised
from build_tools.speech.minilm import minilm, read_safetensors
from build_tools.speech.sentencepiece_file import SentencePieceError, tokenizer_json
from build_tools.speech.use import sentence_encoder
from shared.features.cache import FeatureCache
from shared.features.encoders import load_encoder
from shared.features.pretrained import Pretrained, pretrained_folder
from speech_context_trainer.preprocessing.pretrained import MINILM, MINILM_INT8, USE
from speech_context_trainer.preprocessing.tokens import embed_texts, tokenise

F32 = NDArray[np.float32]
State = dict[str, NDArray[Any]]


def needs(network: Pretrained) -> pytest.MarkDecorator:
    made = (pretrained_folder() / network.name / "encoder.json").is_file()
    return pytest.mark.skipif(not made, reason=f"{network.name} is not made; run: python -m build_tools")


def _numbers(random: np.random.Generator, low: float, high: float, *shape: int) -> F32:
    """Evenly spread, of integers and IEEE arithmetic alone, so the same on every machine."""
    return (low + random.integers(0, 1025, shape) / 1024 * (high - low)).astype(np.float32)


def padded(rows: Sequence[NDArray[np.int64]]) -> dict[str, NDArray[np.int64]]:
    """Ids and mask (n, t): ids 0 and mask 0 after a row's end."""
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    mask = np.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, : len(row)], mask[place, : len(row)] = row, 1
    return {"ids": ids, "mask": mask}


def _run(model: onnx.ModelProto, rows: list[list[int]]) -> F32:
    session = onnxruntime.InferenceSession(network_bytes(model))
    (found,) = session.run(["embedding"], padded([np.asarray(row) for row in rows]))
    return np.asarray(found)


# MiniLM, small, and NumPy's answer for one text at a time.
def _small_bert(width: int = 16, inner: int = 24, layers: int = 2, words: int = 30) -> State:
    random = np.random.default_rng(3)
    state: State = {
        "embeddings.word_embeddings.weight": _numbers(random, -1, 1, words, width),
        "embeddings.position_embeddings.weight": _numbers(random, -1, 1, 512, width),
        "embeddings.token_type_embeddings.weight": _numbers(random, -1, 1, 2, width),
    }

    def linear(name: str, out: int, into: int) -> None:
        state[f"{name}.weight"] = _numbers(random, -0.6, 0.6, out, into)
        state[f"{name}.bias"] = _numbers(random, -0.5, 0.5, out)

    def norm(name: str) -> None:
        state[f"{name}.weight"] = _numbers(random, 0.5, 1.5, width)
        state[f"{name}.bias"] = _numbers(random, -0.5, 0.5, width)

    norm("embeddings.LayerNorm")
    for layer in (f"encoder.layer.{number}." for number in range(layers)):
        for name in ("query", "key", "value"):
            linear(f"{layer}attention.self.{name}", width, width)
        linear(f"{layer}attention.output.dense", width, width)
        norm(f"{layer}attention.output.LayerNorm")
        linear(f"{layer}intermediate.dense", inner, width)
        linear(f"{layer}output.dense", width, inner)
        norm(f"{layer}output.LayerNorm")
    return state


def _numpy_bert(state: State, ids: list[int], heads: int) -> F32:
    def linear(x: F32, name: str) -> F32:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(x: F32, name: str) -> F32:
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return x * state[f"{name}.weight"] + state[f"{name}.bias"]

    x = state["embeddings.word_embeddings.weight"][ids] + state["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + state["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    size = x.shape[1] // heads
    for number in range(2):
        layer = f"encoder.layer.{number}."
        query, key, value = (linear(x, f"{layer}attention.self.{name}") for name in ("query", "key", "value"))
        mixed = []
        for part in (slice(head * size, (head + 1) * size) for head in range(heads)):
            scores = np.exp(query[:, part] @ key[:, part].T / np.sqrt(size))
            mixed.append(scores / scores.sum(-1, keepdims=True) @ value[:, part])
        mixed_rows = linear(np.concatenate(mixed, -1), f"{layer}attention.output.dense")
        x = norm(x + mixed_rows, f"{layer}attention.output.LayerNorm")
        inner = linear(x, f"{layer}intermediate.dense")
        inner = inner * (1 + erf(inner / np.sqrt(2))) / 2
        x = norm(x + linear(inner, f"{layer}output.dense"), f"{layer}output.LayerNorm")
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


ROWS = [[1, 5, 9, 2], [1, 7, 7, 7, 28, 3, 11, 2], [1, 2]]


def test_minilm_answers_as_numpy_does_and_padding_changes_nothing() -> None:
    state = _small_bert()
    found = _run(minilm(state, heads=4), ROWS)
    np.testing.assert_allclose(found, [_numpy_bert(state, row, 4) for row in ROWS], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert np.abs(found[0] - found[1]).max() > 0.1


def test_the_same_minilm_weights_give_the_same_bytes_also_quantised() -> None:
    model = minilm(_small_bert(), heads=4)
    small = quantised(model)
    assert network_bytes(small) == network_bytes(quantised(model))
    digests = [hashlib.sha256(network_bytes(m)).hexdigest() for m in (model, small)]
    assert digests == [
        "54d7478c0470fbd8f84781375dcb24d734120b5011d8ee38c2e037f84f65e017",
        "9450335669b830a0ef1aab8c5b555473623411f53e261fb4567e3a547534e7a9",
    ]


def test_the_quantised_network_takes_one_text_and_stays_close(capfd: pytest.CaptureFixture[str]) -> None:
    state = _small_bert()
    small = quantised(minilm(state, heads=4))
    assert capfd.readouterr() == ("", "")
    assert {entry.type.tensor_type.shape.dim[0].dim_value for entry in small.graph.input} == {1}
    kinds = {node.op_type for node in small.graph.node}
    assert {"MatMulInteger", "DynamicQuantizeLinear"} <= kinds
    found = np.concatenate([_run(small, [row]) for row in ROWS])
    assert np.einsum("nd,nd->n", found, [_numpy_bert(state, row, 4) for row in ROWS]).min() > 0.98


def test_safetensors_are_read() -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "b": {"dtype": "I64", "shape": [2], "data_offsets": [24, 40]},
        "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    }
    text = json.dumps(header).encode()
    body = np.arange(6, dtype="<f4").tobytes() + np.asarray([7, 8], "<i8").tobytes()
    found = read_safetensors(struct.pack("<Q", len(text)) + text + body)
    np.testing.assert_array_equal(found["a"], np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(found["b"], [7, 8])
    assert found.keys() == {"a", "b"}


@pytest.mark.parametrize(
    "header",
    [
        b"{",
        b"[1]",
        b'{"a": 1}',
        b'{"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}',
        b"\xff",
        b'{"a": {}}',
    ],
)
def test_what_is_no_safetensors_file_is_refused(header: bytes) -> None:
    with pytest.raises(ValueError, match="not a safetensors file"):
        read_safetensors(struct.pack("<Q", len(header)) + header + b"\0" * 8)


# The multilingual encoder, small, and NumPy's answer for one text at a time.
def _small_use(words: int = 15, chunks: int = 3, width: int = 8, branch: int = 6, out: int = 10) -> State:
    random = np.random.default_rng(5)
    state: State = {f"q{k + 1}": random.integers(0, 64, (words // chunks, width), np.uint8) for k in range(chunks)}
    state["scale"], state["lo"] = _numbers(random, 0.01, 0.05, chunks), _numbers(random, -2, -1, chunks)
    for order in (2, 3, 5):
        state[f"proj{order}"] = _numbers(random, -1, 1, width, branch)
        state[f"proj_b{order}"] = _numbers(random, -1, 1, branch)
        state[f"ln_g{order}"] = _numbers(random, 0.5, 1.5, branch)
        state[f"ln_b{order}"] = _numbers(random, -1, 1, branch)
        for number in "12":
            state[f"w{number}_{order}"] = _numbers(random, -1, 1, order * branch, branch)
            state[f"b{number}_{order}"] = _numbers(random, -1, 1, branch)
    joined = width + 3 * branch
    state["ln_g"], state["ln_b"] = _numbers(random, 0.5, 1.5, joined), _numbers(random, -1, 1, joined)
    state["cnn_W"], state["cnn_b"] = _numbers(random, -0.5, 0.5, joined, out), _numbers(random, -0.5, 0.5, out)
    state["d0"], state["d1"], state["p1"] = (
        _numbers(random, -0.7, 0.7, *shape) for shape in ((out, 7), (7, 7), (out, 7))
    )
    state["d2"], state["p3"], state["d3"] = (
        _numbers(random, -0.7, 0.7, *shape) for shape in ((7, out), (7, out), (out, out))
    )
    state["eps"] = np.float64(1e-12).reshape(())
    return state


def _numpy_use(state: State, ids: list[int]) -> F32:
    def norm(x: F32, scale: F32, shift: F32) -> F32:
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12) * scale + shift

    words = np.stack([state[f"q{k % 3 + 1}"][k // 3] * state["scale"][k % 3] + state["lo"][k % 3] for k in ids])
    orders = {2: 0, 3: 1, 5: 2}  # n-gram -> tokens to its left
    projected = np.concatenate([words @ state[f"proj{n}"] + state[f"proj_b{n}"] for n in orders], -1)
    scale, shift = (np.concatenate([state[f"ln_{name}{n}"] for n in orders]) for name in "gb")
    branches = np.split(norm(projected, scale, shift), 3, axis=1)
    features = [words]
    for (order, left), branch in zip(orders.items(), branches, strict=True):
        x = branch
        for number in "12":
            around = np.pad(x, ((left, order - 1 - left), (0, 0)))
            grams = np.stack([around[k : k + order].ravel() for k in range(len(ids))])
            x = x + np.maximum(grams @ state[f"w{number}_{order}"] + state[f"b{number}_{order}"], 0)
        features.append(x)
    tokens = norm(np.concatenate(features, -1), state["ln_g"], state["ln_b"])
    mean = (tokens @ state["cnn_W"] + state["cnn_b"]).sum(0) / np.sqrt(len(ids))
    first = np.maximum(mean @ state["d0"], 0)
    second = np.maximum(first @ state["d1"] + mean @ state["p1"], 0)
    last = np.tanh(np.maximum(second @ state["d2"], 0) @ state["d3"] + second @ state["p3"])
    return last / np.linalg.norm(last)


def test_the_multilingual_encoder_answers_as_numpy_does_and_padding_changes_nothing() -> None:
    state = _small_use()
    rows = [[1, 5, 9, 2], [1, 7, 7, 7, 14, 3, 11, 2], [1, 2]]
    found = _run(sentence_encoder(state), rows)
    np.testing.assert_allclose(found, [_numpy_use(state, row) for row in rows], atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 0.1
    raw = network_bytes(sentence_encoder(state))
    assert hashlib.sha256(raw).hexdigest() == "91076d3c43c1531401d04a0fff8ffae5f1b9683c2b10a02072c7e8dcbf4fcd95"


# A SentencePiece model, field by field.
def _field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return bytes([number << 3, value])
    return bytes([number << 3 | 2]) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + _varint(value >> 7)


def _model(*pieces: tuple[str, float, int]) -> bytes:
    parts = []
    for text, score, kind in pieces:
        parts.append(_field(1, _field(1, text.encode()) + b"\x15" + struct.pack("<f", score) + _field(3, kind)))
    table = struct.pack("<I", 1024) + bytes(1024) + b"\0"  # normalises nothing
    return b"".join(parts) + _field(3, _field(2, table) + _field(3, 1))


PIECES = [("<unk>", 0, 2), ("<s>", 0, 3), ("</s>", 0, 3), ("▁", -3, 1), ("▁ab", -1, 1), ("a", -4, 1), ("b", -4.5, 1)]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("ab", [1, 4, 2]),
        ("  ab   ba ", [1, 4, 3, 6, 5, 2]),
        ("a!?b", [1, 3, 5, 0, 6, 2]),
        ("<s>", [1, 3, 0, 2]),
        ("", [1, 2]),
        ("ab ab ab ab ab ab ab ab ab", [1, 4, 4, 4, 4, 4, 4, 2]),
    ],
)
def test_a_sentencepiece_model_becomes_a_tokenizer(text: str, ids: list[int]) -> None:
    tokenizer = Tokenizer.from_str(tokenizer_json(_model(*PIECES), longest=8))
    assert tokenizer.encode(text).ids == ids


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x0a",
        b"\x0a\x05ab",
        b"\x0f",
        b"\xff" * 20,
        b"no model at all",
        _model(*PIECES[3:]),
        b"".join(_field(1, _field(1, text.encode())) for text, _, _ in PIECES),
    ],
)
def test_what_is_no_sentencepiece_model_is_refused(raw: bytes) -> None:
    with pytest.raises(SentencePieceError):
        tokenizer_json(raw, longest=8)


# What Google's sentencepiece 0.2.1 answers, between <s> and </s>.
SENTENCEPIECE = [
    ("I would like a glass of water, please.", [33, 186, 174, 10, 8994, 19, 1304, 7, 2935, 8]),
    (
        "Wo ist meine Großmutter? Sie kommt um 15:30 Uhr!",
        [5325, 176, 1975, 20275, 27779, 21, 2185, 2805, 168, 528, 15335, 17252, 42],
    ),
    (
        "¿Dónde está el baño? ¡Mañana iré a la piscina!",
        [723, 230, 49709, 1129, 72, 33238, 21, 6, 3177, 496, 22653, 384, 88, 6389, 10, 25, 40320, 42],
    ),
    ("J'ai très faim ; où est l'école ?", [585, 11, 563, 2020, 3384, 60, 841, 3353, 239, 70, 11, 23430, 483]),
    ("Привет, я хочу есть! Ёлка", [85019, 1183, 7, 1459, 15946, 449, 2517, 42, 6, 43101, 74688]),
    ("你好,我想喝水。", [6, 91, 156, 7, 113, 320, 3577, 426, 27]),
    ("こんにちは、ｶﾀｶﾅ\u3000ＡＢＣ１２３", [6, 5495, 15907, 89, 24, 39015, 56125, 13514, 16131]),
    ("ฉันอยากดื่มน้ำ", [6, 47893, 51815, 104949, 6160]),
    ("أريد أن أشرب الماء", [2444, 39112, 1666, 2444, 112883, 50969]),
    ("\u1112\u1161\u11ab\u1100\u1173\u11af", [124470]),
    ("😀🙂 ok 👍🏽❤️", [6, 0, 2116, 6, 0, 127967, 14234]),
    ("  two   blanks\tand a tab  ", [537, 17273, 9, 17, 10, 8868]),
    ("<s> hello </s>", [87, 9, 65, 6, 27492, 6372, 9, 65]),
    ("ﬁne ½ ² ™ ㎏", [1668, 32259, 101, 38371, 3106]),
    ("", []),
]


@pytest.mark.slow
@needs(USE)
def test_token_ids_are_those_of_sentencepiece() -> None:
    found = tokenise(load_encoder("use"), [text for text, _ in SENTENCEPIECE])
    assert [row.tolist() for row in found] == [[1, *ids, 2] for _, ids in SENTENCEPIECE]


@needs(USE)
def test_multilingual_embeddings_are_those_of_the_package() -> None:
    texts = [
        "I would like a glass of water, please.",
        "Ich möchte bitte ein Glas Wasser trinken.",
        "Quiero ir al baño, por favor.",
    ]
    found = embed_texts(load_encoder("use"), texts)
    published = [
        [-0.03917864, 0.04925234, 0.04107291, 0.04861515, -0.10656154],
        [-0.03481049, 0.04439009, 0.04370646, 0.03606287, -0.09940397],
        [-0.05814518, -0.06131512, -0.00685739, 0.00355486, -0.11181942],
    ]
    np.testing.assert_allclose(found[:, :5], published, atol=1e-5)
    assert found[0] @ found[1] > found[0] @ found[2] + 0.2


@pytest.mark.slow
@needs(MINILM)
def test_english_embeddings_are_those_published_for_the_original() -> None:
    texts = [
        "This framework generates embeddings for each input sentence",
        "This is an example sentence",
        "Each sentence is converted",
    ]
    found = embed_texts(load_encoder("minilm"), texts)
    published = [
        [-1.37173e-02, -4.28515e-02, -1.56286e-02, 1.40537e-02, 3.95537e-02],
        [6.76569e-02, 6.34959e-02, 4.87131e-02, 7.93049e-02, 3.74480e-02],
        [8.64385e-02, 1.02762e-01, 5.39457e-03, 2.04443e-03, -9.96337e-03],
    ]
    np.testing.assert_allclose(found[:, :5], published, atol=1e-5)


@needs(MINILM)
@needs(MINILM_INT8)
def test_the_quantised_encoder_stays_close_whatever_else_is_encoded_with_a_text(tmp_path: Path) -> None:
    texts = ["please turn the light on", "I am tired", "where is my sister going this afternoon after school", "no"]
    small = load_encoder("minilm_int8")
    found = embed_texts(small, texts)
    assert np.einsum("nd,nd->n", found, embed_texts(load_encoder("minilm"), texts)).min() > 0.95
    cache = FeatureCache(tmp_path / "f.sqlite")
    np.testing.assert_array_equal(embed_texts(small, texts[1:2], cache), found[1:2])
    np.testing.assert_array_equal(embed_texts(small, texts[::-1], cache), found[::-1])
    with pytest.raises(ValueError, match=r"must be \(1, t\)"):
        small.run(padded(tokenise(small, texts)))


@pytest.mark.parametrize("network", [pytest.param(n, marks=needs(n), id=n.name) for n in (MINILM, USE)])
def test_a_text_gets_the_same_bytes_whatever_else_is_encoded_with_it(network: Pretrained) -> None:
    """Otherwise what is in the cache would decide what a model comes out as, and none could be made again."""
    encoder = load_encoder(network.name, threads=2)
    said = ["please turn the light on", "I am tired", "no", "where is my sister going this afternoon", "I am hungry"]
    texts = [*said, *(f"{first} {second}" for first in ("I", "you", "we", "they") for second in ("come", "go", "eat"))]
    together = embed_texts(encoder, texts)
    np.testing.assert_array_equal(embed_texts(encoder, texts[::-1])[::-1], together)
    np.testing.assert_array_equal(embed_texts(encoder, texts[3:8]), together[3:8])
    for place, text in enumerate(texts):
        np.testing.assert_array_equal(embed_texts(encoder, [text])[0], together[place])


@needs(MINILM)
def test_a_long_transcript_is_cut_not_refused() -> None:
    encoder = load_encoder("minilm")
    (row,) = tokenise(encoder, ["word " * 1_000])
    assert len(row) == 256
    assert np.isfinite(embed_texts(encoder, ["word " * 1_000, ""])).all()
