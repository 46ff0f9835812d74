"""The registry's documents: what is refused, what comes back unchanged, and their published schemas."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_registry.errors import DocumentError, InvalidNameError
from model_registry.names import parse_modality, parse_name, parse_version
from model_registry.storage import entry as documents
from model_registry.storage.entry import BundleEntry, BundleManifest, Document, RegistryEntry
from tests.model_registry.bundles import describe, entry
from tests.paths import ROOT


def description(**changes: Any) -> dict[str, Any]:
    contents = {"model": b"m", "label_map": b"l", "label_encoder": b"e", "training_log": b"{}"}
    return describe(Path(), contents, **changes)


def files(**changes: Any) -> dict[str, Any]:
    return description()["files"] | changes


def test_a_whole_description_is_read() -> None:
    found = BundleManifest.from_json(json.dumps(description()).encode(), "bundle.json")
    assert found.entry.labels == ("drink", "stop", "très") and found.modality == "gesture"


def test_a3cp_names_of_modalities_become_ours() -> None:
    data = json.dumps(description(modality="gesture")).replace('"gesture"', '"audio"').encode()
    with pytest.raises(DocumentError):
        BundleManifest.from_json(data, "bundle.json")  # a bundle is ours, and says it our way
    assert parse_modality("audio") == "sound"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"user_id": "../up"}, "user_id"),
        ({"user_id": "a/b"}, "user_id"),
        ({"user_id": "a\0b"}, "user_id"),
        ({"user_id": "x" * 300}, "user_id"),
        ({"user_id": "аnna"}, "user_id"),  # a Cyrillic letter
        ({"run_id": "-rf"}, "run_id"),
        ({"modality": "Smell"}, "modality"),
        ({"modality": "../up"}, "modality"),
        ({"modality": "a.b"}, "modality"),
        ({"modality": "x" * 65}, "modality"),
        ({"modality": "gesture\n"}, "modality"),
        ({"format": 2}, "format"),
        ({"surprise": 1}, "surprise"),
        ({"entry": entry(surprise=1)}, "entry.surprise"),
        ({"entry": entry(metrics={"accuracy": "high"})}, "entry.metrics.accuracy"),
        ({"entry": entry(labels=[])}, "entry.labels"),
        ({"entry": entry(labels=["a", "a"])}, "appears twice"),
        ({"entry": entry(labels=["unknown"])}, "result of rejection"),
        ({"entry": entry(labels=["a\nb"])}, "control characters"),
        ({"entry": entry(feature_spec_id="other")}, "must be equal"),
        ({"entry": entry(examples_hash="md5:1")}, "entry.examples_hash"),
        ({"entry": entry(timestamp="yesterday")}, "entry.timestamp"),
        ({"files": {}}, "role 'model' is missing"),
        ({"files": files(poem={"name": "poem", "sha256": "0" * 64, "size": 1})}, "unknown role"),
        ({"files": files(model={"name": "../model", "sha256": "0" * 64, "size": 1})}, "files.model.name"),
        ({"files": files(model={"name": "a/b", "sha256": "0" * 64, "size": 1})}, "files.model.name"),
        ({"files": files(model={"name": "label_map.json", "sha256": "0" * 64, "size": 1})}, "appears twice"),
        ({"files": files(model={"name": "bundle.json", "sha256": "0" * 64, "size": 1})}, "description itself"),
        ({"files": files(model={"name": "m", "sha256": "0" * 64, "size": -1})}, "files.model.size"),
        ({"files": files(model={"name": "m", "sha256": "0" * 64, "size": 1 << 40})}, "is above"),
        ({"encoder_refs": [{"name": "x", "sha256": "../" + "0" * 61}]}, "encoder_refs.0.sha256"),
    ],
)
def test_a_hostile_description_is_refused_by_field(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(DocumentError, match=reason.replace(".", r"\.")) as caught:
        BundleManifest.from_json(json.dumps(description(**changes)).encode(), "bundle.json")
    assert all(fault.startswith("bundle.json: ") and fault.isprintable() for fault in caught.value.faults)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"\xff\xfe",
        b'{"format": NaN}',
        b'{"format": 1, "format": 1}',
        b'{"user_id": "\\ud800"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'"' + b"x" * (3 << 20) + b'"',
        b'{"format": ' + b"9" * 10_000 + b"}",
    ],
)
def test_what_is_no_description_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError, match=r"bundle\.json"):
        BundleManifest.from_json(data, "bundle.json")


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(DocumentError) as caught:
        BundleManifest.from_json(json.dumps(description(user_id="..", run_id="/", created="now")).encode(), "b")
    assert len(caught.value.faults) == 3


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(
    config=st.dictionaries(st.text(max_size=5), json_values, max_size=3),
    metrics=st.dictionaries(
        st.text(min_size=1, max_size=5), st.floats(allow_nan=False, allow_infinity=False), max_size=3
    ),
)
def test_an_entry_is_written_as_it_was_read(config: dict[str, Any], metrics: dict[str, float]) -> None:
    first = BundleEntry.model_validate(entry(config=config, metrics=metrics))
    again = BundleEntry.from_json(first.to_line(), "line")
    assert again.to_line() == first.to_line() and again == first


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.text(max_size=80))
def test_a_name_that_passes_is_a_harmless_path(text: str) -> None:
    try:
        name = parse_name(text)
    except InvalidNameError:
        return
    assert name == text and Path("root", name).resolve().parent == Path("root").resolve() and name.isascii()


@pytest.mark.parametrize("text", ["v0", "v01", "v", "3.0", "-1", "v1 ", "v1\n", "V1", "v٣", "v" + "9" * 10, "../v1"])
def test_a_version_is_a_plain_number(text: str) -> None:
    with pytest.raises(InvalidNameError):
        parse_version(text)


def test_the_published_schemas_are_current() -> None:
    folder = ROOT / "docs/schemas"
    expected = runpy.run_path(str(folder / "write.py"))["texts"]()
    assert len(expected) >= 12
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.schema.json")}
    assert found == expected, "run: python docs/schemas/write.py"


def test_every_document_is_frozen_and_closed() -> None:
    kinds = [RegistryEntry, *Document.__subclasses__()]
    assert len(kinds) > 8
    assert all(kind.model_config["frozen"] and kind.model_config["extra"] == "forbid" for kind in kinds)


def test_the_documents_in_the_specification_are_valid() -> None:
    text = (ROOT / "docs/registry.md").read_text(encoding="utf-8")
    examples = re.findall(r"<!-- document: (\w+) -->\n```json\n(.*?)```", text, re.DOTALL)
    assert [name for name, _ in examples] == [
        "VersionManifest",
        "VersionSignature",
        "Event",
        "ActivePointer",
        "Tombstone",
    ]
    for name, example in examples:
        kind = getattr(documents, name)
        document = kind.from_json(example.encode(), name)
        assert document.model_fields_set == set(kind.model_fields), "the example has every field"
