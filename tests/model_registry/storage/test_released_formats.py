"""Registries written by earlier releases are read, verified, changed and erased from. `released/` has one of each.

A file there holds name -> content of every file of a registry that the release itself wrote; it is never changed.
RELEASE.md says when to add one.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from model_registry.errors import DocumentError, NotFoundError
from model_registry.storage.entry import NEWEST_FORMAT
from model_registry.storage.migrations import MIGRATIONS
from model_registry.storage.tokens import add_token, read_tokens, tokens_file
from model_registry.store import Registry
from tests.model_registry.bundles import all_bytes, make_bundle

RELEASED = sorted((Path(__file__).parents[1] / "released").glob("*.json"))


@pytest.fixture(params=RELEASED, ids=[path.stem for path in RELEASED])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Registry:
    """A registry of ana (v2 rolled back, v3 a candidate), ben, a pooled model, and dora (v2 withdrawn), as released."""
    store = Registry(tmp_path / "registry")
    for name, content in json.loads(request.param.read_text(encoding="utf-8")).items():
        path = store.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return store


def test_there_is_a_registry_of_each_release_and_a_migration_to_each_format() -> None:
    assert [path.stem for path in RELEASED] == ["0.2.0"]
    assert len(MIGRATIONS) == NEWEST_FORMAT - 1


def test_it_is_read_as_it_is_and_readers_change_nothing(store: Registry) -> None:
    before = all_bytes(store.root)
    assert [(name, fault) for name, fault in store.verify_all() if fault is not None] == []
    statuses = {(entry.user_id, entry.version): entry.status for entry in store.entries(modality="gesture")}
    assert statuses == {
        ("_default", 1): "active",
        ("ana", 1): "active",
        ("ana", 2): "archived",
        ("ana", 3): "candidate",
        ("dora", 1): "archived",
        ("dora", 2): "archived",
    }
    assert store.resolve("ana", "gesture").version == 1
    assert list(store.resolve("ben", "speech").encoders) == ["minilm"]
    assert store.resolve("dora", "gesture").fallback
    assert [event.event for event in store.history("ana", "gesture")] == ["publish"] * 3 + ["rollback"]
    assert [token.name for token in read_tokens(tokens_file(store.root)).tokens] == ["trainer"]
    assert all_bytes(store.root) == before


def test_the_first_change_brings_it_to_the_newest_format_and_keeps_every_version(
    store: Registry, tmp_path: Path
) -> None:
    versions = {path: data for path, data in all_bytes(store.root).items() if "/v" in path}
    assert store.publish(make_bundle(tmp_path, user="ana", run="r4")).version == 4
    assert json.loads((store.root / "registry.json").read_text()) == {"format": NEWEST_FORMAT}
    store.promote("ana", "gesture", 3)
    add_token(tokens_file(store.root), "second", ("read",))
    assert versions.items() <= all_bytes(store.root).items()
    assert store.rollback("ana", "gesture", "worse") == (3, 4)
    assert [(name, fault) for name, fault in store.verify_all() if fault is not None] == []
    assert store.doctor() == [] and not store.reindex()


def test_a_run_that_the_release_published_is_not_published_twice(store: Registry, tmp_path: Path) -> None:
    """The bundle is as the release's trainer would have left it."""
    bundle = make_bundle(tmp_path, user="ana", run="r2")
    description = json.loads((bundle / "bundle.json").read_text())
    for role in ("label_encoder", "confusion_matrix"):
        content = b"placeholder"
        (bundle / description["files"][role]["name"]).write_bytes(content)
        description["files"][role] |= {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    (bundle / "bundle.json").write_text(json.dumps(description))
    again = store.publish(bundle)
    assert (again.version, again.created) == (2, False)


def test_a_person_is_erased_from_it(store: Registry) -> None:
    store.erase("ana", "asked for")
    assert not [path for path, data in all_bytes(store.root).items() if "ana" in path or b'"ana"' in data]
    assert len((store.root / "tombstones.jsonl").read_bytes().splitlines()) == 2
    assert [(name, fault) for name, fault in store.verify_all() if fault is not None] == [] and store.doctor() == []
    with pytest.raises(NotFoundError):
        store.show("ana", "gesture", 1)


def test_an_erasure_that_the_release_left_unfinished_is_completed(store: Registry) -> None:
    trash = store.root / "users/.erased-0123456789abcdef"
    (store.root / "users/dora").rename(trash)
    tombstone = {"id": "0123456789abcdef", "time": "2026-03-01T10:00:00Z", "reason": "asked for", "versions": 2}
    (trash / "erasure.json").write_text(json.dumps({"user_id": "dora", "tombstone": tombstone}))
    assert all(finding.mended for finding in store.doctor())
    assert not [path for path, data in all_bytes(store.root).items() if "dora" in path or b'"dora"' in data]


def test_a_format_of_a_later_release_is_refused_and_left_alone(store: Registry, tmp_path: Path) -> None:
    (store.root / "registry.json").write_text(f'{{"format": {NEWEST_FORMAT + 1}}}')
    before = all_bytes(store.root)
    for act in (
        lambda: store.publish(make_bundle(tmp_path, user="ana", run="r4")),
        lambda: store.resolve("ana", "gesture"),
        lambda: store.erase("ana", "asked for"),
        store.doctor,
    ):
        with pytest.raises(DocumentError, match="format"):
            act()
    assert all_bytes(store.root) == before
