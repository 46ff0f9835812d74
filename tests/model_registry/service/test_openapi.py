"""Requests made from the OpenAPI document, and hostile variants of them, find no server error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from model_registry.service.limits import Limits
from model_registry.service.server import create_app
from model_registry.storage.tokens import add_token, tokens_file
from model_registry.store import Registry
from tests.model_registry.bundles import make_bundle

pytestmark = pytest.mark.slow
KNOWN = {"user": "user123", "modality": "gesture", "version": "v1", "role": "model"}
CHECKS = [not_a_server_error, status_code_conformance, response_schema_conformance]


@pytest.fixture
def document(tmp_path: Path) -> Any:
    """The document of a service that holds two versions, and a token that may do everything."""
    store = Registry(tmp_path / "registry")
    for run in ("r1", "r2"):
        store.publish(make_bundle(tmp_path, run=run))
    secret = add_token(tokens_file(store.root), "admin", ("admin",))
    app = create_app(store, limits=Limits(requests_a_minute=10**7))
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    schema.config.update(headers={"Authorization": f"Bearer {secret}"})
    return schema


def test_no_request_brings_the_service_down(document: Any) -> None:
    operations = [found.ok() for found in document.get_all_operations()]
    assert len(operations) > 20
    for operation in operations:

        @settings(max_examples=15, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def answers(case: Any) -> None:
            case.call_and_validate(checks=CHECKS)
            if "erase" not in case.path and set(case.path_parameters or {}) & set(KNOWN):
                case.path_parameters = {name: KNOWN.get(name, v) for name, v in case.path_parameters.items()}
                case.call_and_validate(checks=CHECKS)

        answers()
