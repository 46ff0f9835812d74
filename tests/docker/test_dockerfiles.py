"""What holds for Dockerfiles and lock files by themselves, without an engine."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from packaging.requirements import Requirement

from tests.docker.containers import PACKAGES
from tests.paths import ROOT

OWN = "# --- what only this trainer has\n"
DOCKERFILES = [ROOT / folder / "Dockerfile" for folder in (*PACKAGES.values(), "orchestrator")]
LOCKS = {  # lock -> the requirements that it answers
    "gesture": ("shared", "model_registry", "gesture_trainer"),
    "sound": ("shared", "model_registry", "sound_trainer"),
    "speech": ("shared", "model_registry", "speech_context_trainer"),
    "visual": ("shared", "model_registry", "visual_environment_trainer"),
    "orchestrator": ("model_registry", "orchestrator"),
}


def requirements(path: Path) -> list[Requirement]:
    """Return the requirements of a file, pinned or not."""
    lines = [line.partition("#")[0].rstrip(" \\") for line in path.read_text("utf-8").splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith((" ", "-"))]


def pins(path: Path) -> dict[str, str]:
    """Return what a lock file pins for Python 3.11 on Linux, name -> version."""
    here = {"python_version": "3.11", "python_full_version": "3.11.9", "sys_platform": "linux"}
    return {
        each.name: str(each.specifier).removeprefix("==")
        for each in requirements(path)
        if each.marker is None or each.marker.evaluate(here)
    }


def test_the_dockerfiles_begin_alike_so_that_what_trainers_share_is_built_once() -> None:
    texts = [path.read_text("utf-8") for path in DOCKERFILES[:4]]
    begins = {text[text.index("ARG BASE") : text.index(OWN)] for text in texts}
    assert len(begins) == 1


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_a_dockerfile_installs_only_what_is_pinned_and_runs_as_nobody(path: Path) -> None:
    text = path.read_text("utf-8")
    assert "FROM ${BASE}" in text and "ARG BASE=python:3.11-slim-bookworm" in text
    final = text[text.rindex("\nFROM ") :]
    assert "USER 10001:10001" in final and "HEALTHCHECK NONE" in final and "\nRUN " not in final
    assert re.search(r"^ENTRYPOINT \[\"dumb-init\"", final, re.MULTILINE)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert f'image.version="{version}"' in final
    installer = (ROOT / "images" / "install.sh").read_text("utf-8")
    assert "--no-deps --require-hashes --only-binary :all:" in installer
    assert not re.search(r"pip.* install (?!--quiet)", text)


def copied_for_networks(dockerfile: Path) -> dict[str, Path]:
    """Return module -> file of what the stage that makes the networks is given of ours."""
    text = dockerfile.read_text("utf-8").replace("\\\n", " ")
    stage = text[text.index("AS pretrained") :].split("\nFROM ")[0]
    words = [word for line in stage.splitlines() if line.startswith("COPY ") for word in line.split()[1:-1]]
    files = [
        file for word in words for file in ([ROOT / word] if word.endswith(".py") else (ROOT / word).rglob("*.py"))
    ]
    parts = {file: file.relative_to(ROOT).with_suffix("").parts for file in files}
    return {".".join(part for part in names if part != "__init__"): file for file, names in parts.items()}


def imported_at_once(source: Path) -> Iterator[str]:
    """Yield the dotted names that a module imports when it is imported itself."""
    for node in ast.parse(source.read_text("utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", DOCKERFILES[:4], ids=lambda path: path.parent.name)
def test_the_stage_that_makes_networks_has_every_module_that_it_imports(path: Path) -> None:
    copied = copied_for_networks(path)
    assert {"build_tools.__main__", f"{path.parent.name}.preprocessing.pretrained"} <= copied.keys()
    ours = {folder.name for folder in ROOT.iterdir() if (folder / "__init__.py").is_file()}
    missing = [
        f"{module} imports {name}"
        for module, file in copied.items()
        for name in imported_at_once(file)
        if name.split(".")[0] in ours and name not in copied and name.rpartition(".")[0] not in copied.keys() - ours
    ]
    assert not missing


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_with_hashes_what_its_requirements_ask_for_in_the_versions_of_the_whole_lock(lock: str) -> None:
    path = ROOT / "requirements" / f"{lock}.lock"
    found, whole = pins(path), pins(ROOT / "requirements" / "lock.txt")
    assert len(found) > 20
    assert {name: version for name, version in found.items() if name != "dumb-init"} == {
        name: whole[name] for name in found if name != "dumb-init"
    }
    for folder in LOCKS[lock]:
        for each in requirements(ROOT / folder / "requirements.txt"):
            assert each.specifier.contains(found[each.name]), f"{path.name}: {each} (run make lock)"
    text = path.read_text("utf-8")
    assert all("--hash=sha256:" in part for part in re.split(r"\n(?=\S)", text.strip()))


def test_what_trainers_share_is_pinned_alike() -> None:
    shared = pins(ROOT / "requirements" / "shared.lock")
    for lock in ("gesture", "sound", "speech", "visual"):
        found = pins(ROOT / "requirements" / f"{lock}.lock")
        assert shared.items() <= found.items()
        assert len([name for name in found if name.startswith("opencv")]) <= 1
        assert not {"huggingface-hub", "torch"} & set(found)
        assert ("librosa" in found) == (lock == "sound")


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
    return found


def test_the_compose_file_follows_the_compose_specification() -> None:
    place = distribution("check-jsonschema").locate_file("check_jsonschema/builtin_schemas/vendor/compose-spec.json")
    schema = json.loads(Path(str(place)).read_text("utf-8"))
    validator = jsonschema_rs.validator_for(schema)
    assert [error.message for error in validator.iter_errors(compose())] == []
    broken = compose()
    broken["services"]["gesture"]["read-only"] = True
    assert list(validator.iter_errors(broken))


def test_every_service_of_the_compose_file_is_hardened_and_builds_its_image() -> None:
    services = compose()["services"]
    assert {service["image"] for service in services.values()} == {*PACKAGES, "model-trainer"}
    for name, service in services.items():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"] and service["tmpfs"] == ["/tmp"], name
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["pids_limit"] and service["cpus"] and service["mem_limit"] == service["memswap_limit"]
        assert (ROOT / service["build"]["dockerfile"]).is_file()
        if service["image"] in PACKAGES:
            assert service["network_mode"] == "none"
            assert [mount for mount in service["volumes"] if mount.endswith(":ro")] == ["${DATA:-./data}:/data:ro"]
            assert service["build"]["dockerfile"].startswith(PACKAGES[service["image"]])


def test_images_are_given_only_what_they_copy() -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    assert wanted[0] == "*", "everything that is not named is left out"
    assert {"**/__pycache__", "**/*.pyc"} <= set(wanted)
    assert not {"!.git", "!tests", "!.pretrained", "!.venv"} & set(wanted)


def test_what_runs_inside_an_image_needs_only_the_standard_library() -> None:
    scripts = sorted({*(ROOT / "images").glob("*.py")} - {ROOT / "images" / "numba_cache.py"})  # which numba imports
    assert len(scripts) == 2
    for script in scripts:
        tree = ast.parse(script.read_text("utf-8"))
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names


def test_the_shell_scripts_of_the_images_are_whole() -> None:
    scripts = sorted((ROOT / "images").glob("*.sh"))
    assert len(scripts) == 4
    for script in scripts:
        shell = script.read_text("utf-8").split("\n", 1)[0].removeprefix("#!").split()
        assert subprocess.run([*shell, "-n", str(script)], capture_output=True).returncode == 0
        assert os.access(script, os.X_OK), f"{script.name} cannot be executed"
