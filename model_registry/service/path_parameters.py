"""Parameters in the paths of routes, so that the OpenAPI document says what is accepted; `names` checks them."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query

from model_registry.names import MODALITY_PATTERN

_VERSION = r"^v?[1-9][0-9]{0,8}$"

UserInPath = Annotated[
    str, Path(pattern=r"^(_default|[A-Za-z0-9]([A-Za-z0-9_.-]{0,62}[A-Za-z0-9])?)$", examples=["user123"])
]
ModalityInPath = Annotated[str, Path(pattern=f"^{MODALITY_PATTERN}$", examples=["gesture"])]  # or an alias, as `audio`
VersionInPath = Annotated[str, Path(pattern=_VERSION, examples=["v1"])]
VersionInQuery = Annotated[str, Query(pattern=_VERSION, examples=["v1"])]
HashInPath = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]
UploadInPath = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
RoleInPath = Annotated[str, Path(pattern=r"^[a-z_]{1,32}$", examples=["model"])]
StoredFileInPath = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$", examples=["manifest.json"])]
FileInPath = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", examples=["encoder.json"])]
