"""The wheel, installed by pipx and by uv with requirements from the package index, runs everything that it offers."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest
from uv import find_uv_bin

from shared.features.pretrained import pretrained_folder
from tests.paths import ROOT
from tests.test_house import MAY_IMPORT, TOOLS, parsed, python_files
from tests.test_requirements import third_party

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("wheel")]


EXTRAS = "gesture,sound,speech,visual,serve"  # as in docs/installing.md
PROGRAMS = {"model-trainer", "gesture-train", "sound-train", "speech-train", "visual-train"}


def _environment(**more: str | Path) -> dict[str, str]:
    """Return the environment without what makes this checkout's packages visible."""
    ours = ("PYTHON", "MODEL_TRAINER", "XDG_", "VIRTUAL_ENV", "COV_", "PIPX_", "UV_TOOL_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, **{name: str(value) for name, value in more.items()}}


@dataclass(frozen=True)
class Installation:
    """A virtual environment that has the wheel, its commands, and a person's home in which nothing was run yet."""

    venv: Path
    programs: Path
    home: Path

    @property
    def environment(self) -> Mapping[str, str]:
        return _environment(HOME=self.home)

    def run(self, *words: str, **more: str) -> str:
        """Run `model-trainer` in the home and return what it printed."""
        done = subprocess.run(
            [self.programs / "model-trainer", *words],
            cwd=self.home,
            env={**self.environment, **more},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def python(self, code: str, *words: str) -> str:
        """Run code in the installation's Python and return what it printed."""
        python = [self.venv / "bin" / "python", "-c", code, *words]
        done = subprocess.run(python, cwd=self.home, env=self.environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def files(self) -> set[Path]:
        """Return everything installed, bytecode aside."""
        return {path for path in self.venv.rglob("*") if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    sources = shutil.ignore_patterns(".*", "*.egg-info", "build", "__pycache__", "tests", "docs", "benchmarks")
    shutil.copytree(ROOT, folder / "sources", ignore=sources)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, folder / "sources"]
    subprocess.run(build, check=True, timeout=300)
    (built,) = folder.glob("*.whl")
    return built


def _install(command: list[str | Path], home: Path, environment: Mapping[str, str]) -> Path:
    """Run an installer, which asks the package index for all requirements of the wheel, and return the new home."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    home.mkdir()
    return home


@pytest.fixture(scope="module")
def with_pipx(wheel: Path) -> Installation:
    """Install the wheel with pipx, which leaves the installing to uv where there is one: with pip it takes longer."""
    folder = wheel.parent / "pipx"
    programs = folder / "bin"
    pipx = [sys.executable, "-m", "pipx", "install", "--python", sys.executable]
    environment = _environment(PIPX_HOME=folder, PIPX_BIN_DIR=programs, PIPX_MAN_DIR=folder / "man")
    home = _install([*pipx, f"{wheel}[{EXTRAS}]"], folder / "home", environment)
    return Installation(folder / "venvs" / "model-trainer", programs, home)


@pytest.fixture(scope="module")
def with_uv(wheel: Path) -> Installation:
    """Install the wheel with uv, which gives an environment no pip of its own accord."""
    folder = wheel.parent / "uv"
    programs = folder / "bin"
    uv = [find_uv_bin(), "tool", "install", "--no-config", "--python", sys.executable]
    environment = _environment(UV_TOOL_DIR=folder / "tools", UV_TOOL_BIN_DIR=programs)
    home = _install([*uv, f"{wheel}[{EXTRAS}]"], folder / "home", environment)
    return Installation(folder / "tools" / "model-trainer", programs, home)


# Prints package -> its folders, null where it is not installed.
PLACES = """
import importlib.util, json, sys
specs = {name: importlib.util.find_spec(name) for name in sys.argv[1:]}
print(json.dumps({name: spec and list(spec.submodule_search_locations or []) for name, spec in specs.items()}))
"""


def test_everything_of_ours_comes_from_the_wheel_and_all_that_it_imports_is_installed(with_uv: Installation) -> None:
    """Late imports, too: only what belongs to extras that were not asked for is missing."""
    ours = sorted({*MAY_IMPORT, *TOOLS})
    files = [path for package in ours for path in python_files(package)]
    theirs = sorted(set().union(*(third_party(parsed(path)) for path in files)))
    folders = json.loads(with_uv.python(PLACES, *ours, *theirs))
    assert all(Path(folders[name][0]).is_relative_to(with_uv.venv) for name in ours)
    assert {name for name, found in folders.items() if found is None} == {"docker", "distributed", "mlflow"}


def test_the_networks_are_listed_and_belong_to_the_users_data(with_uv: Installation) -> None:
    before = with_uv.files()
    listed = [line.split()[:2] for line in with_uv.run("pretrained", "--list").splitlines()]
    assert len(listed) == 10 and {state for _, state in listed} == {"absent"}
    with_uv.run("pretrained", "--only", "speech_embedding")
    made = [
        name
        for name, state in (line.split()[:2] for line in with_uv.run("pretrained", "--list").splitlines())
        if state == "complete"
    ]
    assert made == ["speech_embedding"]
    assert (with_uv.home / ".local" / "share" / "model-trainer" / "pretrained" / "speech_embedding").is_dir()
    assert with_uv.files() == before


@pytest.fixture(scope="module")
def demo(with_pipx: Installation) -> Path:
    """Run the demo and return its folder."""
    before = with_pipx.files()
    shown = with_pipx.run("demo", "demo", MODEL_TRAINER_PRETRAINED=str(pretrained_folder()))
    assert "12 published (12 active, 0 candidates)" in shown
    assert with_pipx.files() == before, "nothing is written next to the code"
    return with_pipx.home / "demo"


@pytest.mark.parametrize("installer", ["with_pipx", "with_uv"])
def test_an_installer_links_every_command(installer: str, request: pytest.FixtureRequest) -> None:
    installation: Installation = request.getfixturevalue(installer)
    assert {path.name for path in installation.programs.iterdir()} == PROGRAMS
    assert installation.run("--version").split()[-1] == version("model-trainer")


def test_the_demo_and_the_monitor_run(with_pipx: Installation, demo: Path) -> None:
    state = json.loads(with_pipx.run("monitor", "demo/runs", "--once", "--json"))
    assert (state["done"], state["failed"], state["finished"]) == (12, 0, True)


def test_a_trainer_a_batch_and_the_service_run(with_uv: Installation, demo: Path) -> None:
    before = with_uv.files()
    networks = str(pretrained_folder())
    data = ["--data", str(demo / "data"), "--demo-data"]
    speech = ["--user", "ana", *data, "--out", "out", "--set", "evaluation.folds=2"]
    entry = json.loads(with_uv.run("train", "speech", *speech, MODEL_TRAINER_PRETRAINED=networks))
    assert entry["status"] == "success" and Path(with_uv.home, entry["bundle"], "model_card.html").is_file()
    assert "speech v1" in with_uv.run("upload", "out")
    batch = ["batch", *data, "--users", "ben", "--modalities", "speech", "--runs", "runs"]
    assert "1 published" in with_uv.run(*batch, MODEL_TRAINER_PRETRAINED=networks)
    mine = with_uv.home / ".local" / "share" / "model-trainer" / "registry" / "users"
    assert (mine / "ana" / "speech" / "v1").is_dir(), "the registry that nobody named is the user's"
    assert (mine / "ben" / "speech" / "v1").is_dir()
    assert _page(with_uv).count("ana") > 0
    assert with_uv.files() == before, "nothing is written next to the code"


def _page(installation: Installation) -> str:
    """Return the first page of the service of the user's own registry."""
    token = installation.run("registry", "token", "add", "reader", "--scope", "read").strip()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    service = subprocess.Popen(
        [installation.programs / "model-trainer", "registry", "serve", "--port", str(port)],
        cwd=installation.home,
        env=installation.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Authorization": f"Bearer {token}"})
        for _ in range(300):
            try:
                with urllib.request.urlopen(request, timeout=30) as response:
                    return str(response.read().decode())
            except ConnectionError:
                pass
            except OSError as error:
                if not isinstance(getattr(error, "reason", None), ConnectionError):
                    raise
            assert service.poll() is None, "the service ended"
            time.sleep(0.1)
        raise AssertionError("the service does not respond")
    finally:
        service.terminate()
        service.wait(timeout=60)


def test_the_files_of_the_web_page_are_installed(with_uv: Installation) -> None:
    expected = {path.name for path in (ROOT / "model_registry" / "web").iterdir()}
    installed = {path.name for path in with_uv.files() if path.parent.parts[-2:] == ("model_registry", "web")}
    assert {"index.html", "model.mjs"} <= expected == installed
