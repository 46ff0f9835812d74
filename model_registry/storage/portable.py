"""Exporting a version: all its files in a tar, or one ONNX file that contains its encoders."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedRandom
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx import compose, version_converter

from model_registry.errors import ConflictError
from model_registry.storage.durable import path_errors, staged_file, storage_errors
from model_registry.storage.encoders import SPEC_FILE, EncoderSpec, read_encoder
from model_registry.storage.entry import FILE_LIMIT, ExportForm
from model_registry.storage.resolution import ResolvedVersion
from model_registry.storage.verification import read_checked

ENCODER_FILES = "encoder_files"  # property: encoder -> file name -> text


def export(version: ResolvedVersion, target: Path, form: ExportForm) -> None:
    """Write a version to one file, which appears whole or not at all. Raises UnusablePathError for a bad target."""
    (export_tar if form == "tar" else export_onnx)(version, target)


def export_tar(version: ResolvedVersion, target: Path) -> None:
    """Write all files of a checked version and of its encoders as a tar: the same version gives the same bytes."""
    top = f"{version.entry.user_id}_{version.modality}_v{version.version}"
    members = {f"{top}/{path.name}": path for path in version.folder.iterdir()}
    for folder in version.encoders.values():
        members |= {f"{top}/encoders/{folder.name}/{path.name}": path for path in folder.iterdir()}
    with _target_file(target) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, path in sorted(members.items()):
            info = tarfile.TarInfo(name)
            info.size = path.stat().st_size
            info.mode = 0o644
            with path.open("rb") as content:
                tar.addfile(info, content)


def export_onnx(version: ResolvedVersion, target: Path) -> None:
    """Write one ONNX file that has the encoders' inputs and the model's outputs.

    Other files of an encoder, such as its tokenizer, become a property of the file, `ENCODER_FILES`. Raises
    ConflictError where an encoder is no ONNX network, or its outputs are not the model's inputs.
    """
    content = read_checked(version.files["model"], version.stored["model"].sha256, FILE_LIMIT)
    if version.encoders:
        model = _parsed(content, "the model")
        for name, folder in sorted(version.encoders.items()):
            model = join(read_encoder(folder), folder, name, model)
        describe_inputs(model, {name: read_encoder(folder) for name, folder in version.encoders.items()})
        names = {ref.name: ref.sha256 for ref in version.entry.encoder_refs}
        texts = {name: _text_files(folder) for name, folder in version.encoders.items()}
        source = version.stored["model"].sha256  # by which an erasure finds the file
        for key, value in (("encoders", names), (ENCODER_FILES, texts), ("model_sha256", source)):
            text = json.dumps(value, sort_keys=True, ensure_ascii=False)
            model.metadata_props.append(onnx.StringStringEntryProto(key=key, value=text))
        try:
            onnx.checker.check_model(model, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise ConflictError(f"encoders and model do not fit together: {error}") from error
        content = model.SerializeToString(deterministic=True)
    with _target_file(target) as file:
        file.write(content)


def _text_files(folder: Path) -> dict[str, str]:
    """Return the text files of an encoder: `encoder.json`, and all that it names but the network."""
    spec = read_encoder(folder)
    try:
        return {
            name: (folder / name).read_text(encoding="utf-8") for name in (SPEC_FILE, *spec.files) if name != spec.model
        }
    except UnicodeDecodeError:
        raise ConflictError(f"encoder {spec.name} needs binary files: export a tar instead") from None


def join(spec: EncoderSpec, folder: Path, name: str, head: onnx.ModelProto) -> onnx.ModelProto:
    """Feed the outputs of encoder `name` to the inputs of `head` that are named after them.

    Input `lite0` is fed by the encoder's first output, `lite0_mid` by its output `mid`. The encoder's own inputs become
    inputs of the result, with the same prefix: `lite0_image`. An embedding of one sample loses its first axis where the
    head takes a single vector. Raises ConflictError.
    """
    if not spec.model.endswith(".onnx"):
        raise ConflictError(f"encoder {name} is no ONNX network ({spec.model}): export a tar instead")
    encoder, head = _same_operators(_parsed((folder / spec.model).read_bytes(), f"encoder {name}"), head)
    encoder = compose.add_prefix(encoder, f"{name}_")
    _own_lengths(encoder.graph, name)
    outputs = {output.name: output for output in encoder.graph.output}
    sources = {f"{name}_{output}": f"{name}_{output}" for output in spec.outputs}
    sources[name] = f"{name}_{next(iter(spec.outputs))}"
    entries = [entry for entry in head.graph.input if entry.name in sources]
    if not entries:
        raise ConflictError(f"the model has no input named after encoder {name}")
    others = [entry.name for entry in head.graph.input if entry.name.startswith(f"{name}_") and entry not in entries]
    if others:
        raise ConflictError(f"the model takes {others[0]}, which encoder {name} does not provide: export a tar instead")
    del encoder.graph.output[:]
    links = []
    for entry in entries:
        fitted = _fitted(encoder.graph, outputs[sources[entry.name]], entry)
        if fitted not in encoder.graph.output:
            encoder.graph.output.append(fitted)
        links.append((fitted.name, entry.name))
    try:
        joined = compose.merge_models(encoder, head, links, name=head.graph.name, doc_string="")
    except ValueError as error:
        raise ConflictError(f"encoder {name} and the model cannot be joined: {error}") from error
    imports = {imported.domain: imported.version for imported in joined.opset_import}
    del joined.opset_import[:]
    joined.opset_import.extend(onnx.helper.make_opsetid(domain, number) for domain, number in imports.items())
    return joined


def describe_inputs(model: onnx.ModelProto, encoders: Mapping[str, EncoderSpec]) -> None:
    """Let the property `spec` describe the inputs of a file that contains its encoders: those of the encoders, too.

    A model without such a property, or with one that lists no inputs, is left as it is.
    """
    spec: Any = next((json.loads(prop.value) for prop in model.metadata_props if prop.key == "spec"), None)
    if not isinstance(spec, dict) or not isinstance(spec.get("inputs"), list):
        return
    own = {tensor["name"]: tensor for tensor in spec["inputs"]}
    taken = {
        f"{name}_{entry}": tensor.model_dump(mode="json")
        for name, encoder in encoders.items()
        for entry, tensor in encoder.inputs.items()
    }
    spec["inputs"] = [
        own[value.name] if value.name in own else {"name": value.name, **taken[value.name], "shape": _lengths(value)}
        for value in model.graph.input
    ]
    for prop in model.metadata_props:
        if prop.key == "spec":
            prop.value = json.dumps(spec, sort_keys=True)


def _lengths(value: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def _own_lengths(graph: onnx.GraphProto, name: str) -> None:
    """Prefix the names of variable lengths: `t` of two encoders need not be the same length."""
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = f"{name}_{dim.dim_param}"


def _parsed(content: bytes, what: str) -> onnx.ModelProto:
    try:
        return onnx.load_model_from_string(content)
    except DecodeError:
        raise ConflictError(f"{what} is no ONNX network: export a tar instead") from None


def _fitted(graph: onnx.GraphProto, output: onnx.ValueInfoProto, entry: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    """Return the encoder's output with as many axes as the head takes, squeezing the sample axis if necessary.

    Where it is squeezed, the encoder's inputs take one sample, and say so.
    """
    rank, wanted = (len(value.type.tensor_type.shape.dim) for value in (output, entry))
    if rank == wanted:
        return output
    if rank != wanted + 1:
        raise ConflictError(f"input {entry.name} has {wanted} axes, but the encoder gives {rank}")
    single, axis = f"{output.name}_single", f"{output.name}_single_axis"
    graph.initializer.append(onnx.helper.make_tensor(axis, onnx.TensorProto.INT64, [1], [0]))
    graph.node.append(onnx.helper.make_node("Squeeze", [output.name, axis], [single], name=single))
    fitted = onnx.ValueInfoProto()
    fitted.CopyFrom(output)
    fitted.name = single
    del fitted.type.tensor_type.shape.dim[0]
    samples = output.type.tensor_type.shape.dim[0].dim_param
    for value in graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if samples and dim.dim_param == samples:
                dim.dim_value = 1
    return fitted


def _same_operators(one: onnx.ModelProto, other: onnx.ModelProto) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Return both models with the later of their operator set versions, and of their file format versions."""
    versions = [next((o.version for o in model.opset_import if o.domain == ""), 1) for model in (one, other)]
    ir_version = max(one.ir_version, other.ir_version)
    models = [
        model if version == max(versions) else version_converter.convert_version(model, max(versions))
        for model, version in zip((one, other), versions, strict=True)
    ]
    for model in models:
        model.ir_version = ir_version
    return models[0], models[1]


@contextmanager
def _target_file(target: Path) -> Iterator[BufferedRandom]:
    with storage_errors("export"), path_errors(target), staged_file(target) as file:
        yield file
