"""A registry read from an object store: the same answers, and nothing unfinished is used."""

from __future__ import annotations

import uuid
from pathlib import Path

import fsspec
import pytest

from model_registry.errors import CorruptError, InvalidNameError, NotFoundError, UnreachableError
from model_registry.mirror import MirrorRegistry
from model_registry.store import Registry
from tests.model_registry.bundles import make_bundle, make_encoder


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The address of a copy, in fsspec's store in memory, of a registry with two users and an encoder."""
    store = Registry(tmp_path / "registry")
    ref = make_encoder(tmp_path)
    for run in ("r1", "r2"):
        store.publish(make_bundle(tmp_path, run=run, encoder_refs=[ref]))
    store.publish(make_bundle(tmp_path, user="_default", run="r1"))
    place = f"/{uuid.uuid4().hex}"
    fsspec.filesystem("memory").put(f"{store.root}/", place, recursive=True)
    return f"memory:/{place}"


def path(url: str, name: str) -> str:
    return f"{url.removeprefix('memory:/')}/{name}"


def test_what_serves_is_copied_with_its_encoder(url: str, tmp_path: Path) -> None:
    found = MirrorRegistry(url).fetch("user123", "gesture", tmp_path / "here")
    assert (found.version, found.fallback) == (2, False)
    assert found.files["model"].read_bytes() == b"model of r2"
    assert (found.encoders["minilm"] / "model.onnx").read_bytes() == b"network"
    assert (
        MirrorRegistry(url).fetch("user123", "gesture", tmp_path / "here", "v1").files["model"].read_bytes()
        == b"model of r1"
    )
    assert MirrorRegistry(url).fetch("newcomer", "gesture", tmp_path / "here").fallback
    assert not list((tmp_path / "here").rglob(".*"))


def test_a_plain_folder_is_read_as_well(url: str, tmp_path: Path) -> None:
    assert MirrorRegistry((tmp_path / "registry").as_uri()).fetch("user123", "gesture", tmp_path / "here").version == 2


@pytest.mark.parametrize(
    "name",
    [
        "users/user123/gesture/v2/manifest.json",
        "users/user123/gesture/v2/registry_entry.json",
        "users/user123/gesture/v2/gesture_model_user123_v2.onnx",
        "users/user123/gesture/active.json",
        "encoders/3009be769fb8f956e8413ee9f3e0836e34968bc40457d0a10c549d2edcf00cc1/tokenizer.json",
    ],
)
def test_a_copy_that_is_damaged_or_unfinished_is_refused(url: str, tmp_path: Path, name: str) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe(path(url, name), memory.cat(path(url, name))[:-9])
    with pytest.raises(CorruptError, match=name.rsplit("/", 1)[1]):
        MirrorRegistry(url).fetch("user123", "gesture", tmp_path / "here")
    memory.rm(path(url, name))
    if name.endswith("active.json"):
        assert MirrorRegistry(url).fetch("user123", "gesture", tmp_path / "here").fallback
    else:
        with pytest.raises(CorruptError, match="not complete"):
            MirrorRegistry(url).fetch("user123", "gesture", tmp_path / "here")


def test_a_version_that_was_withdrawn_is_not_taken_from_an_earlier_copy(url: str, tmp_path: Path) -> None:
    mirror = MirrorRegistry(url)
    assert not mirror.fetch("user123", "gesture", tmp_path / "here").fallback
    fsspec.filesystem("memory").rm(path(url, "users/user123/gesture/active.json"))
    assert mirror.fetch("user123", "gesture", tmp_path / "here").fallback


def test_what_is_not_there_is_said(url: str, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        MirrorRegistry(url).fetch("user123", "sound", tmp_path / "here")
    with pytest.raises(NotFoundError):
        MirrorRegistry(url).fetch("user123", "gesture", tmp_path / "here", 9)
    with pytest.raises(InvalidNameError):
        MirrorRegistry(url).fetch("../user123", "gesture", tmp_path / "here")


def test_a_server_that_does_not_respond_is_said(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = "ftp://127.0.0.1:9/models"
    with pytest.raises(UnreachableError, match=f"{nobody}: cannot be reached: "):
        list(MirrorRegistry(nobody).entries())

    def broken(*_: object, **__: object) -> None:
        raise ConnectionResetError("the connection is gone")

    monkeypatch.setattr(fsspec.filesystem("memory"), "ls", broken)
    with pytest.raises(UnreachableError, match="users: cannot be read: the connection is gone"):
        list(MirrorRegistry(url).entries())
