"""Names that would lead out of a folder, or pass for another, are refused wherever one comes in."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from model_registry.client import RemoteRegistry
from model_registry.errors import DocumentError, InvalidNameError, NotFoundError, RegistryError
from model_registry.http_schemas import ResolveResponse
from model_registry.location import ReadableRegistry
from model_registry.mirror import MirrorRegistry
from model_registry.names import (
    DEFAULT_USER,
    ROLES,
    is_modality,
    parse_modality,
    parse_name,
    parse_reason,
    parse_user,
    parse_version,
    published_name,
)
from model_registry.storage import uploads
from model_registry.storage.encoders import EncoderSpec
from model_registry.storage.entry import BundleManifest
from model_registry.storage.tokens import add_token, remove_token, tokens_file
from model_registry.storage.verification import encoder_file
from model_registry.store import Registry
from shared.data.session_writer import Addition, write_session
from shared.schema_utils import Example, FeaturesRef, SessionMetadata
from tests.model_registry.bundles import all_bytes, make_bundle, make_encoder

PATHS = ["..", "../x", "a/../b", "a/b", "/abs", "a\\b", "a\0b", "./x", "x/", ""]  # would be another path
OTHERS = [".hidden", "-rf", "a b", "a\n", "x" * 65, "аnna", "a:b", "a..b", "_default2", "ａ"]  # no names of ours
HOSTILE = PATHS + OTHERS


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """A registry with two versions, which no test changes."""
    folder = tmp_path_factory.mktemp("names")
    store = Registry(folder / "registry")
    for run in ("r1", "r2"):
        store.publish(make_bundle(folder, run=run, encoder_refs=[make_encoder(folder)]))
    return store


@pytest.mark.parametrize("name", HOSTILE)
def test_no_parser_lets_a_hostile_name_pass(name: str) -> None:
    for parse in (parse_name, parse_user, parse_modality, parse_version):
        with pytest.raises(InvalidNameError) as caught:
            parse(name)
        assert (str(caught.value).isprintable() and str(caught.value).isascii()) or "…" in str(caught.value)


@pytest.mark.parametrize("value", [None, 3, b"ana", ["ana"]])
def test_what_is_no_text_is_no_name(value: Any) -> None:
    for parse in (parse_name, parse_modality):
        with pytest.raises(InvalidNameError):
            parse(value)
    assert not is_modality(value)


def test_ordinary_names_pass_as_they_are() -> None:
    for name in ("a", "7", "ana", "Ana-Maria_2.old", "x" * 64):
        assert parse_name(name) == parse_user(name) == name
    for modality in ("a", "visual_environment", "x2", "x" * 64):
        assert parse_modality(modality) == modality and is_modality(modality)
    assert parse_user(DEFAULT_USER) == DEFAULT_USER
    assert parse_modality("audio") == "sound", "A3CP's name of it"
    assert parse_version("v12") == parse_version("12") == parse_version(12) == 12
    assert parse_version(999_999_999) == 999_999_999


def test_no_two_files_of_a_bundle_and_no_two_versions_share_a_name() -> None:
    names = {published_name(role, "ana", "gesture", version) for role in ROLES for version in (1, 11)}
    assert len(names) == 2 * len(ROLES)
    assert published_name("model", "ana", "gesture", 3) == "gesture_model_ana_v3.onnx"


def test_a_reason_is_plain_text_of_at_most_500_characters() -> None:
    for reason in ("", "worse on Monday", "two\nlines", "größer", "x" * 500):
        assert parse_reason(reason) == reason
    for reason in ("x" * 501, "\x1b[2J", "a\0b", "a\u202eb"):
        with pytest.raises(InvalidNameError):
            parse_reason(reason)


@given(st.text(max_size=70))
def test_what_passes_is_one_part_of_a_path(text: str) -> None:
    try:
        name = parse_name(text)
    except InvalidNameError:
        return
    assert Path("root", name).name == name == text and Path("root", name).parent == Path("root")
    assert name.isascii() and name not in (".", "..", DEFAULT_USER) and not name.startswith((".", "-"))


@pytest.mark.parametrize(
    "name", ["v0", "v01", "0", "-1", "v-1", "v1.0", "1e3", "v١", "vv1", "v1 ", "v9999999999", "latest"]
)
def test_what_is_no_version_is_refused(name: str) -> None:
    with pytest.raises(InvalidNameError):
        parse_version(name)
    for number in (0, -1, 10**9):
        with pytest.raises(InvalidNameError):
            parse_version(number)


READS: dict[str, Callable[[ReadableRegistry, str], object]] = {
    "open_version": lambda r, name: r.open_version(name, "gesture").__enter__(),
    "open_version of a modality": lambda r, name: r.open_version("user123", name).__enter__(),
    "open_version of a number": lambda r, name: r.open_version("user123", "gesture", name).__enter__(),
    "fetch": lambda r, name: r.fetch(name, "gesture", Path("fetched")),
    "training_log": lambda r, name: r.training_log(name, "gesture"),
    "show": lambda r, name: r.show(name, "gesture", 1),
    "show a modality": lambda r, name: r.show("user123", name, 1),
    "show a number": lambda r, name: r.show("user123", "gesture", name),
    "diff": lambda r, name: r.diff(name, "gesture", 1, 2),
    "export": lambda r, name: r.export(name, "gesture", Path("out.tar"), form="tar"),
}
LOCAL_READS: dict[str, Callable[[Any, str], object]] = {
    "diff numbers": lambda r, name: r.diff("user123", "gesture", 1, name),
    "entries": lambda r, name: list(r.entries(user=name)),
    "entries of a modality": lambda r, name: list(r.entries(modality=name)),
    "verify_all": lambda r, name: list(r.verify_all(user=name)),
}
WRITES: dict[str, Callable[[Any, str], object]] = {
    "promote": lambda r, name: r.promote(name, "gesture", 1),
    "promote a modality": lambda r, name: r.promote("user123", name, 1),
    "promote a number": lambda r, name: r.promote("user123", "gesture", name),
    "rollback": lambda r, name: r.rollback(name, "gesture", "x"),
    "archive": lambda r, name: r.archive(name, "gesture", 1),
    "erase": lambda r, name: r.erase(name, "x"),
}


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("operation", [*READS, *LOCAL_READS, *WRITES])
def test_a_folder_refuses_a_hostile_name_and_changes_nothing(
    store: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    before = all_bytes(store.root)
    with pytest.raises(InvalidNameError):
        {**READS, **LOCAL_READS, **WRITES}[operation](store, name)
    assert all_bytes(store.root) == before and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("operation", [*READS, *WRITES])
def test_a_client_refuses_a_hostile_name_before_it_sends_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)

    def fail(request: httpx.Request) -> httpx.Response:
        raise AssertionError(f"{request.method} {request.url} was sent")

    client = RemoteRegistry("http://registry", "t", transport=httpx.MockTransport(fail))
    with pytest.raises(InvalidNameError):
        {**READS, **WRITES}[operation](client, name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("operation", READS)
def test_a_mirror_refuses_a_hostile_name_and_writes_nothing(
    store: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidNameError):
        READS[operation](MirrorRegistry(store.root.as_uri()), name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", HOSTILE)
def test_no_document_holds_a_hostile_name(store: Registry, tmp_path: Path, name: str) -> None:
    bundle = json.loads((make_bundle(tmp_path / "more", run="r9") / "bundle.json").read_text())
    reference = {"name": name, "sha256": "0" * 64}
    for changes in (
        {"user_id": name},
        {"run_id": name},
        {"encoder_refs": [reference]},
        {"encoder_refs": [{"name": "minilm", "sha256": name}]},
    ):
        with pytest.raises(DocumentError):
            BundleManifest.from_json(json.dumps(bundle | changes).encode(), "bundle.json")
    if name in PATHS:
        files = bundle["files"] | {"model": bundle["files"]["model"] | {"name": name}}
        with pytest.raises(DocumentError):
            BundleManifest.from_json(json.dumps(bundle | {"files": files}).encode(), "bundle.json")


@pytest.mark.parametrize("name", PATHS)
def test_no_encoder_has_a_file_with_a_hostile_name(store: Registry, name: str) -> None:
    (folder,) = (store.root / "encoders").iterdir()
    spec = json.loads((folder / "encoder.json").read_text())
    for changes in ({"model": name, "files": {name: spec["sha256"]}}, {"files": spec["files"] | {name: "0" * 64}}):
        with pytest.raises(ValidationError):
            EncoderSpec.model_validate(spec | changes)
    for sha256, file in ((folder.name, name), (name, "model.onnx")):
        with pytest.raises(NotFoundError):
            encoder_file(store.root, sha256, file)


@pytest.mark.parametrize("name", PATHS)
def test_no_upload_takes_a_file_with_a_hostile_name(store: Registry, tmp_path: Path, name: str) -> None:
    bundle = make_bundle(tmp_path / "more", run="r9", encoder_refs=[make_encoder(tmp_path / "more", network=b"new")])
    upload = uploads.begin(store.root, (bundle / "bundle.json").read_bytes())
    (sha256,) = upload.missing_encoders()
    with pytest.raises(NotFoundError):
        uploads.find(store.root, f"{upload.id}/../{upload.id}")  # there is such a folder
    for act in (
        lambda: uploads.find(store.root, name),
        lambda: uploads.expected_file(upload, name),
        lambda: uploads.expected_encoder_file(upload, name, "encoder.json"),
        lambda: uploads.expected_encoder_file(upload, sha256, name),
    ):
        with pytest.raises(RegistryError):
            act()


@pytest.mark.parametrize("name", PATHS)
def test_no_token_has_a_hostile_name(store: Registry, name: str) -> None:
    with pytest.raises((ValidationError, InvalidNameError)):
        add_token(tokens_file(store.root), name, ("read",))
    with pytest.raises(NotFoundError):
        remove_token(tokens_file(store.root), name)


@pytest.mark.parametrize("name", PATHS)
def test_a_hostile_service_writes_nothing_outside_the_folder(store: Registry, tmp_path: Path, name: str) -> None:
    entry = store.resolve("user123", "gesture").entry.model_dump(mode="json")
    file = {"name": "model.onnx", "sha256": "0" * 64, "size": 1}
    (encoder,) = (ref["sha256"] for ref in entry["encoder_refs"])
    honest = {"user_id": "user123", "fallback": False, "entry": entry, "files": {}, "encoders": {encoder: {}}}
    ResolveResponse.model_validate(honest)
    for changes in (
        {"files": {"model": file | {"name": name}}},
        {"encoders": {encoder: {name: "0" * 64}}},
        {"encoders": {name: {"model.onnx": "0" * 64}}},
        {"entry": entry | {"user_id": name}},
        {"entry": entry | {"modality": name}},
        {"entry": entry | {"model_version": name}},
    ):
        answer = httpx.MockTransport(lambda request, body=honest | changes: httpx.Response(200, json=body))
        with pytest.raises(DocumentError):
            RemoteRegistry("http://registry", "t", transport=answer).fetch("user123", "gesture", tmp_path / "into")
    assert not (tmp_path / "into").exists()


@pytest.mark.parametrize("name", PATHS)
def test_no_session_is_written_outside_its_folder(tmp_path: Path, name: str) -> None:
    def addition(uri: str) -> Addition:
        reference = FeaturesRef(uri=uri or "x", hash="sha256:" + "0" * 64, encoding="v1", shape=(1, 1))
        example = Example(
            record_id="r1",
            user_id="ana",
            session_id="s1",
            timestamp=datetime(2026, 3, 1, tzinfo=UTC),
            modality="gesture",
            label="yes",
            consent_given=True,
            features=reference,
        )
        return Addition(example, b"features")

    honest = SessionMetadata(user_id="ana", session_id="s1")
    for changes in ({"user_id": name}, {"session_id": name}):
        with pytest.raises(InvalidNameError):
            write_session(tmp_path / "data", honest.model_copy(update=changes), (), ())
    if ".." in name.split("/") or name.startswith("/"):
        with pytest.raises(InvalidNameError, match="leads out"):
            write_session(tmp_path / "data", honest, (), [addition(name)])
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
