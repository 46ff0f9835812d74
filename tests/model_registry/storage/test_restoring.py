"""Tars of `export` come back as versions; tars of anybody else do nothing."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from model_registry.commands.main import registry
from model_registry.errors import ConflictError, CorruptError, RefusedBundleError, RegistryError
from model_registry.storage import restoring
from model_registry.store import Registry
from tests.model_registry.bundles import all_bytes, make_bundle, make_encoder

Members = dict[str, bytes]
TOP = "user123_gesture_v2"


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    """A tar of the second of two versions, with an encoder."""
    store = Registry(tmp_path / "old")
    for run in ("run1", "run2"):
        store.publish(make_bundle(tmp_path, run=run, encoder_refs=[make_encoder(tmp_path)]))
    store.export("user123", "gesture", tmp_path / "backup.tar", form="tar")
    return tmp_path / "backup.tar"


def members(archive: Path) -> Members:
    with tarfile.open(archive) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def write(path: Path, contents: Members) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def add(path: Path, name: str, **fields: Any) -> Path:
    """Append a member without content, of any kind."""
    with tarfile.open(path, "a") as tar:
        info = tarfile.TarInfo(name)
        for field, value in fields.items():
            setattr(info, field, value)
        tar.addfile(info)
    return path


def test_a_version_comes_back_with_the_same_files(tmp_path: Path, backup: Path) -> None:
    new = Registry(tmp_path / "new")
    done = new.restore(backup)
    assert (done.entry.user_id, done.entry.modality, done.version, done.created) == ("user123", "gesture", 1, True)
    assert done.entry.status == "candidate"
    old, back = (
        store.resolve("user123", "gesture", version) for store, version in ((Registry(tmp_path / "old"), 2), (new, 1))
    )
    for role in set(old.files) - {"training_log"}:
        assert back.files[role].read_bytes() == old.files[role].read_bytes(), role
    logs = [json.loads(version.files["training_log"].read_text()) for version in (old, back)]
    assert {key for key in logs[0] if logs[0][key] != logs[1][key]} == {
        "model_version", "model_artifact_path", "label_encoder_path",
    }  # fmt: skip
    assert "where it was v2" in new.history("user123", "gesture")[0].reason
    assert {key for key, value in old.entry if value != getattr(back.entry, key)} == {
        "model_version", "status", "model_artifact_path", "label_map_path", "label_encoder_path",
    }  # fmt: skip
    assert set(back.encoders) == {"minilm"}
    assert new.verify("user123", "gesture", 1)


def test_it_comes_back_once_and_serves_where_asked(tmp_path: Path, backup: Path) -> None:
    new = Registry(tmp_path / "new")
    new.restore(backup)
    again = new.restore(backup, promote=True)
    assert (again.version, again.created, again.entry.status) == (1, False, "active")
    assert new.resolve("user123", "gesture").version == 1


def test_what_is_here_already_stays_as_it_is(tmp_path: Path, backup: Path) -> None:
    before = all_bytes(tmp_path / "old")
    done = Registry(tmp_path / "old").restore(backup)
    assert (done.version, done.created, done.entry.status) == (2, False, "active")
    assert all_bytes(tmp_path / "old") == before


def test_another_run_of_the_same_name_is_a_conflict(tmp_path: Path, backup: Path) -> None:
    for number, changes in enumerate(({"verdict": "weak"}, {"model": b"model of another run2"})):
        new = Registry(tmp_path / f"new{number}")
        new.publish(make_bundle(tmp_path / f"other{number}", run="run2", **changes))  # type: ignore[arg-type]
        with pytest.raises(ConflictError, match="run2"):
            new.restore(backup)


def changed(contents: Members, name: str, data: bytes) -> Members:
    return {**contents, f"{TOP}/{name}": data}


def relabelled(contents: Members) -> Members:
    """The entry of somebody else, with the manifest made to fit."""
    entry = contents[f"{TOP}/registry_entry.json"].replace(b'"user_id": "user123"', b'"user_id": "user124"')
    manifest = json.loads(contents[f"{TOP}/manifest.json"])
    manifest["files"]["registry_entry"] |= {"sha256": hashlib.sha256(entry).hexdigest(), "size": len(entry)}
    return changed(changed(contents, "registry_entry.json", entry), "manifest.json", json.dumps(manifest).encode())


WRONG_CONTENT: dict[str, tuple[Callable[[Members], Members], type[RegistryError], str]] = {
    "a flipped bit": (
        lambda c: changed(c, "gesture_model_user123_v2.onnx", b"model of run3"), CorruptError, "gesture_model",
    ),
    "a file left out": (
        lambda c: {k: v for k, v in c.items() if not k.endswith(".pkl")}, CorruptError, r"\.pkl: is missing",
    ),
    "no manifest": (
        lambda c: {k: v for k, v in c.items() if not k.endswith("manifest.json")}, RefusedBundleError, "manifest.json",
    ),
    "a file more": (lambda c: changed(c, "more.bin", b"x"), CorruptError, "more.bin': is not listed"),
    "an encoder's file changed": (
        lambda c: {k: b"other" if k.endswith("model.onnx") and "encoders" in k else v for k, v in c.items()},
        RefusedBundleError, "sha256",
    ),
    "an encoder's description changed": (
        lambda c: {k: v + b" " if k.endswith("encoder.json") else v for k, v in c.items()},
        CorruptError, "encoder.json",
    ),
    "the entry of somebody else": (relabelled, CorruptError, "another model"),
    "a second version": (lambda c: {**c, "ana_gesture_v1/label.pkl": b""}, RefusedBundleError, "another version"),
    "no JSON": (lambda c: changed(c, "manifest.json", b"{"), RegistryError, "manifest.json"),
    "nothing": (lambda c: {}, RefusedBundleError, "missing"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_CONTENT)
def test_content_that_is_not_what_the_manifest_says_is_refused(tmp_path: Path, backup: Path, case: str) -> None:
    change, error, reason = WRONG_CONTENT[case]
    archive = write(tmp_path / "changed.tar", change(members(backup)))
    with pytest.raises(error, match=reason):
        Registry(tmp_path / "new").restore(archive)
    if case != "an encoder's file changed":  # which is found while publishing
        assert not (tmp_path / "new").exists()
    assert not list((tmp_path / "new").rglob("*model*.onnx"))


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "a path that leads out": ({"name": "../evil"}, "export does not write"),
    "a path that leads out from within": ({"name": f"{TOP}/../../evil"}, "export does not write"),
    "an absolute path": ({"name": "/tmp/evil"}, "export does not write"),
    "a backslash": ({"name": f"{TOP}/..\\evil"}, "export does not write"),
    "a hidden file": ({"name": f"{TOP}/.evil"}, "export does not write"),
    "a name of 300 characters": ({"name": f"{TOP}/{'x' * 300}"}, "export does not write"),
    "a look-alike letter": ({"name": f"{TOP}/m\u0430nifest.json"}, "export does not write"),
    "a folder below": ({"name": f"{TOP}/more/evil"}, "is a path that export does not write"),
    "an encoder of no hash": ({"name": f"{TOP}/encoders/evil/model.onnx"}, "is a path that export does not write"),
    "a symbolic link": ({"name": f"{TOP}/link", "type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "is a link"),
    "a hard link": ({"name": f"{TOP}/link", "type": tarfile.LNKTYPE, "linkname": f"{TOP}/manifest.json"}, "is a link"),
    "a device": ({"name": f"{TOP}/null", "type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}, "not a plain file"),
    "a pipe": ({"name": f"{TOP}/pipe", "type": tarfile.FIFOTYPE}, "not a plain file"),
    "a sparse file": ({"name": f"{TOP}/holes", "type": tarfile.GNUTYPE_SPARSE}, "not a plain file|not a tar"),
    "a file twice": ({"name": f"{TOP}/manifest.json"}, "appears twice"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_members_that_export_does_not_write_are_refused_by_name(tmp_path: Path, backup: Path, case: str) -> None:
    fields, reason = HOSTILE[case]
    add(backup, **fields)
    with pytest.raises(RefusedBundleError, match=reason):
        Registry(tmp_path / "new").restore(backup)
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "evil").exists() and not Path("/tmp/evil").exists()


def test_every_refused_member_is_named_at_once(tmp_path: Path, backup: Path) -> None:
    add(add(backup, "../one"), "../two")
    with pytest.raises(RefusedBundleError, match=r"(?s)one.*two"):
        Registry(tmp_path / "new").restore(backup)


def test_bombs_are_refused_before_they_are_unpacked(
    tmp_path: Path, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Registry(tmp_path / "new")
    with tarfile.open(tmp_path / "packed.tar", "w:gz") as tar:
        tar.add(backup, "x")
    with pytest.raises(RefusedBundleError, match="not a tar"):
        store.restore(tmp_path / "packed.tar")
    many = write(tmp_path / "many.tar", {f"{TOP}/f{k}": b"" for k in range(5000)})
    with pytest.raises(RefusedBundleError, match="more than 100 members"):
        store.restore(many)
    monkeypatch.setattr(restoring, "FILE_LIMIT", 10)
    with pytest.raises(RefusedBundleError, match="at most 10 are read"):
        store.restore(backup)
    monkeypatch.setattr(restoring, "ARCHIVE_LIMIT", 100)
    with pytest.raises(RefusedBundleError, match="at most 100 are read"):
        store.restore(backup)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 a zip", b"\0" * 10_000, b"\xff" * 10_000])
def test_what_is_no_tar_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "no.tar"
    path.write_bytes(data)
    with pytest.raises(RefusedBundleError):
        Registry(tmp_path / "new").restore(path)


def test_a_cut_archive_is_refused_wherever_it_is_cut(tmp_path: Path, backup: Path) -> None:
    whole = backup.read_bytes()
    end = whole.rstrip(b"\0").__len__()
    for cut in range(0, end, 700):
        backup.write_bytes(whole[:cut])
        with pytest.raises(RegistryError):
            Registry(tmp_path / "new").restore(backup)
    assert not (tmp_path / "new").exists()


def test_the_command_tells_what_became_of_it(tmp_path: Path, backup: Path) -> None:
    at = ["restore", str(backup), "--registry", str(tmp_path / "new")]
    done = CliRunner().invoke(registry, [*at, "--promote", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["status"] == "active"
    assert "was published before" in CliRunner().invoke(registry, at).output
    add(backup, "../evil")
    refused = CliRunner().invoke(registry, at)
    assert refused.exit_code == 3
    assert "'../evil': is a name that export does not write" in refused.stderr
