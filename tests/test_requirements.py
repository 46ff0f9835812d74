"""Each package that the installed code imports is a requirement of the package or extra that imports it."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tests.paths import ROOT
from tests.test_house import MAY_IMPORT, TOOLS, imports, parsed, python_files

BASE = (
    "shared/requirements.txt",
    "model_registry/requirements.txt",
    "orchestrator/requirements.txt",
    "build_tools/requirements.txt",
)
EXTRAS = {
    "gesture": "gesture_trainer/requirements.txt",
    "sound": "sound_trainer/requirements.txt",
    "speech": "speech_context_trainer/requirements.txt",
    "visual": "visual_environment_trainer/requirements.txt",
    "serve": "model_registry/requirements-serve.txt",
    "mlflow": "model_registry/requirements-mlflow.txt",
    "dask": "orchestrator/requirements-dask.txt",
    "docker": "orchestrator/requirements-docker.txt",
}
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
# Imported by what uses it, and required by a requirement of ours that cannot do without it.
BROUGHT_ALONG = {
    "markupsafe": "jinja2",
    "starlette": "fastapi",
    "anyio": "fastapi",
    "h11": "uvicorn",
    "google": "onnx",
    "pydantic_core": "pydantic",
    "requests": "docker",
    "dask": "distributed",
}


# The extras that the code of a package may need, besides those packages that are always there.
MAY_NEED = {
    "model_registry": ("serve", "mlflow"),
    "shared": ("gesture", "sound", "speech", "visual", "serve"),
    "orchestrator": ("dask", "docker"),
    "model_trainer": (),
    "gesture_trainer": ("gesture",),
    "sound_trainer": ("sound",),
    "speech_context_trainer": ("speech",),
    "visual_environment_trainer": ("visual",),
    "build_tools": ("gesture", "sound", "speech", "visual"),
    "demo": ("gesture", "sound", "visual"),
}
# Modules that are imported only where their extra is: what imports them says which one is missing.
OF_AN_EXTRA = {
    "model_registry.service": ("serve",),
    "model_registry.client": ("serve",),
    "model_registry.copying": ("serve",),
    "model_registry.mirror": ("serve",),
    "orchestrator.backends.containers": ("docker",),
    "orchestrator.backends.dask_cluster": ("dask",),
    "orchestrator.backends.dask_job": ("dask",),
    "shared.data.media": ("gesture", "sound", "visual"),
}


def requirements(name: str) -> list[Requirement]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / name).read_text("utf-8").splitlines())
    return [Requirement(line) for line in lines if line]


def distributions(*files: str) -> set[str]:
    return {canonicalize_name(each.name) for file in files for each in requirements(file)}


def third_party(tree: ast.AST) -> set[str]:
    """Return the top-level packages of others that a tree imports, types aside."""
    assert isinstance(tree, ast.Module)
    ours = {*MAY_IMPORT, *TOOLS, ""}
    names = {name.split(".")[0] for _, name in imports(tree)}
    return names - ours - sys.stdlib_module_names


def at_once(tree: ast.Module) -> ast.Module:
    """Return what of a module is executed when it is imported: no function, and nothing for type checkers."""
    kept = [node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.If)]
    return ast.Module(kept, [])


provided_by = cache(packages_distributions)  # it reads the metadata of everything installed


def undeclared(names: set[str], declared: set[str]) -> set[str]:
    """Return the packages that no declared distribution provides."""
    missing = set()
    for name in names:
        known = {canonicalize_name(each) for each in provided_by().get(name, [name])}
        if BROUGHT_ALONG.get(name) not in declared and not known & declared:
            missing.add(name)
    return missing


def needed_by(package: str) -> Iterator[tuple[str, set[str]]]:
    """Yield what modules of a package import without a requirement for it, with the module."""
    base = distributions(*BASE)
    extra = distributions(*(EXTRAS[name] for name in MAY_NEED[package]))
    alone = extra if (package.endswith("_trainer") and package != "model_trainer") or package in TOOLS else set()
    for path in python_files(package):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        tree = parsed(path)
        extras = next((names for place, names in OF_AN_EXTRA.items() if module.startswith(place)), ())
        own = alone | distributions(*(EXTRAS[name] for name in extras))
        yield module, undeclared(third_party(tree), base | extra) | undeclared(third_party(at_once(tree)), base | own)


def test_the_extras_are_those_of_the_distribution() -> None:
    dynamic = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["dynamic"]
    assert dynamic["dependencies"]["file"] == list(BASE)
    extras = {**EXTRAS, "dev": "requirements/dev.txt"}
    assert dynamic["optional-dependencies"] == {name: {"file": [file]} for name, file in extras.items()}


@pytest.mark.slow
@pytest.mark.parametrize("package", MAY_NEED)
def test_every_import_is_a_requirement(package: str) -> None:
    assert set(MAY_NEED) == {*MAY_IMPORT, *TOOLS}
    assert [(module, missing) for module, missing in needed_by(package) if missing] == []


def test_what_is_brought_along_is_a_requirement_of_what_brings_it() -> None:
    for name, bringer in BROUGHT_ALONG.items():
        brought = {canonicalize_name(Requirement(each).name) for each in requires(bringer) or ()}
        assert {canonicalize_name(each) for each in provided_by()[name]} & brought, f"{bringer} does not bring {name}"


def test_a_missing_requirement_is_noticed() -> None:
    late = ast.parse("def f():\n    import scipy.stats, json, shared.errors")
    assert undeclared(third_party(late), {"numpy"}) == {"scipy"} and third_party(at_once(late)) == set()
    assert undeclared({"cv2", "yaml"}, {"opencv-python-headless", "pyyaml"}) == set()


def pins(python: str, machine: str) -> dict[str, list[str]]:
    """Return which versions the lock pins on Linux."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "platform_machine": machine,
        "sys_platform": "linux",
        "platform_system": "Linux",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    found: dict[str, list[str]] = {}
    for line in re.findall(r"^(\S+==[^\\\n]+)", (ROOT / "requirements" / "lock.txt").read_text("utf-8"), re.MULTILINE):
        pin = Requirement(line.strip())
        if pin.marker is None or pin.marker.evaluate(environment):
            found.setdefault(canonicalize_name(pin.name), []).append(str(pin.specifier).removeprefix("=="))
    return found


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_pins_every_requirement_once_for_each_python_and_machine(python: str, machine: str) -> None:
    (requires_python,) = re.findall(r'^requires-python = "(.+)"', (ROOT / "pyproject.toml").read_text("utf-8"), re.M)
    assert SpecifierSet(requires_python).contains(f"{python}.0")
    pinned = pins(python, machine)
    assert len(pinned) > 100 and all(len(versions) == 1 for versions in pinned.values())
    for file in (*BASE, *EXTRAS.values(), "requirements/dev.txt"):
        for each in requirements(file):
            (version,) = pinned[canonicalize_name(each.name)]
            assert each.marker is None and each.specifier.contains(version), f"{file}: {each}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("av", ["import", "recordings", "--data", "data", "--modality", "sound", "--consent"]),
        ("cv2", ["demo", "demo"]),
        ("fsspec", ["erase", "ana", "--reason", "gone", "--yes", "--mirror", "memory://models"]),
        ("librosa", ["train", "sound", "--user", "ana", "--data", "data", "--out", "out"]),
        ("uvicorn", ["registry", "serve"]),
    ],
)
def test_a_command_whose_extra_is_missing_names_the_package(tmp_path: Path, missing: str, words: list[str]) -> None:
    (tmp_path / "recordings").mkdir()
    (tmp_path / "data").mkdir()
    code = f"import sys; sys.modules[{missing!r}] = None; sys.argv[1:] = {words!r}; "
    code += "from shared.commands.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "XDG_DATA_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert re.search(rf"\b{missing}(\.\w+)?\b.*(missing|not installed)", done.stderr.splitlines()[0]), done.stderr
    assert [path.name for path in tmp_path.iterdir()] in (["recordings", "data"], ["data", "recordings"])
