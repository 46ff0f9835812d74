"""Tokens and their scopes: who may do what, and that the file of tokens is what was written."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import cast, get_args

import pytest
from pydantic import ValidationError

from model_registry.errors import ConflictError, DocumentError, InvalidNameError, NotFoundError
from model_registry.storage.tokens import (
    SCOPES,
    Scope,
    Token,
    Tokens,
    add_token,
    parse_scope,
    read_tokens,
    remove_token,
    token_hash,
    tokens_file,
)

PEOPLE = ("ana", "ben", "_default", None)  # None: everybody's models


def token(*scopes: str) -> Token:
    return Token(name="t", sha256="0" * 64, scopes=scopes, created="2026-03-01T00:00:00Z")


def allowed(*scopes: str) -> set[tuple[str, str | None]]:
    """Return for which scope and whose models a token with these scopes may be used."""
    return {(scope, user) for scope in SCOPES for user in PEOPLE if token(*scopes).allows(scope, user)}


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        (("admin",), {(scope, user) for scope in get_args(Scope) for user in PEOPLE}),
        (("read",), {("read", user) for user in PEOPLE}),
        (("publish",), {("publish", "ana"), ("publish", "ben"), ("publish", None)}),
        (("read:ana",), {("read", "ana"), ("read", "_default")}),
        (("publish:ana",), {("publish", "ana")}),
        (("publish:_default",), {("publish", "_default")}),
        (("read:_default",), {("read", "_default")}),
        (("read:ben", "publish:ana"), {("read", "ben"), ("read", "_default"), ("publish", "ana")}),
    ],
)  # fmt: skip
def test_a_scope_allows_what_it_says_and_nothing_else(
    scopes: tuple[str, ...], expected: set[tuple[str, str | None]]
) -> None:
    assert allowed(*scopes) == expected


def test_a_scope_of_one_person_is_a_scope_of_somebody() -> None:
    somebody = {scopes: {s for s in SCOPES if token(scopes).allows_for_somebody(s)} for scopes in ("admin", "read:ana")}
    assert somebody == {"admin": {"read", "publish", "admin"}, "read:ana": {"read"}}


def test_scopes_are_read_publish_admin_or_those_of_one_person() -> None:
    for scope in ("read", "publish", "admin", "read:ana", "publish:_default"):
        assert parse_scope(scope) == scope
    for scope in ("", "write", "write:ana", "admin:ana", "admin:", "read:", "read:../x", "publish:a:b", "Read"):
        with pytest.raises(InvalidNameError):
            parse_scope(scope)
    with pytest.raises(ValidationError):
        token()
    with pytest.raises((ValidationError, InvalidNameError)):
        token("read", "everything")


def test_a_token_is_kept_as_its_hash_only(tmp_path: Path) -> None:
    path = tokens_file(tmp_path)
    secrets = [add_token(path, name, ("read",)) for name in ("one", "two")]
    assert [kept.sha256 for kept in read_tokens(path).tokens] == [
        hashlib.sha256(secret.encode()).hexdigest() for secret in secrets
    ]
    assert [token_hash(secret) for secret in secrets] == [kept.sha256 for kept in read_tokens(path).tokens]
    assert len(set(secrets)) == 2 and all(len(secret) == 43 for secret in secrets), "256 bits each, in base64"
    assert not any(secret in path.read_text() for secret in secrets)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_name_is_used_once_and_only_a_token_that_exists_is_removed(tmp_path: Path) -> None:
    path = tokens_file(tmp_path)
    assert read_tokens(path).tokens == ()
    for name in ("one", "two", "three"):
        add_token(path, name, ("read",))
    with pytest.raises(ConflictError, match="one"):
        add_token(path, "one", ("admin",))
    remove_token(path, "two")
    with pytest.raises(NotFoundError, match="two"):
        remove_token(path, "two")
    assert [(kept.name, kept.scopes) for kept in read_tokens(path).tokens] == [("one", ("read",)), ("three", ("read",))]


def test_a_file_that_somebody_changed_is_refused(tmp_path: Path) -> None:
    path = tokens_file(tmp_path)
    add_token(path, "one", ("read",))
    add_token(path, "two", ("publish",))
    written = cast("dict[str, object]", json.loads(path.read_text()))
    tokens = cast("list[dict[str, object]]", written["tokens"])
    for changed in (
        {"tokens": [tokens[0] | {"scopes": ["admin"]}, tokens[1]]},
        {"tokens": tokens[:1]},
        {"sha256": None},
        {"sha256": "0" * 64},
        {"format": 1},
        {"format": 3},
    ):
        path.write_text(json.dumps(written | changed))
        with pytest.raises(DocumentError):
            read_tokens(path)
    path.write_text(json.dumps({"format": 1, "tokens": tokens}))
    assert [kept.name for kept in read_tokens(path).tokens] == ["one", "two"], "as version 0.1 wrote it"
    assert Tokens(format=1).tokens == ()
