"""Every byte that decides is checked by somebody, and the damage of one person is no one else's."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from model_registry.commands.main import registry as command
from model_registry.errors import CorruptError, RegistryError
from model_registry.storage import uploads
from model_registry.storage.resolution import ResolvedVersion
from model_registry.storage.tokens import add_token, tokens_file
from model_registry.storage.verification import Damage
from model_registry.store import Registry
from shared.prediction import LiveModel
from tests.model_registry.bundles import all_bytes, make_bundle, make_encoder
from tests.soak import Tally

_ALL = 700  # bytes; of a longer file some are flipped, spread evenly


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with every kind of file: two people, an encoder, a tombstone, a token and an upload that has begun."""
    folder = tmp_path_factory.mktemp("integrity")
    store = Registry(folder / "registry")
    for run in ("r1", "r2", "r3"):
        store.publish(make_bundle(folder, user="ben", run=run), reason="because")
    store.rollback("ben", "gesture", "worse")
    store.publish(make_bundle(folder, user="ana", modality="speech", encoder_refs=[make_encoder(folder)]))
    for user in ("carla", "dora"):
        store.publish(make_bundle(folder, user=user))
        store.erase(user, "asked for")
    add_token(tokens_file(store.root), "trainer", ("read", "publish"))
    uploads.begin(store.root, (make_bundle(folder, user="ben", run="r9") / "bundle.json").read_bytes())
    return store.root


@pytest.fixture
def store(prepared: Path, tmp_path: Path) -> Registry:
    shutil.copytree(prepared, tmp_path / "registry")
    return Registry(tmp_path / "registry")


def places(size: int) -> list[int]:
    step = max(1, -(-size // (_ALL if size <= _ALL else 40)))
    return sorted({*range(0, size, step), size - 1})


def flips(root: Path) -> Iterator[tuple[Path, int]]:
    """Flip one bit after the other, only some where one hash covers a whole file; yield file and place of each."""
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        good = path.read_bytes()
        every = path.name in ("history.jsonl", "active.json", "registry.json", "tombstones.jsonl", "tokens.json")
        for at in range(len(good)) if every else places(len(good)):
            path.write_bytes(good[:at] + bytes([good[at] ^ (1 << at % 8)]) + good[at + 1 :])
            yield path, at
        path.write_bytes(good)


@pytest.mark.slow
def test_verify_names_the_file_of_every_flipped_bit(store: Registry, tally: Tally) -> None:
    assert [name for name, fault in store.verify_all() if fault is not None] == []
    count = 0
    for path, at in flips(store.root):
        count += 1
        try:
            faults = [fault for _, fault in store.verify_all() if fault is not None]
        except RegistryError as error:
            faults = [str(error)]
        assert any(path.name in fault for fault in faults), (path, at, faults)
    assert count >= 1168
    tally("flipped bits", count)


@pytest.mark.slow
def test_doctor_writes_nothing_that_it_has_not_checked(store: Registry) -> None:
    """Whatever bit of a version is flipped, the journal keeps what was published, and no fault is called mended."""
    journal = store.root / "model_registry.jsonl"
    good = journal.read_bytes()
    for path, at in flips(store.root / "users/ben/gesture/v2"):
        store.doctor()
        assert journal.read_bytes() == good, (path, at)
        assert any(fault is not None for _, fault in store.verify_all()), (path, at)


def test_an_unrecorded_version_that_is_damaged_is_not_recorded(store: Registry, tmp_path: Path) -> None:
    folder = store.root / "users/ana/speech"
    (folder / "history.jsonl").unlink()
    entry = folder / "v1/registry_entry.json"
    entry.write_text(entry.read_text().replace('"accuracy": 0.91', '"accuracy": 0.19'))
    found = store.doctor()
    assert not all(finding.mended for finding in found) and not (folder / "history.jsonl").exists()
    assert "registry_entry.json" in " ".join(finding.what for finding in found)


def test_a_damaged_pointer_leaves_nobody_without_a_model(store: Registry) -> None:
    pointer = store.root / "users/ben/gesture/active.json"
    good = pointer.read_text()
    pointer.write_text(good.replace('"manifest_sha256": "', '"manifest_sha256": "0')[:-1])
    assert store.resolve("ben", "gesture").version == 2
    assert [name for name, fault in store.verify_all() if fault is not None] == ["ben/gesture active.json"]
    assert [finding.mended for finding in store.doctor()] == [True]
    assert pointer.read_text() == good


def test_a_damaged_history_leaves_nobody_without_a_model(store: Registry, caplog: pytest.LogCaptureFixture) -> None:
    history = store.root / "users/ben/gesture/history.jsonl"
    history.write_text(history.read_text().replace("worse", "Worse"))
    with caplog.at_level(logging.WARNING):
        assert store.resolve("ben", "gesture").version == 2
    assert "history.jsonl:4" in caplog.text
    with pytest.raises(CorruptError, match=r"history\.jsonl:4"):
        store.promote("ben", "gesture", 3)
    (store.root / "users/ben/gesture/active.json").write_text("{}")
    with pytest.raises(CorruptError):
        store.resolve("ben", "gesture")


def test_readers_pass_over_what_is_damaged_and_report_it(store: Registry, tmp_path: Path) -> None:
    history = store.root / "users/ben/gesture/history.jsonl"
    history.write_bytes(history.read_bytes().replace(b"worse", b"Worse"))
    damaged: list[Damage] = []
    assert [entry.user_id for entry in store.entries(on_damage=damaged.append)] == ["ana"]
    assert [(damage.user, damage.modality, damage.version) for damage in damaged] == [("ben", "gesture", None)]
    result = CliRunner().invoke(command, ["list", "--registry", str(store.root)])
    assert result.exit_code == 3 and "ana" in result.output and "damaged: ben/gesture: " in result.output


def test_one_damaged_version_hides_no_other(store: Registry) -> None:
    entry = store.root / "users/ben/gesture/v1/registry_entry.json"
    entry.write_text(entry.read_text().replace('"accuracy": 0.91', '"accuracy": 0.19'))
    damaged: list[Damage] = []
    entries = list(store.entries(user="ben", on_damage=damaged.append))
    assert [entry.version for entry in entries] == [2, 3]
    assert [damage.version for damage in damaged] == [1]


def test_damage_stops_neither_clean_up_nor_others_but_keeps_every_encoder(store: Registry) -> None:
    history = store.root / "users/ben/gesture/history.jsonl"
    history.write_bytes(history.read_bytes().replace(b"worse", b"Worse"))
    store.archive("ana", "speech", 1, withdraw=True)
    removed = store.gc(0)
    assert removed.versions == ("ana/speech v1",) and removed.encoders == ()
    before = (store.root / "model_registry.jsonl").read_bytes()
    assert store.reindex() is False and before.count(b'"ben"') == 7


def test_a_rollback_from_a_damaged_version_is_possible(store: Registry, tmp_path: Path) -> None:
    store.promote("ben", "gesture", 3)
    entry = store.root / "users/ben/gesture/v3/registry_entry.json"
    entry.write_text(entry.read_text().replace('"accuracy": 0.91', '"accuracy": 0.19'))
    assert store.rollback("ben", "gesture", "damaged") == (3, 2)
    assert store.resolve("ben", "gesture").version == 2


def test_a_history_without_chains_is_read_and_then_covered(store: Registry, tmp_path: Path) -> None:
    """Releases before 0.3 wrote lines without a chain."""
    history = store.root / "users/ben/gesture/history.jsonl"
    lines = [json.loads(line) for line in history.read_text().splitlines()]
    plain = [json.dumps({k: v for k, v in line.items() if k != "chain"}, separators=(",", ":")) for line in lines]
    history.write_text("\n".join(plain) + "\n")
    (store.root / "registry.json").write_text('{\n "format": 1\n}\n')
    assert store.resolve("ben", "gesture").version == 2
    store.publish(make_bundle(tmp_path, user="ben", run="r4"))
    assert json.loads((store.root / "registry.json").read_text()) == {"format": 2}
    assert [fault for _, fault in store.verify_all() if fault] == []
    history.write_text(history.read_text().replace("because", "Because", 1))
    assert any("history.jsonl:5" in str(fault) for _, fault in store.verify_all())


def test_readers_change_nothing(store: Registry) -> None:
    (store.root / "registry.json").write_text('{\n "format": 1\n}\n')
    before = all_bytes(store.root)
    list(store.entries())
    store.resolve("ben", "gesture")
    list(store.verify_all())
    assert all_bytes(store.root) == before


def test_a_file_exchanged_after_it_was_checked_is_not_used(store: Registry, tmp_path: Path) -> None:
    """The bytes that are checked are the bytes that are used: a version may be exchanged between the two."""
    resolved = store.resolve("ben", "gesture")
    model, log = (resolved.folder / path.name for path in (resolved.files["model"], resolved.files["training_log"]))

    def exchanged(*arguments: object, **options: object) -> ResolvedVersion:
        for path in (model, log):
            path.write_bytes(b"exchanged")
        return resolved

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Registry, "resolve", exchanged)
        patch.setattr(Registry, "_exact", exchanged)
        with pytest.raises(CorruptError, match=model.name):
            store.export("ben", "gesture", tmp_path / "model.onnx", form="onnx")
        with pytest.raises(CorruptError, match=log.name):
            store.training_log("ben", "gesture", 2)
    with pytest.raises(CorruptError, match=model.name):
        _ = LiveModel(model, {}, resolved.stored["model"].sha256).session
