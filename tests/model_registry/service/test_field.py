"""`registry serve --field`: what versions do in use, on their pages and as totals in /metrics."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fastapi.testclient import TestClient

from model_registry.commands.service import serve
from model_registry.service.server import create_app
from model_registry.storage.tokens import add_token, tokens_file
from model_registry.store import Registry
from tests.model_registry.bundles import make_bundle

PAGE = "/users/user123/gesture/v1"


def line(accuracy: float | None, high: float, *, promised: float | None = 0.8, **fields: Any) -> dict[str, Any]:
    """What `model-trainer field --json` prints of a version, as far as the service reads it."""
    total = {"decisions": 55, "right": 40, "corrected": 10, "rejected": 5, "not_trained": 0, "accuracy": accuracy}
    return {
        "user_id": "user123",
        "modality": "gesture",
        "model_version": "v1",
        "promised": {"accuracy": promised, "rejection": 0.2},
        "total": total | {"accuracy_interval": [0.6, high], "rejection": 0.1},
        "drifts": [],
    } | fields


@pytest.fixture
def page(tmp_path: Path) -> Callable[[list[dict[str, Any]]], TestClient]:
    """What serves a registry with one version and a file of these lines."""
    store = Registry(tmp_path / "models")
    store.publish(make_bundle(tmp_path / "out"))
    secret = add_token(tokens_file(store.root), "reader", ("read",))

    def client(lines: list[dict[str, Any]]) -> TestClient:
        write(tmp_path / "field.jsonl", lines)
        app = create_app(store, field=tmp_path / "field.jsonl")
        return TestClient(app, headers={"Authorization": f"Bearer {secret}"})

    return client


def write(path: Path, lines: list[dict[str, Any]]) -> None:
    new = path.with_suffix(".new")
    new.write_text("".join(json.dumps(one) + "\n" for one in lines))
    new.replace(path)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (line(0.8, 0.9), "Its training promised at least 80%: that was kept."),
        (line(0.75, 0.85), "Its training promised at least 80%. It was less, but that may be chance."),
        (line(0.7, 0.79), "Its training promised at least 80%: that was not kept."),
    ],
)
def test_the_page_of_a_version_says_whether_the_promise_was_kept(
    row: dict[str, Any], sentence: str, page: Callable[[list[dict[str, Any]]], TestClient]
) -> None:
    text = page([row]).get(PAGE).text
    assert "In use" in text and "of 50 predictions that it did not reject were right" in text
    assert sentence in text
    assert sum(other in text for other in ("that was kept", "may be chance", "that was not kept")) == 1
    assert "record new sessions" not in text


def test_a_drift_that_lasts_is_said_and_one_that_passed_is_not(
    page: Callable[[list[dict[str, Any]]], TestClient],
) -> None:
    lasting, passed = ({"figure": "accuracy", "lasts": lasts} for lasts in (True, False))
    assert "It became worse and has stayed so" in page([line(0.7, 0.79, drifts=[passed, lasting])]).get(PAGE).text
    assert "It became worse" not in page([line(0.7, 0.79, drifts=[passed])]).get(PAGE).text


@pytest.mark.parametrize("rows", [[], [line(None, 1.0)], [line(0.8, 0.9, model_version="v2")]])
def test_nothing_is_said_of_a_version_without_predictions(
    rows: list[dict[str, Any]], page: Callable[[list[dict[str, Any]]], TestClient]
) -> None:
    answer = page(rows).get(PAGE)
    assert answer.status_code == 200 and "In use" not in answer.text


def test_without_a_promise_the_figure_stands_alone(page: Callable[[list[dict[str, Any]]], TestClient]) -> None:
    text = page([line(0.8, 0.9, promised=None)]).get(PAGE).text
    assert "of 50 predictions" in text and "promised" not in text


def test_metrics_are_totals_that_name_nobody(page: Callable[[list[dict[str, Any]]], TestClient]) -> None:
    drifting = line(0.7, 0.79, model_version="v2", drifts=[{"lasts": True}])
    text = page([line(0.8, 0.9), drifting]).get("/metrics").text
    assert 'registry_field_predictions{result="right"} 80.0' in text
    assert 'registry_field_predictions{result="corrected"} 20.0' in text
    assert 'registry_field_predictions{result="rejected"} 10.0' in text
    assert "registry_field_versions 2.0" in text and "registry_field_drifting_versions 1.0" in text
    assert "user123" not in text


def test_a_new_file_is_read_and_a_damaged_one_leaves_what_was_read(
    page: Callable[[list[dict[str, Any]]], TestClient], tmp_path: Path
) -> None:
    client = page([line(0.8, 0.9)])
    assert "that was kept" in client.get(PAGE).text
    write(tmp_path / "field.jsonl", [line(0.7, 0.79)])
    assert "that was not kept" in client.get(PAGE).text
    write(tmp_path / "field.jsonl", [line(0.8, 0.9), {"user_id": "user123"}])
    assert "that was not kept" in client.get(PAGE).text
    (tmp_path / "field.jsonl").unlink()
    assert "that was not kept" in client.get(PAGE).text


def test_a_service_without_the_file_has_none_of_this(tmp_path: Path) -> None:
    store = Registry(tmp_path / "models")
    store.publish(make_bundle(tmp_path / "out"))
    assert "registry_field" not in TestClient(create_app(store)).get("/metrics").text


def test_a_file_of_something_else_is_refused_before_anything_is_served(tmp_path: Path) -> None:
    store = Registry(tmp_path / "models")
    store.publish(make_bundle(tmp_path / "out"))
    (tmp_path / "field.jsonl").write_text(json.dumps(line(0.8, 0.9)) + '\n{"user_id": "anna"}\n')
    given = ["--registry", str(store.root), "--field", str(tmp_path / "field.jsonl")]
    done = CliRunner().invoke(serve, given)
    assert done.exit_code != 0
    assert "field.jsonl:2: modality: " in done.output and "model-trainer field --json" in done.output
