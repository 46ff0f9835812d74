"""The wheel, installed in a bare environment elsewhere, runs demo, trainers, batch, monitor and service."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.features.pretrained import pretrained_folder
from tests.paths import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("wheel")]


@dataclass(frozen=True)
class Installation:
    """A virtual environment that has the wheel, and a person's home in which nothing was run yet."""

    venv: Path
    home: Path

    @property
    def environment(self) -> Mapping[str, str]:
        ours = ("PYTHON", "MODEL_TRAINER", "XDG_", "VIRTUAL_ENV", "COV_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return {**kept, "HOME": str(self.home)}

    def run(self, *words: str, **more: str) -> str:
        """Run `model-trainer` in the home and return what it printed."""
        done = subprocess.run(
            [self.venv / "bin" / "model-trainer", *words],
            cwd=self.home,
            env={**self.environment, **more},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def files(self) -> set[Path]:
        """Return everything installed, bytecode aside."""
        return {path for path in self.venv.rglob("*") if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """Build the wheel from a copy of the sources, and install it next to this environment's dependencies."""
    folder = tmp_path_factory.mktemp("wheel")
    sources = shutil.ignore_patterns(".*", "*.egg-info", "build", "__pycache__", "tests", "docs", "benchmarks")
    shutil.copytree(ROOT, folder / "sources", ignore=sources)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, folder / "sources"]
    subprocess.run(build, check=True, timeout=300)
    (wheel,) = folder.glob("*.whl")
    venv, home = folder / "venv", folder / "home"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True, timeout=120)
    install = [*pip, "--python", venv / "bin" / "python", "install", "--no-deps", wheel]
    subprocess.run(install, check=True, timeout=300)
    (packages,) = venv.glob("lib/python*/site-packages")
    # A folder in a .pth is searched for packages; its own .pth files, such as the checkout's, are not read.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    home.mkdir()
    return Installation(venv, home)


def test_everything_of_ours_is_imported_from_the_wheel(installation: Installation) -> None:
    code = "import shared, demo, orchestrator, model_registry, build_tools, model_trainer.estimators as python_api; "
    code += "print(shared.__file__, demo.__file__, python_api.__file__)"
    python = [installation.venv / "bin" / "python", "-c", code]
    found = subprocess.run(python, cwd=installation.home, env=installation.environment, capture_output=True, text=True)
    assert len(found.stdout.split()) == 3, found.stderr
    assert all(path.startswith(str(installation.venv)) for path in found.stdout.split())


def test_the_networks_are_listed_and_belong_to_the_users_data(installation: Installation) -> None:
    before = installation.files()
    listed = installation.run("pretrained", "--list").splitlines()
    assert len(listed) == 10 and {line.split()[1] for line in listed} == {"absent"}
    made = installation.home / ".local" / "share" / "model-trainer" / "pretrained" / "lite0"
    if (pretrained_folder() / "lite0" / "encoder.json").is_file():
        shutil.copytree(pretrained_folder() / "lite0", made)
        assert ["lite0", "complete"] in [
            line.split()[:2] for line in installation.run("pretrained", "--list").splitlines()
        ]
        shutil.rmtree(made)
    assert installation.files() == before


def test_the_demo_the_trainers_the_monitor_and_the_service_run(installation: Installation) -> None:
    before = installation.files()
    networks = str(pretrained_folder())
    shown = installation.run("demo", "demo", MODEL_TRAINER_PRETRAINED=networks)
    assert "12 published (12 active, 0 candidates)" in shown
    state = json.loads(installation.run("monitor", "demo/runs", "--once", "--json"))
    assert (state["done"], state["failed"], state["finished"]) == (12, 0, True)

    speech = ["--user", "ana", "--data", "demo/data", "--out", "out", "--demo-data", "--set", "evaluation.folds=2"]
    entry = json.loads(installation.run("train", "speech", *speech, MODEL_TRAINER_PRETRAINED=networks))
    assert entry["status"] == "success" and Path(installation.home, entry["bundle"], "model_card.html").is_file()
    assert "speech v1" in installation.run("upload", "out")
    mine = installation.home / ".local" / "share" / "model-trainer" / "registry"
    assert (mine / "users" / "ana" / "speech" / "v1").is_dir(), "the registry that nobody named is the user's"
    assert _page(installation).count("ana") > 0
    assert installation.files() == before, "nothing is written next to the code"


def _page(installation: Installation) -> str:
    """Return the first page of the service of the user's own registry."""
    token = installation.run("registry", "token", "add", "reader", "--scope", "read").strip()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    service = subprocess.Popen(
        [installation.venv / "bin" / "model-trainer", "registry", "serve", "--port", str(port)],
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


def test_the_files_of_the_web_page_are_installed(installation: Installation) -> None:
    expected = {path.name for path in (ROOT / "model_registry" / "web").iterdir()}
    installed = {path.name for path in installation.files() if path.parent.parts[-2:] == ("model_registry", "web")}
    assert {"index.html", "model.mjs"} <= expected == installed
