"""`model-trainer registry …`: every command, what scripts get, and how refusals end."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from model_registry.commands.main import registry
from model_registry.storage import durable
from model_registry.store import Registry
from tests.model_registry.bundles import make_bundle


def call(root: Path, *words: str, code: int = 0, typed: str | None = None) -> Result:
    result = CliRunner().invoke(registry, [*words, "--registry", str(root)], input=typed)
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for run in ("r1", "r2"):
        call(tmp_path / "reg", "publish", str(make_bundle(tmp_path, run=run)))
    return tmp_path / "reg"


def test_publish_names_the_version_and_says_so_again(root: Path, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, run="r3")
    first = json.loads(call(root, "publish", str(bundle), "--json").stdout)
    again = json.loads(call(root, "publish", str(bundle), "--json").stdout)
    assert first == again | {"created": True} and first["model_version"] == "v3"
    assert "was published before" in call(root, "publish", str(bundle)).stdout


def _log_with_errors(wrong: int) -> dict[str, object]:
    """Return a training log of 40 samples, of which the first so many were predicted wrongly."""
    return {"metrics": {"predictions": [[f"r{k}", "a", "b" if k < wrong else "a"] for k in range(40)]}}


def test_a_worse_version_stays_a_candidate_unless_requested(tmp_path: Path) -> None:
    root = tmp_path / "reg"

    def published(run: str, wrong: int, *words: str) -> Result:
        return call(root, "publish", str(make_bundle(tmp_path, run=run, log=_log_with_errors(wrong))), *words)

    assert "v1 published (active)" in published("r1", 0).stdout
    worse = published("r2", 20)
    assert "v2 published (candidate: it recognises a less often than the active version" in worse.stdout
    assert "v3 published (candidate: requested" in published("r3", 0, "--promote", "never").stdout
    assert "v4 published (active)" in published("r4", 30, "--promote", "always").stdout
    old = published("r5", 0, "--no-promote")
    assert "v5 published (candidate" in old.stdout and "write --promote never" in old.stderr
    assert "v6 published (active)" in published("r6", 40, "--promote").stdout, "the option without a value, as before"


def test_resolve_gives_scripts_the_paths(root: Path) -> None:
    answer = json.loads(call(root, "resolve", "user123", "gesture", "--json").stdout)
    assert Path(answer["files"]["model"]).name == "gesture_model_user123_v2.onnx"
    assert answer["fallback"] is False and answer["entry"]["status"] == "active"
    assert "v1 (archived)" in call(root, "resolve", "user123", "gesture", "--version", "v1").stdout


def test_list_filters_and_prints_one_entry_a_line(root: Path) -> None:
    lines = call(root, "list", "--json").stdout.splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["archived", "active"]
    table = call(root, "list", "--status", "active").stdout
    assert "v2" in table and "v1" not in table
    assert call(root, "list", "--user", "nobody", "--json").stdout == ""


def test_show_gives_the_history_and_diff_speaks_to_people(root: Path, tmp_path: Path) -> None:
    assert (
        json.loads(call(root, "show", "user123", "gesture", "v1", "--json").stdout)["history"][0]["event"] == "publish"
    )
    metrics = {"accuracy": 0.95, "accuracy_low": 0.9, "accuracy_high": 0.98}
    log = {"timeline": [{"session_id": "sess_1", "samples": 60}, {"session_id": "sess_4", "samples": 20}]}
    bundle = make_bundle(
        tmp_path, run="r3", log=log, metrics=metrics, example_count=80, labels=["drink", "go"], verdict="weak"
    )
    call(root, "publish", str(bundle))
    log = {"timeline": [{"session_id": "sess_1", "samples": 60}]}
    call(root, "publish", str(make_bundle(tmp_path, run="r4", log=log)))
    assert "examples of sess_4 │ 20 " in call(root, "diff", "user123", "gesture", "v3", "v4").stdout
    table = call(root, "diff", "user123", "gesture", "v1", "v3").stdout
    rows = {
        cells[1].strip(): [c.strip() for c in cells[2:5]]
        for cells in (r.split("│") for r in table.splitlines())
        if len(cells) > 4
    }
    assert rows["accuracy"] == ["0.910", "0.950 (0.900 to 0.980)", "+0.040"]
    assert rows["verdict"] == ["good", "weak", ""] and rows["examples"] == ["60", "80", "+20"]
    assert rows["labels gained"][1] == "go" and rows["labels lost"][0] == "stop, très"
    assert "accuracy_low" not in rows
    assert not [name for name in rows if name.startswith("examples of")], "the log of v1 does not say"
    assert json.loads(call(root, "diff", "user123", "gesture", "v1", "v2", "--json").stdout)["labels_lost"] == []


def test_promote_rollback_archive(root: Path) -> None:
    assert "v1 is active (before: v2)" in call(root, "promote", "user123", "gesture", "v1").stdout
    assert "v2 is active again" in call(root, "rollback", "user123", "gesture", "--reason", "worse").stdout
    call(root, "archive", "user123", "gesture", "v1")
    assert "is active" in call(root, "archive", "user123", "gesture", "v2", code=3).stderr
    call(root, "rollback", "user123", "gesture", code=2)


def test_verify_ends_with_three_and_names_the_file(root: Path) -> None:
    assert "2 checked, 0 differ" in call(root, "verify").stdout
    call(root, "verify", "user123", "gesture", "v1")
    model = root / "users/user123/gesture/v1/gesture_model_user123_v1.onnx"
    model.write_bytes(b"other")
    assert model.name in call(root, "verify", code=3).stderr
    assert model.name in call(root, "verify", "user123", "gesture", "v1", code=3).stderr
    assert json.loads(call(root, "verify", "--json", code=3).stdout)["checked"] == 2


def test_export_asks_for_a_form_it_knows(root: Path, tmp_path: Path) -> None:
    call(root, "export", "user123", "gesture", str(tmp_path / "out.tar"))
    assert (tmp_path / "out.tar").stat().st_size > 0
    assert ".tar or .onnx" in call(root, "export", "user123", "gesture", str(tmp_path / "out.zip"), code=2).stderr


def test_erase_asks_first(root: Path) -> None:
    call(root, "erase", "user123", "--reason", "asked for", code=1, typed="n\n")
    assert Registry(root).resolve("user123", "gesture").version == 2
    assert "removed 2 versions" in call(root, "erase", "user123", "--reason", "asked for", "--yes").stdout
    call(root, "resolve", "user123", "gesture", code=3)


def test_gc_doctor_reindex(root: Path) -> None:
    assert "would remove user123/gesture v1" in call(root, "gc", "--keep", "0", "--dry-run").stdout
    assert "removed user123/gesture v1" in call(root, "gc", "--keep", "0").stdout
    (root / "model_registry.jsonl").write_text("")
    assert "rebuilt" in call(root, "reindex").stdout
    assert "0 found" in call(root, "doctor").stdout
    (root / "users/user123/gesture/history.jsonl").write_text("?\n")
    assert "NOT MENDED" in call(root, "doctor", code=3).stdout


def test_refusals_are_one_line_and_no_traceback(root: Path, tmp_path: Path) -> None:
    for words, code in (
        (("resolve", "../etc", "gesture"), 2),
        (("resolve", "user123", "../gesture"), 2),
        (("resolve", "user123", "smell"), 3),
        (("show", "user123", "gesture", "v0"), 2),
        (("resolve", "nobody", "gesture"), 3),
        (("show", "user123", "gesture", "v99"), 3),
    ):
        result = call(root, *words, code=code)
        assert result.stderr.startswith("error: ") and len(result.stderr.splitlines()) == 1
    assert "no registry here" in call(tmp_path / "nothing", "list", code=2).stderr


def test_every_command_has_a_help_with_an_example() -> None:
    assert len(registry.commands) == 19
    for name, command in registry.commands.items():
        assert f"model-trainer registry {name}" in (command.help or ""), name


def test_a_token_is_printed_once_and_listed_by_name(root: Path) -> None:
    secret = call(root, "token", "add", "trainer", "--scope", "publish", "--scope", "read").stdout.strip()
    assert len(secret) > 40
    listed = call(root, "token", "list").stdout
    assert listed.startswith("trainer  publish,read  20") and secret not in listed
    assert "exists" in call(root, "token", "add", "trainer", "--scope", "read", code=3).stderr
    call(root, "token", "remove", "trainer")
    assert call(root, "token", "list").stdout == ""
    call(root, "token", "remove", "trainer", code=3)
    call(root, "token", "add", "trainer", "--scope", "everything", code=2)


def test_what_a_bundle_says_does_not_command_a_terminal(tmp_path: Path) -> None:
    """ESC and the C1 controls, which JSON allows, begin commands to a terminal."""
    store = Registry(tmp_path / "registry")
    hostile = "good\x1b[2J\x9b31m"
    for run, verdict in (("r1", "good"), ("r2", hostile)):
        store.publish(make_bundle(tmp_path, run=run, verdict=verdict, metrics={"accuracy\x1b]0;x\x07": 0.5}))
    for words in (
        ["list"],
        ["list", "--json"],
        ["show", "user123", "gesture", "v2"],
        ["show", "user123", "gesture", "v2", "--json"],
        ["diff", "user123", "gesture", "v1", "v2"],
        ["diff", "user123", "gesture", "v1", "v2", "--json"],
        ["resolve", "user123", "gesture", "--json"],
    ):
        result = CliRunner().invoke(registry, [*words, "--registry", str(store.root)])
        assert result.exit_code == 0, (words, result.output)
        assert not [c for c in result.output if not c.isprintable() and c != "\n"], words
    shown = CliRunner().invoke(registry, ["show", "user123", "gesture", "v2", "--json", "--registry", str(store.root)])
    assert json.loads(shown.output)["entry"]["verdict"] == hostile


def test_a_lock_that_is_held_too_long_is_an_error_that_says_by_whom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "LOCK_SECONDS", 0.1)
    store = Registry(tmp_path / "registry")
    store.publish(make_bundle(tmp_path))
    words = ["archive", "user123", "gesture", "v1", "--withdraw", "--registry", str(store.root)]
    with durable.locked(store.root / "users/user123/gesture"):
        result = CliRunner().invoke(registry, words)
    assert result.exit_code == 3 and f"locked by process {os.getpid()} (" in result.output
    assert CliRunner().invoke(registry, words).exit_code == 0
