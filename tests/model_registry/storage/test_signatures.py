"""Signatures: what somebody who can write the folder, but has no private key, cannot do unnoticed."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from model_registry.client import RemoteRegistry
from model_registry.commands.main import registry as command
from model_registry.errors import CorruptError, NotFoundError, RegistryError, UntrustedError, UnusablePathError
from model_registry.location import ReadableRegistry
from model_registry.mirror import MirrorRegistry
from model_registry.storage.chain import chain_line
from model_registry.storage.durable import Modes, modes_in
from model_registry.storage.entry import Event, PendingErasure
from model_registry.storage.history import read_events, recover
from model_registry.storage.layout import ModelSlot
from model_registry.storage.signatures import Signatures, new_signing_key, read_trusted_keys, trust_key
from model_registry.storage.tokens import add_token, tokens_file
from model_registry.store import Registry
from tests.model_registry.bundles import all_bytes, make_bundle, make_encoder
from tests.model_registry.service.serving import served


@pytest.fixture
def signatures(tmp_path: Path) -> Signatures:
    """A key, trusted under the name `clinic`; signatures are required."""
    public = new_signing_key(tmp_path / "keys/signing.pem")
    trust_key(tmp_path / "config/trusted_keys.json", "clinic", public)
    return Signatures(tmp_path / "keys/signing.pem", tmp_path / "config/trusted_keys.json", required=True)


@pytest.fixture
def store(tmp_path: Path, signatures: Signatures) -> Registry:
    """Signed: three versions of ana, the last one active, one of ben, and a pooled one."""
    store = Registry(tmp_path / "registry", signatures)
    for run in ("r1", "r2", "r3"):
        store.publish(make_bundle(tmp_path, user="ana", run=run, encoder_refs=[make_encoder(tmp_path)]))
    for user in ("ben", "_default"):
        store.publish(make_bundle(tmp_path, user=user))
    return store


@contextmanager
def reader(kind: str, store: Registry) -> Iterator[Callable[[], ReadableRegistry]]:
    """Yield what opens the registry as `kind` of reader that trusts the same keys and has none itself."""
    signatures = replace(store.signatures, key_file=None)
    if kind == "service":
        unchecked = Registry(store.root, replace(signatures, required=False))
        token = add_token(tokens_file(store.root), "tablet", ("read",))
        with served(unchecked) as url:
            yield lambda: RemoteRegistry(url, token, attempts=1, signatures=signatures)
    elif kind == "mirror":
        yield lambda: MirrorRegistry(store.root.as_uri(), signatures)
    else:
        yield lambda: Registry(store.root, signatures)


READERS = pytest.mark.parametrize("kind", ["folder", "service", "mirror"])


def resolved(registry: ReadableRegistry, user: str = "ana", version: str | None = None) -> tuple[str, int]:
    with registry.open_version(user, "gesture", version) as found:
        assert found.files["model"].read_bytes().startswith(b"model of")
        return found.entry.user_id, found.version


def slot_of(store: Registry, user: str = "ana") -> ModelSlot:
    return ModelSlot(store.root, user, "gesture")


def write_history(slot: ModelSlot, events: list[Event]) -> None:
    """Write a history as anybody could who can write the folder: with right chains and the signatures that exist."""
    content = b""
    for event in events:
        content += chain_line(content, event.to_line())
    slot.history.write_bytes(content)


def rewrite_version(slot: ModelSlot, number: int, **changes: object) -> str:
    """Change fields of a version's manifest and return the new sha256."""
    path = slot.version_folder(number) / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}, indent=1) + "\n")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def point_history(slot: ModelSlot, version: int, sha256: str) -> None:
    """Make a history say that a version's manifest has this sha256; the signatures of its events are kept."""
    write_history(
        slot,
        [
            event.model_copy(update={"manifest_sha256": sha256})
            if event.event == "publish" and event.version == version
            else event
            for event in read_events(slot)
        ],
    )
    if slot.active.exists() and json.loads(slot.active.read_text())["version"] == version:
        slot.active.write_text(json.dumps({**json.loads(slot.active.read_text()), "manifest_sha256": sha256}))


@pytest.mark.slow
@READERS
def test_what_a_trusted_key_signed_is_accepted(store: Registry, kind: str, tmp_path: Path) -> None:
    with reader(kind, store) as opened:
        assert resolved(opened()) == ("ana", 3)
        assert resolved(opened(), version="v1") == ("ana", 1)
        assert resolved(opened(), "newcomer") == ("_default", 1)
        opened().export("ana", "gesture", tmp_path / "ana.tar", form="tar")
        with opened().open_version("ana", "gesture") as found:
            assert (found.encoders["minilm"] / "model.onnx").read_bytes() == b"network"
    target = Registry(tmp_path / "other", store.signatures)
    assert target.restore(tmp_path / "ana.tar", promote=True).version == 1
    assert resolved(target) == ("ana", 1)
    assert [fault for _, fault in store.verify_all() if fault is not None] == []


@pytest.mark.slow
@READERS
def test_nothing_unsigned_is_accepted(store: Registry, kind: str, tmp_path: Path) -> None:
    unsigned = Registry(store.root, replace(store.signatures, key_file=None, required=False))
    unsigned.publish(make_bundle(tmp_path, user="ana", run="r4"))
    with reader(kind, store) as opened:
        with pytest.raises(UntrustedError, match=r"history\.jsonl:4: no trusted key has signed that v4 is active"):
            resolved(opened())
        with pytest.raises(UntrustedError, match=r"signature\.json: is missing"):
            resolved(opened(), version="v4")
        assert resolved(unsigned) == ("ana", 4)
        assert store.promote("ana", "gesture", 3) == 4
        assert resolved(opened()) == ("ana", 3)
        key = store.signatures.signing_key(store.root)
        assert key is not None
        store.sign("ana", "gesture", 4, key)
        store.promote("ana", "gesture", 4)
        assert resolved(opened()) == ("ana", 4)


@pytest.mark.slow
@READERS
def test_verify_names_what_no_trusted_key_signed(store: Registry, kind: str, tmp_path: Path) -> None:
    unsigned = Registry(store.root, replace(store.signatures, key_file=None, required=False))
    unsigned.publish(make_bundle(tmp_path, user="ben", run="r2"), promote=False)
    with reader(kind, store) as opened:
        faults = {name: fault for name, fault in opened().verify_all() if fault is not None}
        assert list(faults) == ["ben/gesture v2"] and "signature.json: is missing" in faults["ben/gesture v2"]


@pytest.mark.slow
@READERS
def test_a_key_that_is_not_trusted_makes_no_version(store: Registry, kind: str, tmp_path: Path) -> None:
    public = new_signing_key(tmp_path / "mallory.pem")
    Registry(store.root, replace(store.signatures, key_file=tmp_path / "mallory.pem")).publish(
        make_bundle(tmp_path, user="ana", run="r4")
    )
    with reader(kind, store) as opened:
        with pytest.raises(UntrustedError, match="no trusted key"):
            resolved(opened())
        with pytest.raises(UntrustedError, match=f"is by a key that is not trusted: {public}"):
            resolved(opened(), version="v4")
        trust_key(store.signatures.trusted_keys, "mallory", public)
        assert resolved(opened()) == ("ana", 4)


@READERS
def test_an_older_version_made_active_by_anybody_is_refused(store: Registry, kind: str) -> None:
    slot = slot_of(store)
    events = read_events(slot)
    write_history(slot, [*events, events[-1].model_copy(update={"event": "rollback", "active": 2, "version": 2})])
    slot.active.unlink()
    recover(slot)
    assert resolved(Registry(store.root, replace(store.signatures, required=False))) == ("ana", 2)
    with reader(kind, store) as opened, pytest.raises(UntrustedError, match="no trusted key has signed that v2"):
        resolved(opened())


@pytest.mark.slow
@READERS
def test_an_old_state_put_back_is_refused_by_those_who_have_read_a_later_one(store: Registry, kind: str) -> None:
    slot = slot_of(store)
    with reader(kind, store) as opened:
        assert resolved(opened()) == ("ana", 3)
        write_history(slot, read_events(slot)[:2])
        shutil.rmtree(slot.version_folder(3))
        recover(slot)
        with pytest.raises(UntrustedError, match=r"its history ends before .*: an old state was put back"):
            resolved(opened())
        shutil.rmtree(slot.folder.parent)  # and so is the pooled version in the place of one that was there
        with pytest.raises(UntrustedError, match="history ends before"):
            resolved(opened())
        arguments = ["ana", "gesture", "--trusted-keys", str(store.signatures.trusted_keys)]
        for expected in (0, 2):
            forgot = CliRunner().invoke(command, ["key", "forget", *arguments, "--registry", opened().address])
            assert forgot.exit_code == expected, forgot.output
        assert resolved(opened()) == ("_default", 1)


def test_an_erasure_signs_which_pooled_version_is_active_from_then_on(store: Registry, tmp_path: Path) -> None:
    """Nobody else is left without the pooled model, and nothing that only looks like an erasure is signed."""
    pooled = make_bundle(tmp_path, user="_default", run="p2", log={"users": ["ana", "ben"]})
    for signed in (True, False):
        copied = tmp_path / f"signed-{signed}"
        shutil.copytree(store.root, copied)
        registry = Registry(copied, store.signatures)
        registry.publish(pooled)
        assert resolved(registry, "carla") == ("_default", 2)
        if signed:
            registry.erase("ana", "asked for")
            assert resolved(registry, "carla") == ("_default", 1)
        else:
            note = PendingErasure(user_id="ana", reason="asked for").to_json()
            (copied / ".erasing-0123456789abcdef.json").write_bytes(note)
            registry.erase("dora", "asked for")
            with pytest.raises(UntrustedError, match="no trusted key has signed that v1 is active"):
                resolved(registry, "carla")


def test_what_is_remembered_names_nobody_and_an_erased_person_may_come_back(store: Registry, tmp_path: Path) -> None:
    assert resolved(store) == ("ana", 3)
    assert "ana" not in store.signatures.observed_times.read_text()
    store.erase("ana", "asked for")
    store.readmit("ana", "agreed again")
    store.publish(make_bundle(tmp_path, user="ana", run="r9"))
    assert resolved(store) == ("ana", 1)


@READERS
@pytest.mark.parametrize("change", [{"user_id": "ana"}, {"modality": "speech"}, {"version": 7}, {"run_id": "other"}])
def test_a_manifest_of_another_place_is_refused(
    store: Registry, kind: str, change: dict[str, object], tmp_path: Path
) -> None:
    """Each is in the signed content, so that neither the version as it is, nor a changed one, fits elsewhere."""
    slot = slot_of(store, "ben")
    point_history(slot, 1, rewrite_version(slot, 1, **change))
    with reader(kind, store) as opened:
        for version in (None, "v1"):
            with pytest.raises(CorruptError):
                resolved(opened(), "ben", version)


@READERS
def test_a_signed_version_of_another_person_is_refused(store: Registry, kind: str) -> None:
    """Ana's whole folder in the place of ben's: every signature is a trusted one."""
    shutil.rmtree(slot_of(store, "ben").folder)
    shutil.copytree(slot_of(store).folder, slot_of(store, "ben").folder)
    with reader(kind, store) as opened:
        for version in (None, "v3"):
            with pytest.raises(CorruptError):
                resolved(opened(), "ben", version)


@READERS
def test_an_older_version_under_a_newer_number_is_refused(store: Registry, kind: str) -> None:
    slot = slot_of(store)
    shutil.rmtree(slot.version_folder(3))
    shutil.copytree(slot.version_folder(2), slot.version_folder(3))
    manifest = slot.version_folder(3) / "manifest.json"
    point_history(slot, 3, hashlib.sha256(manifest.read_bytes()).hexdigest())
    with reader(kind, store) as opened:
        for version in (None, "v3"):
            with pytest.raises(CorruptError):
                resolved(opened(), "ana", version)


@pytest.mark.slow
@READERS
def test_a_changed_model_is_refused_whatever_manifest_and_history_say(store: Registry, kind: str) -> None:
    slot = slot_of(store)
    folder = slot.version_folder(3)
    files = json.loads((folder / "manifest.json").read_text())["files"]
    (folder / files["model"]["name"]).write_bytes(b"model of mallory")
    files["model"] |= {"sha256": hashlib.sha256(b"model of mallory").hexdigest(), "size": 16}
    sha256 = rewrite_version(slot, 3, files=files)
    point_history(slot, 3, sha256)
    with reader(kind, store) as opened:
        for version in (None, "v3"):
            with pytest.raises(CorruptError):
                resolved(opened(), "ana", version)
        (folder / "signature.json").unlink()
        for version in (None, "v3"):
            with pytest.raises(UntrustedError):
                resolved(opened(), "ana", version)


@pytest.mark.slow
def test_an_invalid_signature_is_a_fault_even_where_none_is_required(store: Registry) -> None:
    """Every flipped bit of it, and every other manifest beside it."""
    anyone = Registry(store.root, replace(store.signatures, required=False))
    path = slot_of(store).version_folder(3) / "signature.json"
    good = path.read_bytes()
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ (1 << at % 8)]) + good[at + 1 :])
        with pytest.raises(CorruptError, match=r"signature\.json"):
            anyone.resolve("ana", "gesture")
        assert any("signature.json" in (fault or "") for _, fault in anyone.verify_all(user="ana")), at
    path.unlink()
    assert anyone.resolve("ana", "gesture").version == 3


def test_what_is_recovered_is_signed_by_nobody(store: Registry) -> None:
    """Whoever can write the folder could otherwise have the next publication sign what they made up."""
    slot = slot_of(store)
    write_history(slot, read_events(slot)[:2])
    assert not any(fault for finding in store.doctor() if not finding.mended for fault in [finding.what])
    assert read_events(slot)[-1].signature is None
    with pytest.raises(UntrustedError):
        store.resolve("ana", "gesture")
    store.promote("ana", "gesture", 3)
    assert store.resolve("ana", "gesture").version == 3


def test_publishing_again_completes_what_a_killed_publication_left_unsigned(store: Registry, tmp_path: Path) -> None:
    slot = slot_of(store)
    write_history(slot, read_events(slot)[:2])
    assert not store.publish(tmp_path / "gesture_ana_r3").created
    assert store.resolve("ana", "gesture").version == 3


def test_an_archive_that_no_trusted_key_signed_is_not_restored(store: Registry, tmp_path: Path) -> None:
    unsigned = Registry(tmp_path / "unsigned", replace(store.signatures, key_file=None, required=False))
    unsigned.publish(make_bundle(tmp_path, user="dora"))
    unsigned.export("dora", "gesture", tmp_path / "dora.tar", form="tar")
    with pytest.raises(UntrustedError):
        store.restore(tmp_path / "dora.tar")
    assert "dora" not in store.users()
    assert unsigned.restore(tmp_path / "dora.tar").created is False


def test_the_same_content_has_the_same_signature_and_history_needs_no_other_line(store: Registry) -> None:
    before = all_bytes(store.root)
    store.promote("ana", "gesture", 3)
    assert all_bytes(store.root) == before


# --- keys


def test_keys_are_refused_where_others_could_use_or_replace_them(store: Registry, tmp_path: Path) -> None:
    with pytest.raises(UnusablePathError, match="lies in the registry"):
        new_signing_key(store.root / "users/key.pem")
    with pytest.raises(UnusablePathError, match="lies in the registry"):
        trust_key(store.root / "trusted_keys.json", "mallory", "0" * 64)
    with pytest.raises(UnusablePathError, match="exists"):
        new_signing_key(store.signatures.key_file or tmp_path)
    inside = store.root / "key.pem"
    shutil.copy(store.signatures.key_file or "", inside)
    with pytest.raises(UnusablePathError, match="may not lie in the registry"):
        replace(store.signatures, key_file=inside).signing_key(store.root)
    readable = tmp_path / "readable.pem"
    new_signing_key(readable)
    assert readable.stat().st_mode & 0o777 == 0o600 and modes_in(tmp_path) == Modes(0o600, 0o700)
    readable.chmod(0o640)
    with pytest.raises(UnusablePathError, match="others may read this private key; run: chmod 600"):
        replace(store.signatures, key_file=readable).signing_key(store.root)
    store.signatures.trusted_keys.chmod(0o666)
    with pytest.raises(UnusablePathError, match="others may change which keys are trusted"):
        store.resolve("ana", "gesture")


@pytest.mark.parametrize("content", [b"", b"ssh-ed25519 AAAA", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END"])
def test_what_is_no_private_key_is_refused(store: Registry, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "no.pem"
    path.write_bytes(content)
    path.chmod(0o600)
    bundle = make_bundle(tmp_path, user="ana", run="r4")
    before = all_bytes(store.root)
    with pytest.raises(UnusablePathError, match="not an Ed25519 private key"):
        Registry(store.root, replace(store.signatures, key_file=path)).publish(bundle)
    assert all_bytes(store.root) == before


def test_requiring_signatures_without_any_trusted_key_refuses_everything(store: Registry, tmp_path: Path) -> None:
    nobody = replace(store.signatures, trusted_keys=tmp_path / "nobody.json")
    with pytest.raises(UntrustedError, match="no trusted keys"):
        Registry(store.root, nobody).resolve("ana", "gesture")


def test_the_commands_make_trust_use_and_remove_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a person would: make a key, trust it, publish with it, require it, distrust it."""
    monkeypatch.setenv("MODEL_TRAINER_TRUSTED_KEYS", str(tmp_path / "config/trusted.json"))
    root, key = ["--registry", str(tmp_path / "registry")], str(tmp_path / "signing.pem")

    def run(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(command, arguments)
        assert result.exit_code == code, result.output
        return result.output

    public = run("key", "new", key).strip()
    run("key", "trust", "clinic", public)
    run("key", "trust", "clinic", "1" * 64, code=3)
    assert "64 hexadecimal digits" in run("key", "trust", "other", "no key", code=2)
    run("key", "trust", "../x", "1" * 64, code=2)
    service = ("--registry", "http://127.0.0.1:1", "--signing-key", key)
    assert "signs with its own key" in run("promote", "ana", "gesture", "v1", *service, code=2)
    assert run("key", "list").split()[:2] == ["clinic", public]
    run("publish", str(make_bundle(tmp_path, user="ana")), *root)
    assert "no trusted key" in run("resolve", "ana", "gesture", "--require-signature", *root, code=3)
    run("key", "sign", "ana", "gesture", "v1", "--signing-key", key, *root)
    run("resolve", "ana", "gesture", "--require-signature", *root)
    run("publish", str(make_bundle(tmp_path, user="ana", run="r2")), "--signing-key", key, *root)
    run("verify", "--require-signature", *root)
    monkeypatch.setenv("MODEL_TRAINER_REQUIRE_SIGNATURE", "1")
    assert "v2" in run("resolve", "ana", "gesture", *root)
    monkeypatch.setenv("MODEL_TRAINER_SIGNING_KEY", key)
    run("rollback", "ana", "gesture", "--reason", "worse", *root)
    assert "v1" in run("resolve", "ana", "gesture", *root)
    run("archive", "ana", "gesture", "v1", "--withdraw", "--reason", "none is good", *root)
    with pytest.raises(NotFoundError, match="no active version"):
        Registry(tmp_path / "registry").resolve("ana", "gesture")
    run("key", "distrust", "clinic")
    assert not read_trusted_keys(tmp_path / "config/trusted.json").keys
    assert "no trusted keys" in run("resolve", "ana", "gesture", *root, code=3)


def test_a_registry_error_is_all_that_damage_to_keys_and_memory_causes(store: Registry) -> None:
    for path in (store.signatures.trusted_keys, store.signatures.observed_times):
        store.resolve("ana", "gesture")
        good = path.read_bytes()
        for bad in (b"", b"{}", b'{"format": 1, "keys": [{}]}', good[:-5], b"\xff" * 10):
            path.write_bytes(bad)
            with pytest.raises(RegistryError):
                store.resolve("ana", "gesture")
        path.write_bytes(good)
