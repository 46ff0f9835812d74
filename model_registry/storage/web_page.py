"""Exporting a version as a folder that a web server shows: a page that tries the model in the browser, offline."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import onnx

from model_registry.errors import ConflictError, NotFoundError
from model_registry.storage.durable import file_sha256, path_errors, staged_folder, storage_errors
from model_registry.storage.encoders import Sha256
from model_registry.storage.portable import export_onnx
from model_registry.storage.resolution import ResolvedVersion

MODEL_FILE = "model.onnx"
_PAGE = ("index.html", "page.css", "page.mjs", "model.mjs", "recorder.mjs")
_LICENCE, _TOKENIZERS_LICENCE = "onnxruntime-web-LICENSE.txt", "tokenizers-LICENSE.txt"
_PACKAGES = "onnxruntime-web@1.30.0 @huggingface/tokenizers@0.2.0"
_RUNTIME: Mapping[str, Sha256] = {  # files of these packages, below node_modules
    f"{package}/{name}": sha256
    for package, name, sha256 in (
        (
            "onnxruntime-web",
            "dist/ort.wasm.bundle.min.mjs",
            "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
        ),
        (
            "onnxruntime-web",
            "dist/ort-wasm-simd-threaded.wasm",
            "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
        ),
        (
            "@huggingface/tokenizers",
            "dist/tokenizers.min.mjs",
            "258e46332101335ce8d95aed7745b19ac3b46d37f3e159a89cf894c2ea9b1d3a",
        ),
        (
            "@huggingface/tokenizers",
            "LICENSE",
            "c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4",
        ),
    )
}


def export_web(version: ResolvedVersion, target: Path, node_modules: Path) -> None:
    """Write a page, the model and what runs it to the folder `target`, which appears whole or not at all.

    `node_modules` holds the pinned packages. Raises ConflictError for a model of neither sound nor speech, where a
    file of the packages is another than the pinned one, and where `target` exists; NotFoundError where one is missing.
    """
    check_packages(node_modules)
    try:
        with storage_errors("export"), path_errors(target), staged_folder(target, replace=False) as stage:
            export_onnx(version, stage / MODEL_FILE)
            check_preparation(stage / MODEL_FILE)
            for name in _PAGE:
                (stage / name).write_bytes(files("model_registry").joinpath("web", name).read_bytes())
            runtime = stage / "runtime"
            runtime.mkdir()
            for path in _RUNTIME:
                name = path.rpartition("/")[2]
                shutil.copyfile(node_modules / path, runtime / (_TOKENIZERS_LICENCE if name == "LICENSE" else name))
            (runtime / _LICENCE).write_bytes(files("model_registry").joinpath("web", _LICENCE).read_bytes())
    except FileExistsError:
        raise ConflictError(f"{target}: exists already; name a new folder") from None


def check_packages(node_modules: Path) -> None:
    """Raise NotFoundError or ConflictError where a file of the packages is missing, or not the pinned one."""
    remedy = f"install the packages with: npm install --ignore-scripts {_PACKAGES}, and name their node_modules folder"
    for name, sha256 in _RUNTIME.items():
        path = node_modules / name
        if not path.is_file():
            raise NotFoundError(f"{path}: is missing; {remedy} with --node-modules")
        if file_sha256(path) != sha256:
            raise ConflictError(f"{path}: is not the file of the pinned version; {remedy} with --node-modules")


def check_preparation(model: Path) -> None:
    """Raise ConflictError where the model does not say how sound or a transcript becomes its inputs."""
    metadata = {prop.key: prop.value for prop in onnx.load(model).metadata_props}
    spec = json.loads(metadata.get("spec", "{}"))
    preparation = spec.get("preparation") if isinstance(spec, dict) else None
    if not isinstance(preparation, dict):
        raise ConflictError(
            "the model does not say how its inputs are made, as those of releases before 0.3: train it again"
        )
    if not {"sample_rate", "longest_characters"} & preparation.keys():
        raise ConflictError("a web page tries models of recorded sound and of speech; this one takes other inputs")
