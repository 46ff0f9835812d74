"""Nobody but the owner reads what may be a person's data, whatever the umask, or a group where that is wanted."""

from __future__ import annotations

import grp
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from model_registry.commands.main import registry as command
from model_registry.errors import InvalidNameError
from model_registry.storage import uploads
from model_registry.storage.durable import modes_in
from model_registry.storage.entry import BundleManifest
from model_registry.storage.protection import protect
from model_registry.storage.tokens import add_token, tokens_file
from model_registry.store import Registry
from shared.packaging.bundle import write_bundle
from tests.model_registry.bundles import FILES, make_bundle, make_encoder


@pytest.fixture(params=[0, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def readable_by_others(root: Path) -> list[str]:
    return [f"{path} {path.stat().st_mode:o}" for path in (root, *root.rglob("*")) if path.stat().st_mode & 0o077]


def fill(store: Registry, out: Path) -> None:
    """Do everything that writes into a registry."""
    store.publish(make_bundle(out, user="ana", run="r1", encoder_refs=[make_encoder(out)]))
    store.publish(make_bundle(out, user="ana", run="r2"))
    store.rollback("ana", "gesture", "worse")
    store.publish(make_bundle(out, user="ben"))
    store.erase("ben", "asked for")
    store.archive("ana", "gesture", 2)
    store.reindex()
    bundle = make_bundle(out, user="carla")
    upload = uploads.begin(store.root, (bundle / "bundle.json").read_bytes())
    uploads.expected_file(upload, "model").path.touch(0o600)
    add_token(tokens_file(store.root), "trainer", ("read",))


@pytest.mark.usefixtures("umask")
def test_a_registry_is_its_owners_alone(tmp_path: Path) -> None:
    store = Registry(tmp_path / "new" / "registry")
    fill(store, tmp_path)
    store.export("ana", "gesture", tmp_path / "ana.tar", form="tar")
    store.fetch("ana", "gesture", tmp_path / "copy")
    assert readable_by_others(tmp_path / "new") == readable_by_others(tmp_path / "copy") == []
    assert (tmp_path / "ana.tar").stat().st_mode & 0o077 == 0


@pytest.mark.usefixtures("umask")
def test_a_bundle_is_its_owners_alone(tmp_path: Path) -> None:
    source = make_bundle(tmp_path / "source")
    manifest = BundleManifest.from_json((source / "bundle.json").read_bytes(), "bundle.json")
    files = {role: (source / name).read_bytes() for role, name in FILES.items()}
    bundle = write_bundle(tmp_path / "out" / "deep", manifest, files)
    assert bundle.folder.is_dir() and readable_by_others(tmp_path / "out") == []


@pytest.mark.usefixtures("umask")
def test_a_shared_registry_is_its_groups_and_stays_so(tmp_path: Path) -> None:
    store = Registry(tmp_path / "registry")
    store.publish(make_bundle(tmp_path, user="dora"))
    group = grp.getgrgid(os.getgid()).gr_name
    assert CliRunner().invoke(command, ["protect", "--group", group, "--registry", str(store.root)]).exit_code == 0
    fill(store, tmp_path)
    wrong = [
        f"{path} {path.stat().st_mode:o}"
        for path in (store.root, *store.root.rglob("*"))
        if path.stat().st_mode & 0o7777 != (0o2770 if path.is_dir() else 0o660)
        and path.name != "tokens.json"
        and "uploads" not in path.parts
    ]
    assert wrong == [] and (store.root / "tokens.json").stat().st_mode & 0o777 == 0o600
    protect(store.root, None)
    assert readable_by_others(store.root) == []


def test_a_registry_of_an_earlier_release_is_protected(tmp_path: Path) -> None:
    store = Registry(tmp_path / "registry")
    fill(store, tmp_path)
    for path in (store.root, *store.root.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert len(readable_by_others(store.root)) > 20
    protect(store.root, None)
    assert readable_by_others(store.root) == [] and store.doctor() == []
    with pytest.raises(InvalidNameError, match="no such group"):
        protect(store.root, "nosuchgroup")


def test_what_is_made_where_everybody_writes_is_private_only_beside_strangers(tmp_path: Path) -> None:
    for mode, file in ((0o1777, 0o600), (0o777, 0o644), (0o755, 0o600), (0o2755, 0o600), (0o2775, 0o660)):
        tmp_path.chmod(mode)
        assert modes_in(tmp_path).file == file, oct(mode)
    tmp_path.chmod(0o700)
