"""Versions compare as numbers wherever they are sorted or chosen: v10 follows v9."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from model_registry.client import RemoteRegistry
from model_registry.commands.reading import list_versions
from model_registry.storage.tokens import add_token, tokens_file
from model_registry.store import Registry
from tests.model_registry.bundles import make_bundle
from tests.model_registry.service.serving import served

NAMES = [f"v{number}" for number in range(1, 13)]


@pytest.fixture
def store(tmp_path: Path) -> Registry:
    """A registry with twelve versions of one model."""
    store = Registry(tmp_path / "registry")
    for name in NAMES:
        store.publish(make_bundle(tmp_path / name, run=f"run{name}", log={"version": name}))
    return store


@pytest.mark.slow
def test_folder_list_and_service_give_them_in_order(store: Registry) -> None:
    assert [entry.model_version for entry in store.entries()] == NAMES
    words = ["--registry", str(store.root), "--json"]
    listed = CliRunner().invoke(list_versions, words).stdout.splitlines()
    assert [json.loads(line)["model_version"] for line in listed] == NAMES
    token = add_token(tokens_file(store.root), "reader", ("read",))
    with served(store) as address, httpx.Client(headers={"Authorization": f"Bearer {token}"}) as client:
        paged, following = [], None
        while True:
            more = {} if following is None else {"after": following}
            page = client.get(f"{address}/v1/models", params={"limit": "5", **more}).json()
            paged += [entry["model_version"] for entry in page["entries"]]
            following = page["next"]
            if following is None:
                break
        shown = re.findall(r'<th scope="row"><a [^>]*>(v\d+)</a>', client.get(f"{address}/users/user123/gesture").text)
        remote = [entry.model_version for entry in RemoteRegistry(address, token).entries()]
    assert paged == remote == NAMES
    assert shown in (NAMES, NAMES[::-1])


def test_the_newest_is_active_and_the_one_before_it_comes_back(store: Registry) -> None:
    assert store.resolve("user123", "gesture").version == 12
    assert store.rollback("user123", "gesture", "worse")[1] == 11
    store.promote("user123", "gesture", "v9")
    assert store.rollback("user123", "gesture", "worse")[1] == 11


def test_the_oldest_are_removed_and_the_next_has_the_next_number(store: Registry, tmp_path: Path) -> None:
    store.gc(keep=2)
    assert [entry.model_version for entry in store.entries()] == ["v10", "v11", "v12"]
    assert store.publish(make_bundle(tmp_path / "more", run="more")).version == 13
