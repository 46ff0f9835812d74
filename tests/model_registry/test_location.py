"""A registry is the same from a folder, a service and a mirror: the library's operations and the commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from model_registry.client import RemoteRegistry
from model_registry.commands.main import registry as command
from model_registry.errors import ConflictError, CorruptError, NoRegistryError, NotFoundError
from model_registry.location import ReadableRegistry, open_registry, open_writable_registry
from model_registry.mirror import MirrorRegistry
from model_registry.storage.resolution import ResolvedVersion
from model_registry.storage.tokens import add_token, tokens_file
from model_registry.store import Registry
from tests.model_registry.bundles import all_bytes, make_bundle, make_encoder
from tests.model_registry.service.serving import served

KINDS = ("folder", "service", "mirror")
SLOT = ("user123", "gesture")


@pytest.fixture
def store(tmp_path: Path) -> Registry:
    """Two versions with an encoder and a candidate of a user, one of little data of another, and pooled ones."""
    store = Registry(tmp_path / "registry")
    ref = make_encoder(tmp_path)
    log = {"timeline": [{"session_id": "s1", "samples": 5}]}
    store.publish(make_bundle(tmp_path, run="r1", encoder_refs=[ref], log=log))
    log = {"timeline": [{"session_id": "s1", "samples": 5}, {"session_id": "s2", "samples": 7}]}
    store.publish(make_bundle(tmp_path, run="r2", encoder_refs=[ref], log=log, labels=["drink", "go"]))
    store.publish(make_bundle(tmp_path, run="r3"), promote=False)
    store.publish(make_bundle(tmp_path, user="little", run="r1", verdict="insufficient data"))
    store.publish(make_bundle(tmp_path, user="_default", run="r1", encoder_refs=[ref]))
    return store


@pytest.fixture
def addresses(store: Registry, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    monkeypatch.setenv("MODEL_TRAINER_TOKEN", add_token(tokens_file(store.root), "all", ("admin",)))
    with served(store) as url:
        yield {"folder": str(store.root), "service": url, "mirror": store.root.as_uri()}


def test_each_address_opens_its_kind() -> None:
    assert isinstance(open_registry("models"), Registry) and open_registry("models").address == str(
        Path.cwd() / "models"
    )
    assert isinstance(open_writable_registry("https://registry.example/"), RemoteRegistry)
    assert open_registry("https://registry.example/").address == "https://registry.example"
    assert isinstance(open_registry("s3://bucket/models"), MirrorRegistry)
    for address in ("s3://bucket/models", "file:///models", "http://"):
        with pytest.raises(NoRegistryError) as caught:
            open_writable_registry(address)
        assert caught.value.exit_code == 2


def content(version: ResolvedVersion) -> dict[str, Any]:
    """What a version is, wherever its files lie."""
    return {
        "facts": (
            version.user,
            version.entry,
            version.version,
            version.modality,
            version.fallback,
            dict(version.stored),
        ),
        "files": {role: (path.name, path.read_bytes()) for role, path in version.files.items()},
        "encoders": {name: all_bytes(folder) for name, folder in version.encoders.items()},
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("user", "version"), [("user123", None), ("user123", "v1"), ("user123", 3), ("newcomer", None), ("little", None)]
)
def test_a_version_is_the_same_from_everywhere(
    store: Registry, addresses: dict[str, str], tmp_path: Path, kind: str, user: str, version: str | int | None
) -> None:
    expected = content(store.resolve(user, "gesture", version))
    registry = open_registry(addresses[kind])
    with registry.open_version(user, "gesture", version) as opened:
        assert content(opened) == expected
    assert opened.folder.exists() == (kind == "folder"), "what was downloaded is removed again"
    fetched = registry.fetch(user, "gesture", tmp_path / "fetched", version)
    assert content(fetched) == expected and fetched.folder.is_relative_to(tmp_path / "fetched")
    assert content(registry.fetch(user, "gesture", tmp_path / "fetched", version)) == expected
    assert not [path for path in (tmp_path / "fetched").rglob("*") if path.name.startswith(".")]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_what_can_be_read_is_the_same_from_everywhere(
    store: Registry, addresses: dict[str, str], tmp_path: Path, kind: str
) -> None:
    registry = open_registry(addresses[kind])
    assert list(registry.entries()) == list(store.entries()) and len(list(store.entries())) == 5
    for filters in ({"user": "user123"}, {"status": "active"}, {"verdict": "good"}, {"modality": "audio"}):
        assert list(registry.entries(**filters)) == list(store.entries(**filters))  # type: ignore[arg-type]
    assert registry.show(*SLOT, "v2") == store.show(*SLOT, "v2")
    assert registry.diff(*SLOT, 1, 2) == store.diff(*SLOT, 1, 2)
    assert registry.diff(*SLOT, 1, 2).sessions == {"s2": (0, 7)}
    for version in (None, 1, "v3"):
        assert registry.training_log(*SLOT, version) == store.training_log(*SLOT, version)
    with pytest.raises(NotFoundError):
        registry.training_log("newcomer", "gesture")
    assert list(registry.verify_all(user="user123")) == [(f"user123/gesture v{n}", None) for n in (1, 2, 3)]
    assert list(registry.verify_all(user="user123", modality="gesture", version="v2")) == [("user123/gesture v2", None)]
    for name, where in (("here", store), ("there", registry)):
        where.export(*SLOT, tmp_path / f"{name}.tar", form="tar")  # type: ignore[attr-defined]
    assert (tmp_path / "here.tar").read_bytes() == (tmp_path / "there.tar").read_bytes()
    for act in (
        lambda: registry.show(*SLOT, 9),
        lambda: registry.export(*SLOT, tmp_path / "no.tar", version=9, form="tar"),
        lambda: registry.fetch("user123", "sound", tmp_path / "no"),
        lambda: registry.fetch(*SLOT, tmp_path / "no", 9),
    ):
        with pytest.raises(NotFoundError):
            act()
    assert not (tmp_path / "no.tar").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_version_is_refused_by_name_from_everywhere(
    store: Registry, addresses: dict[str, str], tmp_path: Path, kind: str
) -> None:
    model = store.resolve(*SLOT, 2).files["model"]
    model.write_bytes(b"model of rX")
    registry: ReadableRegistry = open_registry(addresses[kind])
    for act in (
        lambda: registry.open_version(*SLOT).__enter__(),
        lambda: registry.fetch(*SLOT, tmp_path / "into"),
        lambda: registry.export(*SLOT, tmp_path / "out.tar", form="tar"),
    ):
        with pytest.raises(CorruptError, match=model.name):
            act()
    faults = dict(registry.verify_all(user="user123"))
    assert [name for name, fault in faults.items() if fault] == ["user123/gesture v2"]
    assert not (tmp_path / "out.tar").exists() and not list((tmp_path / "into").rglob("*.onnx"))


@pytest.mark.slow
def test_a_service_changes_what_a_folder_would(store: Registry, addresses: dict[str, str], tmp_path: Path) -> None:
    registry = open_writable_registry(addresses["service"])
    registry.check_writable()
    registry.export(*SLOT, tmp_path / "v1.tar", version=1, form="tar")
    assert registry.promote(*SLOT, 3) == 2 and registry.rollback(*SLOT, "worse") == (3, 2)
    with pytest.raises(ConflictError, match="is active"):
        registry.archive(*SLOT, 2)
    registry.archive(*SLOT, 1, "old")
    planned = registry.gc(0, dry_run=True)
    assert planned.versions == ("user123/gesture v1", "user123/gesture v3") and planned.size > 0
    assert registry.gc(1).versions == ("user123/gesture v1",)
    assert [entry.version for entry in store.entries(user="user123")] == [2, 3]
    again = registry.restore(tmp_path / "v1.tar")
    assert (again.version, again.created, again.entry.status) == (4, True, "candidate")
    assert not registry.restore(tmp_path / "v1.tar").created
    assert registry.restore(tmp_path / "v1.tar", promote=True).entry.status == "active"
    (store.root / "model_registry.jsonl").write_bytes(b"")
    assert registry.reindex() and not registry.reindex()
    (store.root / "users/ghost/sound").mkdir(parents=True)
    assert all(finding.mended for finding in registry.doctor()) and registry.doctor() == []
    assert registry.erase("user123", "asked for").versions == 3
    assert registry.erase("user123", "asked for").versions == 0, "repeating it changes nothing"


def test_what_a_service_holds_already_is_not_restored_again(
    store: Registry, addresses: dict[str, str], tmp_path: Path
) -> None:
    registry = open_writable_registry(addresses["service"])
    registry.export(*SLOT, tmp_path / "v2.tar", form="tar")
    before = all_bytes(store.root)
    done = registry.restore(tmp_path / "v2.tar")
    assert (done.version, done.created, done.entry.status) == (2, False, "active")
    assert all_bytes(store.root) == before


COMMANDS: dict[str, list[str]] = {
    "list": ["list", "--json"],
    "show": ["show", *SLOT, "v2", "--json"],
    "diff": ["diff", *SLOT, "v1", "v2"],
    "verify": ["verify"],
    "verify one": ["verify", *SLOT, "v1", "--json"],
    "export": ["export", *SLOT, "out.tar"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_print_the_same_from_everywhere(
    store: Registry, addresses: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    printed = set()
    for address in addresses.values():
        result = CliRunner().invoke(command, [*COMMANDS[name], "--registry", address])
        assert result.exit_code == 0, result.output
        printed.add(result.stdout.replace(address, "<registry>"))
    assert len(printed) == 1


@pytest.mark.slow
def test_resolve_copies_the_files_where_the_registry_is_elsewhere(
    store: Registry, addresses: dict[str, str], tmp_path: Path
) -> None:
    for kind, address in addresses.items():
        words = ["resolve", *SLOT, "--registry", address, "--json"]
        plain = CliRunner().invoke(command, words)
        assert plain.exit_code == (0 if kind == "folder" else 2), plain.output
        assert kind == "folder" or "--into" in plain.stderr
        copied = CliRunner().invoke(command, [*words, "--into", str(tmp_path / kind)])
        assert copied.exit_code == 0, copied.output
        model = Path(json.loads(copied.stdout)["files"]["model"])
        assert model.is_relative_to(tmp_path / kind) and model.read_bytes() == b"model of r2"


@pytest.mark.slow
def test_publishing_through_the_commands(store: Registry, addresses: dict[str, str], tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, run="r9")
    for how in ("published", "was published before"):
        result = CliRunner().invoke(command, ["publish", str(bundle), "--registry", addresses["service"]])
        assert f"user123/gesture v4 {how} (active): {addresses['service']}/users/user123/gesture/v4" in result.stdout
    refused = CliRunner().invoke(command, ["publish", str(bundle), "--registry", addresses["mirror"]])
    assert refused.exit_code == 2 and "can only be read" in refused.stderr


@pytest.mark.slow
def test_encoders_are_kept_for_the_next_command_and_versions_are_not(
    store: Registry, addresses: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_TRAINER_CACHE", str(tmp_path / "cache"))
    with open_registry(addresses["service"]).open_version(*SLOT) as version:
        kept = version.encoders["minilm"]
    assert sorted(all_bytes(tmp_path / "cache")) == [
        f"registry/encoders/{kept.name}/{name}" for name in ("encoder.json", "model.onnx", "tokenizer.json")
    ]
    before = {path: path.stat().st_ino for path in kept.iterdir()}
    (kept / "tokenizer.json").write_bytes(b"damaged")
    with open_registry(addresses["service"]).open_version(*SLOT) as version:
        assert (version.encoders["minilm"] / "tokenizer.json").read_bytes() == b"{}"
    assert (kept / "model.onnx").stat().st_ino == before[kept / "model.onnx"], "what is intact is not downloaded again"
    (tmp_path / "file").write_bytes(b"x")
    monkeypatch.setenv("MODEL_TRAINER_CACHE", str(tmp_path / "file"))
    with open_registry(addresses["service"]).open_version(*SLOT) as version:
        assert (version.encoders["minilm"] / "model.onnx").read_bytes() == b"network"
