"""The images by themselves: what they hold, how they train and publish, and how they are killed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.real_data import IMPORTS
from model_registry.storage.recovery import examine
from model_registry.store import Registry
from tests.docker.containers import CALLER, COMMANDS, IMAGES, PACKAGES, Ended, Engine, model_hash, tree_hash
from tests.paths import ROOT

pytestmark = pytest.mark.docker
SIZES = {
    "gesture-trainer": 800,
    "sound-trainer": 650,
    "speech-trainer": 570,
    "visual-trainer": 650,
    "model-trainer": 220,
}
REAL = {  # image -> the import, the user, and how many samples
    "gesture-trainer": ("signs", "signer", 300),
    "sound-trainer": ("digits", "george", 200),
    "speech-trainer": ("contexts", "talker", 300),
    "visual-trainer": ("houses", "home", 80),
}


@dataclass(frozen=True)
class Trained:
    """One image's run on real data: mounted read-only, published to a registry that is mounted as well."""

    image: str
    user: str
    ended: Ended
    entry: dict[str, Any]
    registry: Path
    out: Path
    data: Path
    unchanged: bool


@pytest.fixture(scope="module", params=PACKAGES)
def trained(
    request: pytest.FixtureRequest, engine: Engine, real_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    image = request.param
    name, user, limit = REAL[image]
    root = tmp_path_factory.mktemp(image)
    data, out, registry = root / "data", root / "out", root / "registry"
    out.mkdir()
    registry.mkdir()
    source, *words = (word.replace("{source}", str(real_data)) for word in IMPORTS[name])
    words = [word for word in words if not word.startswith("--limit")]
    command = [sys.executable, "-m", "shared", "import", str(real_data / source), f"--data={data}", "--consent"]
    subprocess.run([*command, *words, f"--limit={limit}"], check=True, capture_output=True, cwd=ROOT)
    before = tree_hash(data)
    mounts = {data: "/data:ro", out: "/out", registry: "/registry"}
    ended = engine.run(image, ["--user", user, "--registry", "/registry"], mounts=mounts)
    entry = json.loads(ended.stdout.strip().rsplit("\n", 1)[-1])
    return Trained(image, user, ended, entry, registry, out, data, tree_hash(data) == before)


@pytest.mark.realdata
def test_an_image_trains_on_real_data_and_publishes_without_network_rights_or_a_writable_root(trained: Trained) -> None:
    assert trained.ended.code == 0, trained.ended.stderr
    assert trained.entry["status"] == "success" and trained.entry["sample_count"] >= 80
    store = Registry(trained.registry)
    assert [e.version for e in store.entries()] == [1]
    assert not examine(trained.registry)
    assert trained.unchanged, "the data were changed"


@pytest.mark.realdata
def test_what_a_container_writes_belongs_to_the_caller(trained: Trained) -> None:
    written = [path for top in (trained.out, trained.registry) for path in top.rglob("*")]
    assert len(written) > 10
    assert {(path.stat().st_uid, path.stat().st_gid) for path in written} == {(os.getuid(), os.getgid())}


@pytest.mark.realdata
def test_an_image_makes_the_same_model_as_a_process_here(trained: Trained, tmp_path: Path) -> None:
    command = [sys.executable, "-m", f"{PACKAGES[trained.image]}.train", "--user", trained.user]
    words = ["--data", str(trained.data), "--out", str(tmp_path), "--no-cache"]
    done = subprocess.run([*command, *words], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert model_hash(tmp_path) == model_hash(trained.out)
    here = json.loads(done.stdout)
    same = ("data_fingerprint", "job_fingerprint", "feature_spec_id", "metrics", "labels")
    assert {key: here[key] for key in same} == {key: trained.entry[key] for key in same}


def test_the_plain_command_needs_no_options_but_the_user_where_all_may_read_the_data(
    engine: Engine, demo: Path, out: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(demo, tmp_path / "data")
    subprocess.run(["chmod", "-R", "a+rX", data], check=True)
    mounts = {data: "/data:ro", out: "/out"}
    plain = {"read_only": False, "cap_drop": [], "security_opt": [], "tmpfs": {}, "network_mode": "bridge"}
    ended = engine.run("gesture-trainer", ["--user", "ana", "--demo-data"], mounts=mounts, user=None, **plain)
    assert ended.code == 0, ended.stderr
    (bundle,) = out.glob("gesture_ana_*")
    assert (bundle.stat().st_uid, bundle.stat().st_gid) == (10001, 10001)


def test_a_container_trains_one_user_for_each_line_of_its_input(engine: Engine, demo: Path, out: Path) -> None:
    jobs = "".join(json.dumps({"args": ["--user", user, "--demo-data"]}) + "\n" for user in ("ana", "nobody", "ben"))
    command = ["docker", "run", "--rm", "-i", "--network=none", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL"]
    command += [f"--user={CALLER}", f"--volume={demo}:/data:ro", f"--volume={out}:/out", "gesture-trainer", "--worker"]
    done = subprocess.run(command, input=jobs, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(a["user_id"], a["exit_code"]) for a in answers] == [("ana", 0), ("nobody", 3), ("ben", 0)]
    assert len(list(out.glob("gesture_*"))) == 2


def test_two_containers_that_publish_the_same_user_at_once_make_two_versions(
    engine: Engine, demo: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "registry").mkdir()
    mounts = {demo: "/data:ro", tmp_path / "out": "/out", tmp_path / "registry": "/registry"}
    words = ["--user", "ana", "--demo-data", "--registry", "/registry"]
    running = [engine.start("gesture-trainer", words, mounts=mounts) for _ in range(2)]
    ended = [engine.ended(container) for container in running]
    assert [each.code for each in ended] == [0, 0], [each.stderr for each in ended]
    store = Registry(tmp_path / "registry")
    assert sorted(entry.version for entry in store.entries()) == [1, 2]
    assert not examine(tmp_path / "registry")


def test_a_container_without_enough_memory_is_killed_and_leaves_no_bundle(
    engine: Engine, demo: Path, out: Path
) -> None:
    mounts = {demo: "/data:ro", out: "/out"}
    ended = engine.run("visual-trainer", ["--user", "ana", "--demo-data"], mounts=mounts, memory="100m")
    assert ended.code == 137 and ended.out_of_memory
    assert not list(out.rglob("bundle.json"))


def _started_training(engine: Engine, demo: Path, out: Path) -> Any:
    """Return a container in the middle of its work, with a run id of its own."""
    words = ["--user", "ana", "--demo-data", "--run-id", "run-1"]
    container = engine.start("visual-trainer", words, mounts={demo: "/data:ro", out: "/out"})
    for _ in range(1800):
        if b'"stage": "encode"' in container.logs(stdout=False):
            return container
        time.sleep(0.1)
    raise AssertionError(container.logs())


def test_sigterm_ends_a_container_and_leaves_nothing_half_written(engine: Engine, demo: Path, out: Path) -> None:
    container = _started_training(engine, demo, out)
    container.kill("SIGTERM")
    assert engine.ended(container).code == 143
    assert not list(out.iterdir())


def test_sigterm_ends_a_container_that_is_still_starting(engine: Engine, demo: Path, out: Path) -> None:
    words = ["--user", "ana", "--demo-data"]  # seconds of work, so that it cannot end before the signal comes
    container = engine.start("visual-trainer", words, mounts={demo: "/data:ro", out: "/out"})
    container.kill("SIGTERM")
    assert engine.ended(container).code == 143


def test_after_a_kill_the_same_run_starts_afresh(engine: Engine, demo: Path, out: Path) -> None:
    container = _started_training(engine, demo, out)
    container.kill("SIGKILL")
    assert engine.ended(container).code == 137
    assert not list(out.rglob("bundle.json"))
    words = ["--user", "ana", "--demo-data", "--run-id", "run-1"]
    ended = engine.run("visual-trainer", words, mounts={demo: "/data:ro", out: "/out"})
    assert ended.code == 0, ended.stderr
    assert (out / "visual_environment_ana_run-1" / "bundle.json").is_file()


# --- what is in an image

_CONTENTS = """
import json, os, stat, sys
from importlib.metadata import distributions
paths, setuid, unreadable = [], [], []
for top, folders, files in os.walk("/"):
    if top == "/":
        folders[:] = [f for f in folders if f not in ("proc", "sys", "dev", "tmp")]
    for name in (*folders, *files):
        path = os.path.join(top, name)
        mode = os.lstat(path).st_mode
        paths.append(path + ("/" if stat.S_ISDIR(mode) else ""))
        if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID): setuid.append(path)
        if path.startswith(("/app", "/opt")) and not mode & stat.S_IROTH: unreadable.append(path)
found = sorted(d.metadata["Name"].lower().replace("_", "-") for d in distributions())
print(json.dumps({"paths": paths, "setuid": setuid, "unreadable": unreadable, "packages": found}))
"""
TOOLS = {
    "gcc",
    "cc",
    "c++",
    "ld",
    "as",
    "make",
    "strip",
    "pip",
    "pip3",
    "apt",
    "apt-get",
    "dpkg",
    "perl",
    "bash",
    "curl",
}


@pytest.fixture(scope="module", params=IMAGES)
def contents(request: pytest.FixtureRequest, engine: Engine) -> tuple[str, dict[str, list[str]]]:
    found: dict[str, list[str]] = json.loads(engine.python(request.param, _CONTENTS))
    assert len(found["paths"]) > 3000
    return request.param, found


def test_an_image_holds_no_tools_caches_or_tests(contents: tuple[str, dict[str, list[str]]]) -> None:
    _, found = contents
    names = {path.rsplit("/", 1)[-1] for path in found["paths"] if not path.endswith("/")}
    assert not names & TOOLS
    kept = ("/var/cache/", "/src", "/images")
    assert not [path for path in found["paths"] if path.startswith(kept) or "/pip/" in path]
    assert not [path for path in found["paths"] if path.endswith(("/tests/", "/test/", "/conftest.py"))]
    assert not {name for name in names if name.startswith("test_") and name.endswith(".py")}
    assert not [path for path in found["paths"] if path.endswith((".c", ".h", ".pyx", ".a"))]
    assert not found["setuid"] and not found["unreadable"]


def test_an_image_holds_its_lock_file_and_nothing_of_other_trainers(
    contents: tuple[str, dict[str, list[str]]],
) -> None:
    image, found = contents
    lock = {"model-trainer": "orchestrator"}.get(image, image.removesuffix("-trainer"))
    assert set(found["packages"]) == pinned_here(ROOT / "requirements" / f"{lock}.lock") | {"model-trainer"}
    code = {path.split("/")[2] for path in found["paths"] if path.startswith("/app/")}
    ours = {name for name in code if name.endswith(("_trainer", "_registry")) or name in ("shared", "orchestrator")}
    assert ours == {"shared", "model_registry", PACKAGES.get(image, "orchestrator")}
    commands = {path.rsplit("/", 1)[-1] for path in found["paths"] if path.startswith("/app/bin/") and path[-1] != "/"}
    assert commands == {"model-trainer", *([COMMANDS[image]] if image in COMMANDS else [])}


def pinned_here(lock: Path) -> set[str]:
    """Return the names that a lock file pins for Python 3.11 on Linux."""
    from packaging.requirements import Requirement

    lines = [line.rstrip(" \\") for line in lock.read_text("utf-8").splitlines() if "==" in line]
    wanted = [Requirement(line) for line in lines]
    here = {"python_version": "3.11", "python_full_version": "3.11.2", "sys_platform": "linux"}
    return {each.name.lower() for each in wanted if each.marker is None or each.marker.evaluate(here)}


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_is_small_and_says_what_it_is(engine: Engine, image: str) -> None:
    attributes = engine.client.images.get(image).attrs
    assert attributes["Size"] < SIZES[image] * 1e6
    config = attributes["Config"]
    assert config["User"] == "10001:10001"
    assert config["Healthcheck"] == {"Test": ["NONE"]}
    labels = config["Labels"]
    assert labels["org.opencontainers.image.title"] == image
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert all(labels[f"org.opencontainers.image.{name}"] for name in ("description", "version"))


def test_a_container_imports_librosa_without_compiling_it(engine: Engine) -> None:
    code = "import os, sound_trainer, librosa\nlibrosa.load, librosa.feature.rms, librosa.effects.trim\n"
    code += (
        "print([name for _, _, files in os.walk('/tmp') for name in files])"  # where numba would put what it compiles
    )
    assert engine.python("sound-trainer", code).strip() == "[]"


def test_trainers_share_their_largest_layers(engine: Engine) -> None:
    layers = [engine.client.images.get(image).attrs["RootFS"]["Layers"] for image in PACKAGES]
    assert len({tuple(each[:2]) for each in layers}) == 1


def test_the_bundled_networks_are_whole_and_no_others(engine: Engine) -> None:
    code = "import json; from shared.features.pretrained import *; p = pretrained_folder()\n"
    code += "print(json.dumps([n.name for n in declared() if is_complete(n, p)]))"
    found = {image: json.loads(engine.python(image, code)) for image in PACKAGES}
    assert found == {
        "gesture-trainer": ["hand_landmarker", "pose_landmarker"],
        "sound-trainer": ["speech_embedding"],
        "speech-trainer": ["use", "minilm"],
        "visual-trainer": ["lite0_int8", "lite2_int8"],
    }


def test_the_bill_of_materials_lists_packages_and_networks_with_their_licences(engine: Engine) -> None:
    bill = json.loads(engine.python("speech-trainer", (ROOT / "images" / "sbom.py").read_text("utf-8")))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    found = {(each["type"], each["name"]): each for each in bill["components"]}
    names = {each["purl"].split("/")[1].split("@")[0] for each in found.values() if "pkg:pypi" in each.get("purl", "")}
    assert names == pinned_here(ROOT / "requirements" / "speech.lock") | {"model-trainer"}
    for network in ("use", "minilm"):
        described = found["machine-learning-model", network]
        assert described["licenses"] == [{"expression": "Apache-2.0"}]
        assert len(described["hashes"][0]["content"]) == 64
    assert "libc6" in {name for _, name in found} and "apt" not in {name for _, name in found}
    assert all(each["licenses"] for each in found.values())
