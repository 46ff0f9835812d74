"""Who may do what over HTTP: bearer tokens with scopes. Only their hashes are kept."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, model_validator

from model_registry.errors import ConflictError, NotFoundError
from model_registry.names import parse_name
from model_registry.storage.durable import locked, read_file, storage_errors, write_file_atomically
from model_registry.storage.encoders import Sha256
from model_registry.storage.entry import DOCUMENT_LIMIT, Document, Timestamp
from model_registry.timestamps import utc_now

Scope = Literal["read", "publish", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
TokenName = Annotated[str, AfterValidator(lambda text: parse_name(text, "token name"))]


class Token(Document):
    """What is kept of a token: not the token itself. `admin` includes all scopes; `publish` does not include `read`."""

    name: TokenName
    sha256: Sha256
    scopes: tuple[Scope, ...] = Field(min_length=1)
    created: Timestamp

    def allows(self, scope: Scope) -> bool:
        """Return whether the token may be used for `scope`."""
        return scope in self.scopes or "admin" in self.scopes


class Tokens(Document):
    """The file of tokens; `sha256` is of the list as canonical JSON, and absent in files of format 1."""

    format: Literal[1, 2] = 2
    tokens: tuple[Token, ...] = ()
    sha256: Sha256 | None = None

    @model_validator(mode="after")
    def _intact(self) -> Tokens:
        if self.sha256 != (None if self.format == 1 else _list_sha256(self.tokens)):
            raise ValueError("the tokens are not what was written; restore the file from a backup, or remove it")
        return self


def _list_sha256(tokens: tuple[Token, ...]) -> str:
    return hashlib.sha256(b"".join(token.to_line() for token in tokens)).hexdigest()


def tokens_file(root: Path) -> Path:
    """Return where a registry's tokens are kept."""
    return root / "tokens.json"


def read_tokens(path: Path) -> Tokens:
    """Return the tokens in a file, none if it does not exist. Raises DocumentError."""
    try:
        return Tokens.from_json(read_file(path, DOCUMENT_LIMIT), str(path))
    except NotFoundError:
        return Tokens(format=1)


def add_token(path: Path, name: str, scopes: tuple[Scope, ...]) -> str:
    """Create a token, keep its hash, and return it: it cannot be recovered. Raises ConflictError for a name in use."""
    secret = secrets.token_urlsafe(32)
    token = Token(name=name, sha256=token_hash(secret), scopes=scopes, created=utc_now())
    with storage_errors("token"), locked(path.parent):
        known = read_tokens(path).tokens
        if any(other.name == name for other in known):
            raise ConflictError(f"token {name}: exists; remove it first, or choose another name")
        _write(path, (*known, token))
    return secret


def remove_token(path: Path, name: str) -> None:
    """Remove a token; a running service refuses it within a second. Raises NotFoundError."""
    with storage_errors("token"), locked(path.parent):
        known = read_tokens(path).tokens
        left = tuple(token for token in known if token.name != name)
        if len(left) == len(known):
            raise NotFoundError(f"token {name}: no such token")
        _write(path, left)


def token_hash(secret: str) -> str:
    """Return a token's sha256. A plain hash is enough: a token has 256 random bits, so none can be guessed."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _write(path: Path, tokens: tuple[Token, ...]) -> None:
    write_file_atomically(path, Tokens(tokens=tokens, sha256=_list_sha256(tokens)).to_json(), mode=0o600)
