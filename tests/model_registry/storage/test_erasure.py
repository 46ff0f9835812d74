"""What is erased is gone, with pooled models that contain the person, and nothing of them comes back by accident."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from model_registry.errors import ConflictError, DocumentError, ErasedError, NotFoundError
from model_registry.storage import erasure, publication, uploads
from model_registry.storage.durable import locked
from model_registry.storage.tombstones import add_readmission, read_tombstones
from model_registry.store import Registry
from tests.model_registry.bundles import FILES, all_bytes, make_bundle


@pytest.fixture
def store(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


def names_ana(root: Path) -> list[str]:
    return [path for path, data in all_bytes(root).items() if "ana" in path or b"ana" in data]


def pooled(out: Path, run: str, *users: str) -> Path:
    return make_bundle(out, user="_default", run=run, model=f"pooled {run}".encode(), log={"users": list(users)})


def test_pooled_models_that_contain_the_person_go_and_an_earlier_one_takes_their_place(
    store: Registry, tmp_path: Path
) -> None:
    store.publish(make_bundle(tmp_path, user="ana"))
    store.publish(pooled(tmp_path, "p1", "ben", "carla"))
    store.publish(pooled(tmp_path, "p2", "ana", "ben"))
    store.publish(pooled(tmp_path, "p3", "ben", "ana"), promote=False)
    erased = store.erase("ana", "asked for")
    assert erased.pooled == ("_default/gesture v2", "_default/gesture v3") and erased.versions == 1
    assert store.resolve("ben", "gesture").files["model"].read_bytes() == b"pooled p1"
    assert names_ana(store.root) == [] and [fault for _, fault in store.verify_all() if fault] == []
    assert store.doctor() == []


def test_what_killed_processes_left_goes_too(store: Registry, tmp_path: Path) -> None:
    store.publish(make_bundle(tmp_path, user="ana"))
    store.publish(pooled(tmp_path, "p1", "ben"))
    (store.root / ".model_registry.jsonl.0123.tmp").write_text("ana")
    (store.root / "users/_default/gesture/.staging-0123").mkdir()
    (store.root / "users/_default/gesture/.staging-0123/training_log").write_text("ana")
    store.erase("ana", "asked for")
    assert names_ana(store.root) == []


def test_a_pooled_model_is_withdrawn_where_there_is_no_earlier_one(store: Registry, tmp_path: Path) -> None:
    store.publish(pooled(tmp_path, "p1", "ana", "ben"))
    store.erase("ana", "asked for")
    with pytest.raises(NotFoundError):
        store.resolve("ben", "gesture")
    assert names_ana(store.root) == []


def test_nothing_of_an_erased_person_is_published_until_they_are_readmitted(store: Registry, tmp_path: Path) -> None:
    own, shared = make_bundle(tmp_path, user="ana"), pooled(tmp_path, "p1", "ana", "ben")
    store.publish(own)
    store.erase("ana", "asked for")
    for bundle in (own, shared):
        with pytest.raises(ErasedError, match="was erased on"):
            store.publish(bundle)
    with pytest.raises(ErasedError):
        uploads.begin(store.root, (own / "bundle.json").read_bytes())
    assert names_ana(store.root) == [] and store.doctor() == []
    assert store.publish(make_bundle(tmp_path, user="anabel")).version == 1
    assert store.readmit("ana", "signed again") and not store.readmit("ana", "signed again")
    assert store.publish(own).version == 1 and store.publish(shared).version == 1
    store.erase("ana", "changed their mind")
    with pytest.raises(ErasedError):
        store.publish(own)


def test_a_person_who_had_no_models_is_kept_out_as_well(store: Registry, tmp_path: Path) -> None:
    store.created()
    assert store.erase("ana", "asked for").versions == 0
    with pytest.raises(ErasedError):
        store.publish(make_bundle(tmp_path, user="ana"))
    assert not (store.root / "users").exists() or names_ana(store.root) == []


def test_a_publication_that_an_erasure_overtakes_is_refused(
    store: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.publish(make_bundle(tmp_path, user="ana", run="r1"))
    real = publication._take_files

    def erased_meanwhile(*arguments: object) -> None:
        real(*arguments)  # type: ignore[arg-type]
        with monkeypatch.context() as patch:
            patch.setattr(publication, "_take_files", real)
            store.erase("ana", "asked for")

    monkeypatch.setattr(publication, "_take_files", erased_meanwhile)
    with pytest.raises(ErasedError):
        store.publish(make_bundle(tmp_path, user="ana", run="r2"))
    assert names_ana(store.root) == [] and store.doctor() == []


def test_uploads_of_the_person_go_and_those_that_begin_meanwhile_stay(store: Registry, tmp_path: Path) -> None:
    store.created()
    mine = uploads.begin(store.root, (make_bundle(tmp_path, user="ana") / "bundle.json").read_bytes())
    ben = make_bundle(tmp_path, user="ben")
    other = uploads.begin(store.root, (ben / "bundle.json").read_bytes())
    shared = pooled(tmp_path, "p1", "ana", "ben")
    third = uploads.begin(store.root, (shared / "bundle.json").read_bytes())
    (third.bundle / FILES["training_log"]).write_bytes((shared / FILES["training_log"]).read_bytes())
    (store.root / "uploads/.staging-0123").mkdir()  # as if one began in this moment
    store.erase("ana", "asked for")
    assert not mine.folder.exists() and not third.folder.exists() and other.folder.is_dir()
    assert (store.root / "uploads/.staging-0123").is_dir()


def test_a_damaged_pooled_model_is_named_and_the_person_is_gone_nonetheless(store: Registry, tmp_path: Path) -> None:
    store.publish(make_bundle(tmp_path, user="ana"))
    store.publish(pooled(tmp_path, "p1", "ben"))
    log = store.root / "users/_default/gesture/v1/training_log__default_v1.json"
    good = log.read_bytes()
    log.write_bytes(b"{")
    with pytest.raises(DocumentError, match="training log"):
        store.erase("ana", "asked for")
    assert not (store.root / "users/ana").exists()
    assert b"ana" not in (store.root / "model_registry.jsonl").read_bytes()
    with pytest.raises(ConflictError, match="not complete"):  # its completion would remove what they publish again
        store.readmit("ana", "signed again")
    store.publish(make_bundle(tmp_path, user="ben"))
    log.write_bytes(good)
    assert store.erase("ana", "asked for").versions == 0 and names_ana(store.root) == []


def test_an_erasure_that_another_has_completed_does_not_remove_what_was_published_since(
    store: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> int:
        raise RuntimeError

    store.publish(make_bundle(tmp_path, user="ana"))
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(erasure, "_remove_user", killed)
        store.erase("ana", "asked for")
    assert erasure.pending_erasures(store.root)
    with ThreadPoolExecutor() as other, locked(store.root / "users"):
        doctor = other.submit(erasure.finish_erasures, store.root)
        time.sleep(0.1)  # that it may see the note, and must wait
        assert not doctor.done()
        erasure._finish(store.root)
        add_readmission(store.root, "ana", "signed again")
        store.publish(make_bundle(tmp_path, user="ana", run="r2"))
    assert doctor.result() == [] and store.resolve("ana", "gesture").version == 1


def test_a_reason_may_contain_the_letters_of_an_id_but_not_the_id(store: Registry, tmp_path: Path) -> None:
    store.publish(make_bundle(tmp_path, user="e"))
    with pytest.raises(ConflictError, match="without saying who"):
        store.erase("e", "asked for by E.")
    assert store.erase("e", "asked for by the family").versions == 1


def test_a_tombstone_names_nobody_and_its_hash_is_salted(store: Registry, tmp_path: Path) -> None:
    other = Registry(tmp_path / "other")
    for registry in (store, other):
        registry.created()
        registry.erase("ana", "asked for")
    (mine,), (theirs,) = read_tombstones(store.root), read_tombstones(other.root)
    assert mine.person != theirs.person and mine.salt != theirs.salt
    assert "ana" not in json.dumps(mine.model_dump())
