"""The image encoder to use: a pretrained one by name, one in a folder, or any ONNX network by path and contract."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from pydantic import Field, FiniteFloat, StringConstraints

from model_registry.storage.durable import file_sha256, staged_folder
from model_registry.storage.encoders import (
    EncoderError,
    EncoderSpec,
    FileName,
    Source,
    Tensor,
    verify_encoder,
)
from shared.errors import ConfigError
from shared.features.arrays import const, inline, namespace
from shared.features.encoders import Encoder, load_encoder
from shared.features.graph import TensorSpec, build
from shared.schema_utils import Schema

FALLBACK = (
    "FALLBACK: no image encoder is available, so hand-made features are used, which recognise far less; "
    "run `make setup` and train again"
)
Colour = tuple[FiniteFloat, FiniteFloat, FiniteFloat]
Word = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class OwnEncoder(Schema):
    """An ONNX file of one's own and its contract: its input, and which of its outputs are used."""

    path: Path = Field(description="the ONNX file, weights inside")
    name: FileName = Field(description="by which models refer to it")
    licence: Word = Field(description="of the weights")
    input: Word = Field(description="name of the network's input, float32")
    layout: Literal["nchw", "nhwc"] = Field(default="nchw", description="order of the input's axes")
    side: int = Field(ge=16, le=1024, description="side of the square RGB image that it takes, in pixels")
    mean: Colour = Field(default=(0.0, 0.0, 0.0), description="subtracted from red, green and blue, which are 0 to 255")
    deviation: Colour = Field(default=(1.0, 1.0, 1.0), description="divides them afterwards")
    output: Word = Field(description="name of the output: (n, dimension), or maps (n, dimension, h, w)")
    middle: Word | None = Field(default=None, description="name of an earlier stage's output, if that is used as well")


def select_encoder(wanted: Sequence[str | OwnEncoder], out: Path) -> tuple[Encoder | None, list[str]]:
    """Return the first encoder that is available, or None, and a note on each that is not.

    Only pretrained ones, which are given by name, may be absent; a path that does not exist is an error. Encoders of
    one's own are written to `out` with their contract. Raises ConfigError.
    """
    notes: list[str] = []
    for one in wanted:
        if isinstance(one, OwnEncoder):
            return own_encoder(one, out), notes
        try:
            return _checked(load_encoder(one)), notes
        except ConfigError as error:
            if one != Path(one).name:
                raise
            notes.append(f"trained without the image encoder {one}: {str(error).splitlines()[0]}")
    return None, [FALLBACK, *notes]


def own_encoder(own: OwnEncoder, out: Path) -> Encoder:
    """Write the network with its contract to a folder of `out`, as an encoder that takes uint8 images.

    Raises ConfigError for an invalid network, or one that is not what the contract says.
    """
    network = _wrapped(own)
    sha256 = hashlib.sha256(network).hexdigest()
    outputs = onnx.load_model_from_string(network).graph.output
    spec = EncoderSpec(
        name=own.name,
        sha256=sha256,
        inputs={"image": Tensor(dtype="uint8", shape=("n", own.side, own.side, 3), meaning="RGB, rows first")},
        outputs={value.name: value.type.tensor_type.shape.dim[1].dim_value for value in outputs},
        licence=own.licence,
        source=Source(package=own.path.name, version=file_sha256(own.path)),
        files={"model.onnx": sha256},
    )
    folder = out / "encoders" / sha256
    if not _is_written(folder, spec):
        with staged_folder(folder) as stage:
            (stage / "model.onnx").write_bytes(network)
            (stage / "encoder.json").write_text(spec.text(), encoding="utf-8")
    encoder = load_encoder(folder)
    _try(encoder, own)
    return encoder


def _wrapped(own: OwnEncoder) -> bytes:
    """Return the network with the contract's scaling before it and its maps averaged after it."""
    try:
        model = onnx.load_model_from_string(own.path.read_bytes())
        onnx.checker.check_model(model)
        model = onnx.shape_inference.infer_shapes(model)
    except (OSError, DecodeError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConfigError(f"{own.path}: invalid ONNX network: {str(error).splitlines()[0]}") from None
    constant = {tensor.name for tensor in model.graph.initializer}
    inputs = {value.name: _shape(value) for value in model.graph.input if value.name not in constant}
    if set(inputs) != {own.input}:
        raise ConfigError(f"{own.path}: its inputs are {', '.join(inputs)}, not {own.input} alone")
    planes = (own.side, own.side, 3) if own.layout == "nhwc" else (3, own.side, own.side)
    axes = inputs[own.input][1:]
    if len(axes) != 3 or any(size not in (0, needed) for size, needed in zip(axes, planes, strict=True)):
        actual, expected = (", ".join(map(str, shape)) for shape in (axes, planes))
        raise ConfigError(f"{own.path}: {own.input} is (n, {actual}), not (n, {expected})")
    wanted = {"embedding": own.output} | ({"mid": own.middle} if own.middle else {})
    shapes = {value.name: _shape(value) for value in model.graph.output}
    for name in wanted.values():
        if name not in shapes:
            raise ConfigError(f"{own.path}: its outputs are {', '.join(shapes)}, not {name}")
        if len(shapes[name]) not in (2, 4) or not shapes[name][1]:
            raise ConfigError(f"{own.path}: {name} is not (n, dimension) or (n, dimension, h, w) of fixed dimension")
    image = TensorSpec("image", "uint8", ("n", own.side, own.side, 3)).argument()
    xp = namespace(image)
    pixels = xp.astype(image, xp.float32)
    pixels = (pixels - const(own.mean, pixels)) / const(own.deviation, pixels)
    pixels = xp.permute_dims(pixels, (0, 3, 1, 2)) if own.layout == "nchw" else pixels
    try:
        outputs = inline(model.SerializeToString(), {own.input: pixels})
        rows = {ours: outputs[theirs] for ours, theirs in wanted.items()}
        rows = {name: xp.mean(maps, axis=(2, 3)) if maps.ndim == 4 else maps for name, maps in rows.items()}
        return build({"image": image}, rows, {})
    except (ValueError, RuntimeError) as error:  # what ONNX says of an operator that is not its own
        raise ConfigError(f"{own.path}: cannot become part of a graph: {str(error).splitlines()[0]}") from None


def _shape(value: onnx.ValueInfoProto) -> list[int]:
    """Return the sizes of a value's axes, 0 where they may vary."""
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]


def _try(encoder: Encoder, own: OwnEncoder) -> None:
    """Raise ConfigError where two images cannot be encoded together."""
    try:
        encoder.run({"image": np.zeros((2, own.side, own.side, 3), np.uint8)})
    except Exception as error:  # ONNX Runtime's own are many
        raise ConfigError(f"{own.path}: cannot encode two images at once: {str(error).splitlines()[0]}") from None


def _is_written(folder: Path, spec: EncoderSpec) -> bool:
    try:
        return verify_encoder(folder) == spec
    except EncoderError:
        return False


def _checked(encoder: Encoder) -> Encoder:
    """Raise ConfigError where an encoder in a folder does not take square RGB images."""
    inputs = encoder.spec.inputs
    shape = list(inputs["image"].shape) if set(inputs) == {"image"} else []
    square = len(shape) == 4 and isinstance(shape[1], int) and shape[1:] == [shape[1], shape[1], 3]
    if not square or isinstance(shape[0], int) or inputs["image"].dtype != "uint8":
        raise ConfigError(
            f"{encoder.folder}: an image encoder takes `image`, (n, side, side, 3) uint8 RGB; for any other give "
            "its path and contract (see configs/own_encoder.yaml)"
        )
    return encoder
