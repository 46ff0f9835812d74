"""Publishing, finding and checking versions in a registry on disk."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import time
from pathlib import Path

import pytest

from model_registry.errors import ConflictError, CorruptError, DocumentError, NotFoundError, RefusedBundleError
from model_registry.storage import file_cache, verification
from model_registry.store import Registry
from tests.model_registry.bundles import FILES, all_bytes, make_bundle, make_encoder


@pytest.fixture
def store(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


def test_a_published_version_has_the_promised_names_and_knows_its_number(store: Registry, tmp_path: Path) -> None:
    store.publish(make_bundle(tmp_path, run="r1"))
    done = store.publish(make_bundle(tmp_path, run="r2"))
    assert done.version == 2 and done.created and done.entry.status == "active"
    assert sorted(path.name for path in (store.root / done.entry.folder).iterdir()) == [
        "confusion_matrix_user123_v2.png",
        "gesture_model_user123_v2.onnx",
        "label_encoder_user123_v2.pkl",
        "label_map_user123_v2.json",
        "manifest.json",
        "model_card_user123_v2.html",
        "registry_entry.json",
        "training_log_user123_v2.json",
    ]
    log = json.loads(((store.root / done.entry.folder) / "training_log_user123_v2.json").read_text())
    assert log["model_version"] == "v2"
    assert log["model_artifact_path"] == "users/user123/gesture/v2/gesture_model_user123_v2.onnx"
    assert log["label_encoder_path"] == "users/user123/gesture/v2/label_encoder_user123_v2.pkl"
    assert (store.root / log["model_artifact_path"]).read_bytes() == b"model of r2"
    assert oct((store.root / done.entry.folder).stat().st_mode & 0o777) == "0o700"


def test_the_journal_has_one_active_version_a_pair_at_every_line(store: Registry, tmp_path: Path) -> None:
    for run in ("r1", "r2", "r3"):
        store.publish(make_bundle(tmp_path, run=run), promote=run != "r3")
    lines = [json.loads(line) for line in (store.root / "model_registry.jsonl").read_text().splitlines()]
    assert [(line["model_version"], line["status"]) for line in lines] == [
        ("v1", "active"),
        ("v1", "archived"),
        ("v2", "active"),
        ("v3", "candidate"),
    ]
    assert [line["recorded_at"] for line in lines] == sorted(line["recorded_at"] for line in lines)
    assert {e.model_version: e.status for e in store.entries()} == {
        "v1": "archived",
        "v2": "active",
        "v3": "candidate",
    }


def test_publishing_a_run_again_changes_nothing(store: Registry, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, run="r1")
    store.publish(bundle)
    store.publish(make_bundle(tmp_path, run="r2"))
    before = all_bytes(store.root)
    again = store.publish(bundle)
    assert (again.version, again.created, again.entry.status) == (1, False, "archived")
    assert all_bytes(store.root) == before


def test_a_run_id_with_other_content_is_a_conflict(store: Registry, tmp_path: Path) -> None:
    store.publish(make_bundle(tmp_path / "a", run="r1"))
    with pytest.raises(ConflictError, match="new run id"):
        store.publish(make_bundle(tmp_path / "b", run="r1", model=b"other"))


def test_a_candidate_published_again_for_service_is_promoted_once(store: Registry, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, run="r1")
    assert store.publish(bundle, promote=False).entry.status == "candidate"
    with pytest.raises(NotFoundError, match="no active version"):
        store.resolve("user123", "gesture")
    assert store.publish(bundle).entry.status == "active"
    assert store.resolve("user123", "gesture").version == 1
    assert len((store.root / "users/user123/gesture/history.jsonl").read_text().splitlines()) == 2


def test_a_candidate_that_a_newer_version_has_overtaken_is_not_promoted(store: Registry, tmp_path: Path) -> None:
    old = make_bundle(tmp_path, run="r1")
    store.publish(old, promote=False)
    store.publish(make_bundle(tmp_path, run="r2"))
    before = all_bytes(store.root)
    assert store.publish(old).entry.status == "candidate"
    assert all_bytes(store.root) == before


def test_resolve_falls_back_to_the_pooled_model_and_says_so(store: Registry, tmp_path: Path) -> None:
    store.publish(make_bundle(tmp_path, user="_default", run="r1"))
    found = store.resolve("newcomer", "gesture")
    assert found.fallback and found.entry.user_id == "_default" and found.user == "newcomer"
    with pytest.raises(NotFoundError):
        store.resolve("newcomer", "gesture", "v1")
    store.publish(make_bundle(tmp_path, user="newcomer", run="r1"))
    assert not store.resolve("newcomer", "gesture").fallback


def test_resolve_prefers_the_pooled_model_to_one_of_insufficient_data(store: Registry, tmp_path: Path) -> None:
    store.publish(make_bundle(tmp_path, run="r1", verdict="insufficient data"))
    assert not store.resolve("user123", "gesture").fallback
    store.publish(make_bundle(tmp_path, user="_default", run="r1"))
    assert store.resolve("user123", "gesture").fallback
    assert not store.resolve("user123", "gesture", "v1").fallback
    store.publish(make_bundle(tmp_path, run="r2", verdict="weak"))
    assert store.resolve("user123", "gesture").version == 2


@pytest.mark.parametrize("name", [*FILES, "registry_entry", "manifest"])
def test_a_flipped_bit_in_any_file_is_refused_by_name(store: Registry, tmp_path: Path, name: str) -> None:
    done = store.publish(make_bundle(tmp_path))
    resolved = store.resolve("user123", "gesture")
    path = resolved.files.get(name, (store.root / done.entry.folder) / f"{name}.json")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    for check in (
        lambda: store.resolve("user123", "gesture"),
        lambda: store.resolve("user123", "gesture", "v1"),
        lambda: store.verify("user123", "gesture", 1),
    ):
        with pytest.raises(CorruptError, match=path.name):
            check()
    assert [fault is None for _, fault in store.verify_all()] == [False]


def test_every_bit_of_the_manifest_counts(store: Registry, tmp_path: Path) -> None:
    done = store.publish(make_bundle(tmp_path))
    path = (store.root / done.entry.folder) / "manifest.json"
    good = path.read_bytes()
    for at in range(0, len(good), 7):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises((CorruptError, NotFoundError)):
            store.resolve("user123", "gesture")
    path.write_bytes(good)
    store.resolve("user123", "gesture")


def test_links_and_strangers_within_a_version_are_refused(store: Registry, tmp_path: Path) -> None:
    done = store.publish(make_bundle(tmp_path))
    ((store.root / done.entry.folder) / "extra.txt").write_text("x")
    with pytest.raises(CorruptError, match=r"extra\.txt: does not belong"):
        store.resolve("user123", "gesture")
    ((store.root / done.entry.folder) / "extra.txt").unlink()
    model = (store.root / done.entry.folder) / "gesture_model_user123_v1.onnx"
    model.rename(tmp_path / "moved")
    model.symlink_to(tmp_path / "moved")
    with pytest.raises(CorruptError, match="is a link"):
        store.resolve("user123", "gesture")


def test_a_version_of_another_user_is_refused(store: Registry, tmp_path: Path) -> None:
    store.publish(make_bundle(tmp_path))
    shutil.copytree(store.root / "users/user123", store.root / "users/other")
    for version in (None, 1):
        with pytest.raises(CorruptError, match="belongs to user123/gesture v1"):
            store.resolve("other", "gesture", version)


def test_the_description_of_an_encoder_counts(store: Registry, tmp_path: Path) -> None:
    store.publish(make_bundle(tmp_path, modality="speech", encoder_refs=[make_encoder(tmp_path)]))
    path = store.resolve("user123", "speech").encoders["minilm"] / "encoder.json"
    path.write_text(path.read_text().replace("Apache-2.0", "Apache-2.1"))
    with pytest.raises(CorruptError, match=r"encoder\.json: is not what was published"):
        store.resolve("user123", "speech")


def test_an_entry_that_is_removed_while_it_is_read_is_read(
    store: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others erase while somebody lists: what was read before the file went is what was published."""
    store.publish(make_bundle(tmp_path))
    real = file_cache.read_file

    def removed_meanwhile(path: str, limit: int) -> bytes:
        data = real(path, limit)
        if path.endswith("registry_entry.json"):
            Path(path).unlink()
        return data

    monkeypatch.setattr(file_cache, "read_file", removed_meanwhile)
    assert [entry.version for entry in store.entries()] == [1]


def test_a_hash_is_remembered_only_of_a_file_that_has_settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two changes within one tick of the clock leave the times as they were."""
    path = tmp_path / "file"
    for age, same in ((0.0, False), (3600.0, True)):
        changed = int((time.time() - age) * 1e9)
        for name in ("file_identity", "identity_of"):
            monkeypatch.setattr(verification, name, lambda of, changed=changed: (1, 2, 3, changed, changed))
        hashes = []
        for content in (b"one", b"two"):
            path.write_bytes(content)
            hashes.append(verification.checked_sha256(path))
        assert (hashes[0] == hashes[1]) == same, age


def spoil_missing(bundle: Path) -> None:
    (bundle / "model.onnx").unlink()


def spoil_extra(bundle: Path) -> None:
    (bundle / "notes.txt").write_text("x")


def spoil_bit(bundle: Path) -> None:
    (bundle / "model.onnx").write_bytes(b"model of run2")


def spoil_size(bundle: Path) -> None:
    (bundle / "model.onnx").write_bytes(b"model of run1 and more")


def spoil_link(bundle: Path) -> None:
    (bundle / "model.onnx").rename(bundle.parent / "elsewhere")
    (bundle / "model.onnx").symlink_to(bundle.parent / "elsewhere")


def spoil_folder(bundle: Path) -> None:
    (bundle / "folder").mkdir()


def spoil_fifo(bundle: Path) -> None:
    (bundle / "model.onnx").unlink()
    os.mkfifo(bundle / "model.onnx")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (spoil_missing, "is missing"),
        (spoil_extra, "not listed"),
        (spoil_bit, "sha256 is"),
        (spoil_size, "has more bytes"),
        (spoil_link, "is a link"),
        (spoil_folder, "is not a file"),
        (spoil_fifo, "is not a file"),
    ],
)
def test_a_bundle_that_differs_from_its_description_is_refused(
    store: Registry, tmp_path: Path, spoil: object, reason: str
) -> None:
    store.publish(make_bundle(tmp_path / "good", user="other"))
    before = all_bytes(store.root)
    bundle = make_bundle(tmp_path)
    spoil(bundle)  # type: ignore[operator]
    with pytest.raises(RefusedBundleError, match=reason):
        store.publish(bundle)
    assert all_bytes(store.root) == before
    assert [path.name for path in (store.root / "users").rglob(".staging*")] == []


def test_a_folder_without_description_is_an_unfinished_bundle(store: Registry, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    with pytest.raises(RefusedBundleError, match="unfinished"):
        store.publish(tmp_path / "bundle")


def test_a_training_log_that_is_no_object_is_refused(store: Registry, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    text = (bundle / "bundle.json").read_text()
    old = json.loads(text)["files"]["training_log"]
    (bundle / "training_log.json").write_bytes(b"[]")
    new = old | {"sha256": "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945", "size": 2}
    (bundle / "bundle.json").write_text(text.replace(json.dumps(old), json.dumps(new)))
    with pytest.raises(RefusedBundleError, match="JSON object"):
        store.publish(bundle)
    with pytest.raises(NotFoundError):
        store.resolve("user123", "gesture")


def test_an_encoder_is_stored_once_and_checked_with_the_version(store: Registry, tmp_path: Path) -> None:
    ref = make_encoder(tmp_path)
    for user in ("anna", "ben"):
        store.publish(make_bundle(tmp_path, user=user, modality="speech", encoder_refs=[ref]))
    assert [path.name for path in (store.root / "encoders").iterdir()] == [ref["sha256"]]
    folder = store.resolve("anna", "speech").encoders["minilm"]
    assert (folder / "model.onnx").read_bytes() == b"network"
    (folder / "tokenizer.json").write_text("[]")
    with pytest.raises(CorruptError, match=r"tokenizer\.json"):
        store.resolve("ben", "speech")


def test_an_encoder_that_is_not_what_its_name_says_is_refused(store: Registry, tmp_path: Path) -> None:
    ref = make_encoder(tmp_path)
    (tmp_path / "encoders" / ref["sha256"] / "model.onnx").write_bytes(b"other network")
    with pytest.raises(RefusedBundleError, match=r"model\.onnx: sha256 is"):
        store.publish(make_bundle(tmp_path, modality="speech", encoder_refs=[ref]))
    other = make_encoder(tmp_path, network=b"third network")
    (tmp_path / "encoders" / other["sha256"]).rename(tmp_path / "encoders" / ("1" * 64))
    named = {"name": "minilm", "sha256": "1" * 64}
    with pytest.raises(RefusedBundleError, match="folder's name says"):
        store.publish(make_bundle(tmp_path, user="c", modality="speech", encoder_refs=[named]))
    missing = {"name": "lite0", "sha256": "0" * 64}
    with pytest.raises(RefusedBundleError, match="neither here nor in the registry"):
        store.publish(make_bundle(tmp_path, user="b", modality="speech", encoder_refs=[missing]))


def test_the_same_network_with_another_tokenizer_is_a_conflict(store: Registry, tmp_path: Path) -> None:
    ref = make_encoder(tmp_path / "a")
    store.publish(make_bundle(tmp_path / "a", modality="speech", encoder_refs=[ref]))
    make_encoder(tmp_path / "b", tokenizer="[1]")
    with pytest.raises(ConflictError, match="another encoder"):
        store.publish(make_bundle(tmp_path / "b", user="b", modality="speech", encoder_refs=[ref]))


def test_a_folder_of_a_later_layout_is_left_alone(store: Registry, tmp_path: Path) -> None:
    store.publish(make_bundle(tmp_path))
    (store.root / "registry.json").write_text('{"format": 3}')
    for act in (lambda: store.publish(make_bundle(tmp_path, run="r2")), lambda: store.resolve("user123", "gesture")):
        with pytest.raises(DocumentError, match="format"):
            act()


def _publish_many(root: Path, bundles: list[Path]) -> None:
    for bundle in bundles:
        Registry(root).publish(bundle)


@pytest.mark.slow
def test_32_publications_by_8_processes_give_32_contiguous_versions(store: Registry, tmp_path: Path) -> None:
    bundles = [make_bundle(tmp_path, run=f"r{i}") for i in range(32)]
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_publish_many, args=(store.root, bundles[i::8])) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 8
    folder = store.root / "users/user123/gesture"
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == sorted(f"v{i}" for i in range(1, 33))
    assert store.resolve("user123", "gesture").version == 32
    assert {entry.run_id for entry in store.entries()} == {f"r{i}" for i in range(32)}
    assert all(fault is None for _, fault in store.verify_all())
    journal = [json.loads(line) for line in (store.root / "model_registry.jsonl").read_text().splitlines()]
    assert [line["model_version"] for line in journal if line["status"] == "active"] == [f"v{i}" for i in range(1, 33)]


@pytest.mark.slow
def test_the_same_run_published_at_once_becomes_one_version(store: Registry, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_publish_many, args=(store.root, [bundle] * 4)) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 6
    assert [entry.model_version for entry in store.entries()] == ["v1"]
    assert sorted(path.name for path in (store.root / "users/user123/gesture").iterdir()) == [
        "active.json",
        "history.jsonl",
        "v1",
    ]
