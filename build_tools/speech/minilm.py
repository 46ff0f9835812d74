"""The sentence encoder all-MiniLM-L6-v2 as plain ONNX, from its safetensors weights.

N. Reimers, I. Gurevych, Sentence-BERT, 2019; W. Wang and others, MiniLM, 2020. A BERT of six layers whose
last states are averaged over the tokens and scaled to unit length.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from build_tools.onnx_builder import Network

WIDTH = 384
HEADS = 12
LONGEST = 256  # tokens; the sentence encoder was trained on no more
_DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
}

State = dict[str, NDArray[Any]]


def read_safetensors(raw: bytes) -> State:
    """Return name -> array of a safetensors file: a length, a JSON header and the tensors' numbers.

    Raises ValueError if it is not one.
    """
    end = 8 + int.from_bytes(raw[:8], "little")
    try:
        header = json.loads(raw[8:end].decode("utf-8"))
        tensors: State = {}
        for name, place in header.items():
            if name != "__metadata__":
                start, stop = place["data_offsets"]
                numbers = np.frombuffer(raw[end + start : end + stop], _DTYPES[place["dtype"]])
                tensors[name] = numbers.reshape(place["shape"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"not a safetensors file: {error!r}") from error
    return tensors


def minilm(state: State, heads: int = HEADS) -> onnx.ModelProto:
    """ids, mask (n, t) int64, t at most 256 -> embedding (n, width) float32 of unit length.

    mask is 1 at tokens and 0 at padding, which does not change the embedding.
    """
    net = Network()
    width = state["embeddings.word_embeddings.weight"].shape[1]
    layers = 1 + max(int(name.split(".")[2]) for name in state if name.startswith("encoder.layer."))

    def dense(x: str, name: str) -> str:
        weights = net.const(state[f"{name}.weight"].T)
        return net.add("Add", net.add("MatMul", x, weights), net.const(state[f"{name}.bias"]))

    def normed(x: str, name: str) -> str:
        scale, shift = net.const(state[f"{name}.weight"]), net.const(state[f"{name}.bias"])
        return net.add("LayerNormalization", x, scale, shift, axis=-1, epsilon=1e-12)

    words = net.add("Gather", net.const(state["embeddings.word_embeddings.weight"]), "ids")
    places = state["embeddings.position_embeddings.weight"] + state["embeddings.token_type_embeddings.weight"][0]
    length = net.add("Shape", "ids", start=1)
    places_here = net.add("Slice", net.const(places[:LONGEST]), net.integers(0), length, net.integers(0))
    x = normed(net.add("Add", words, places_here), "embeddings.LayerNorm")

    seen = net.add("Cast", "mask", to=onnx.TensorProto.FLOAT)
    unseen = net.add("Sub", net.add("Unsqueeze", seen, net.integers(1, 2)), net.const(1.0))
    penalty = net.add("Mul", unseen, net.const(1e9))
    split, join = net.integers(0, 0, heads, width // heads), net.integers(0, 0, width)
    shrink = net.const((width // heads) ** -0.5)

    def heads_of(x: str, name: str, perm: list[int]) -> str:
        return net.add("Transpose", net.add("Reshape", dense(x, name), split), perm=perm)

    for number in range(layers):
        layer = f"encoder.layer.{number}."
        query = heads_of(x, f"{layer}attention.self.query", [0, 2, 1, 3])
        key = heads_of(x, f"{layer}attention.self.key", [0, 2, 3, 1])
        value = heads_of(x, f"{layer}attention.self.value", [0, 2, 1, 3])
        scores = net.add("Mul", net.add("MatMul", query, key), shrink)
        weights = net.add("Softmax", net.add("Add", scores, penalty), axis=-1)
        mixed = net.add("Transpose", net.add("MatMul", weights, value), perm=[0, 2, 1, 3])
        mixed = dense(net.add("Reshape", mixed, join), f"{layer}attention.output.dense")
        x = normed(net.add("Add", x, mixed), f"{layer}attention.output.LayerNorm")
        inner = net.add("Gelu", dense(x, f"{layer}intermediate.dense"))
        x = normed(net.add("Add", x, dense(inner, f"{layer}output.dense")), f"{layer}output.LayerNorm")

    tokens = net.add("Mul", x, net.add("Unsqueeze", seen, net.integers(2)))
    total = net.add("ReduceSum", tokens, net.integers(1), keepdims=0)
    count = net.add("Max", net.add("ReduceSum", seen, net.integers(1)), net.const(1.0))
    mean = net.add("Div", total, count)
    size = net.add("Max", net.add("ReduceL2", mean, net.integers(1)), net.const(1e-12))
    net.add("Div", mean, size, name="embedding")
    shape = ["n", "t"]
    return net.model("minilm", {"ids": ("int64", shape), "mask": ("int64", shape)}, {"embedding": ["n", width]})
