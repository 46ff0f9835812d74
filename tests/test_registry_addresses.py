"""Every `--registry` of the project takes the same addresses, and refuses the same ones in one line."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from demo.make_data import PEOPLE, SESSIONS, write_session
from docs.generate import commands
from model_registry.commands import options
from model_registry.storage.tokens import add_token, tokens_file
from model_registry.store import Registry
from shared.commands.main import run
from tests.model_registry.bundles import all_bytes, make_bundle
from tests.model_registry.nobody import allow_everything, as_nobody, folder_for_everybody
from tests.model_registry.service.serving import served

USER = PEOPLE[0].user_id
SLOT = ("user123", "gesture")
TRAINERS = ("gesture-train", "sound-train", "speech-train", "visual-train")
# Arguments with which each command gets as far as its registry; {} are files made for it.
ARGUMENTS: dict[str, list[str]] = {
    "model-trainer registry publish": ["{bundle}"],
    "model-trainer registry restore": ["{tar}"],
    "model-trainer registry resolve": [*SLOT],
    "model-trainer registry list": [],
    "model-trainer registry show": [*SLOT, "v1"],
    "model-trainer registry diff": [*SLOT, "v1", "v2"],
    "model-trainer registry verify": [],
    "model-trainer registry export": [*SLOT, "{target}"],
    "model-trainer registry promote": [*SLOT, "v1"],
    "model-trainer registry rollback": [*SLOT, "--reason", "x"],
    "model-trainer registry archive": [*SLOT, "v1"],
    "model-trainer registry erase": ["user123", "--reason", "x", "--yes"],
    "model-trainer registry gc": [],
    "model-trainer registry doctor": [],
    "model-trainer registry reindex": [],
    "model-trainer registry protect": [],
    "model-trainer registry serve": [],
    "model-trainer registry token add": ["name", "--scope", "read"],
    "model-trainer registry token list": [],
    "model-trainer registry token remove": ["name"],
    "model-trainer registry key sign": [*SLOT, "v1"],
    "model-trainer registry key forget": [*SLOT],
    "model-trainer erase": ["user123", "--reason", "x", "--yes", "--no-cache"],
    "model-trainer readmit": ["user123", "--reason", "x"],
    "model-trainer predict": ["--user", "user123", "--modality", "gesture", "{bundle}/model.onnx"],
    "model-trainer evaluate": ["--user", "user123", "--modality", "gesture", "{bundle}/model.onnx"],
    "model-trainer field": ["--data", "{data}"],
    "model-trainer check": ["{data}", "--user", "user123", "--html", "{target}"],
    "model-trainer reproduce": ["--user", "user123", "--modality", "gesture", "--data", "{data}"],
    "model-trainer batch": ["--data", "{data}", "--runs", "{runs}"],
    "model-trainer upload": ["{bundles}"],
    **{name: ["--user", "user123", "--data", "{data}", "--out", "{runs}"] for name in TRAINERS},
}
FOLDER_ONLY = {"model-trainer readmit"} | {
    f"model-trainer registry {name}"
    for name in ("protect", "serve", "token add", "token list", "token remove", "key sign")
}
READING = {
    f"model-trainer registry {name}" for name in ("resolve", "list", "show", "diff", "verify", "export", "key forget")
} | {
    "model-trainer check",
    "model-trainer evaluate",
    "model-trainer field",
    "model-trainer predict",
    "model-trainer reproduce",
}


def registry_options() -> dict[str, click.Option]:
    """Return the option `--registry` of every command that has one."""
    return {
        context.command_path: option
        for context in commands()
        for option in context.command.params
        if isinstance(option, click.Option) and "--registry" in option.opts
    }


def invoke(path: str, words: list[str]) -> Result:
    """Run a command by its path as its console script does."""
    root, _, rest = path.partition(" ")
    grouped = root == "model-trainer"
    command = next(context.command for context in commands() if context.command_path == (root if grouped else path))
    words = [*rest.split(), *words] if grouped else words

    @click.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
    @click.pass_context
    def script(context: click.Context) -> None:
        context.exit(run(lambda: command(words, standalone_mode=False)))

    return CliRunner().invoke(script, [])


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Files that commands take besides the registry."""
    bundle = make_bundle(tmp_path / "bundles")
    store = Registry(tmp_path / "source")
    store.publish(bundle)
    store.export(*SLOT, tmp_path / "version.tar", form="tar")
    shutil.rmtree(store.root)
    (tmp_path / "data").mkdir()
    names = {"target": "out.tar", "tar": "version.tar", "data": "data", "runs": "runs", "bundles": "bundles"}
    return {"bundle": str(bundle), **{key: str(tmp_path / name) for key, name in names.items()}}


def words_for(path: str, files: dict[str, str], address: str) -> list[str]:
    return [*(word.format(**files) for word in ARGUMENTS[path]), "--registry", address]


def test_every_command_has_the_one_option() -> None:
    found = registry_options()
    assert found.keys() == ARGUMENTS.keys()
    for path, option in found.items():
        assert isinstance(option.callback, functools.partial) and option.callback.func is options._opened, path
        kind = "folder" if path in FOLDER_ONLY else "read" if path in READING else "write"
        assert option.callback.args == (kind,), path
        assert ("http" in (option.help or "")) == (kind != "folder"), path


def a_file(root: Path) -> Path:
    (root / "file").write_text("x")
    return root / "file"


def below_a_file(root: Path) -> Path:
    return a_file(root) / "registry"


def in_proc(root: Path) -> Path:
    return Path("/proc/registry")


@pytest.mark.parametrize("place", [a_file, below_a_file, in_proc])
@pytest.mark.parametrize("path", ARGUMENTS)
def test_what_cannot_be_a_registry_is_one_line_and_leaves_nothing(
    path: str, place: Callable[[Path], Path], files: dict[str, str], tmp_path: Path
) -> None:
    address = str(place(tmp_path))
    before = all_bytes(tmp_path)
    result = invoke(path, words_for(path, files, address))
    assert_refused(path, result, address)
    failures = {name: data for name, data in all_bytes(tmp_path).items() if name.startswith("runs/failures/")}
    assert all_bytes(tmp_path) == before | failures and len(failures) == (path in TRAINERS)
    assert not [item for item in tmp_path.rglob("*") if item.name.startswith(".")]


def assert_refused(path: str, result: Result, address: str) -> None:
    assert result.exit_code == 2, (path, result.output)
    lines = [line for line in result.stderr.splitlines() if not line.startswith("{")]  # a trainer's progress aside
    assert len(lines) == 1 and address in lines[0], (path, result.stderr)
    assert "Traceback" not in result.stderr
    if path in TRAINERS:
        assert json.loads(result.stdout)["status"] == "failure"
    else:
        assert result.stdout == ""


@pytest.mark.slow
def test_a_folder_without_permission_is_one_line(files: dict[str, str], tmp_path: Path) -> None:
    with folder_for_everybody() as place:
        shutil.copytree(tmp_path, place / "files")
        files = {key: value.replace(str(tmp_path), str(place / "files")) for key, value in files.items()}
        (place / "locked" / "registry").mkdir(parents=True)
        (place / "file").touch()
        for path in ARGUMENTS:  # refused, too, after importing what the user without rights may not be able to read
            invoke(path, words_for(path, files, str(place / "file")))
        allow_everything(place)
        (place / "locked").chmod(0)
        address = str(place / "locked" / "registry")

        def attempt() -> str:
            for path in ARGUMENTS:
                if path != "model-trainer registry key forget":  # it opens no registry
                    assert_refused(path, invoke(path, words_for(path, files, address)), address)
            return "all refused"

        assert as_nobody(attempt) == "all refused"
        (place / "locked").chmod(0o700)


@pytest.mark.parametrize("address", ["http://", "nonsense://x", "s3://bucket/models", ""])
@pytest.mark.parametrize("path", ARGUMENTS)
def test_a_url_that_leads_nowhere_is_a_usage_error(path: str, address: str, files: dict[str, str]) -> None:
    result = invoke(path, words_for(path, files, address))
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.stderr and address in result.stderr


def test_urls_need_packages_and_say_which(monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> None:
    for module in ("model_registry.client", "model_registry.mirror"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    for address in ("http://registry:8077", "memory://models"):
        result = invoke("model-trainer registry list", ["--registry", address])
        assert result.exit_code == 2 and "pip install 'model-trainer[serve]'" in result.stderr


def test_without_the_option_the_registry_is_in_the_users_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]
) -> None:
    monkeypatch.delenv("MODEL_TRAINER_REGISTRY", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.chdir(tmp_path)
    published = invoke("model-trainer registry publish", [files["bundle"]])
    assert published.exit_code == 0, published.output
    assert (tmp_path / "share/model-trainer/registry/registry.json").is_file()
    monkeypatch.setenv("MODEL_TRAINER_REGISTRY", str(tmp_path / "other"))
    assert str(tmp_path / "other") in invoke("model-trainer registry list", []).stderr


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for session in SESSIONS:
        write_session(root, PEOPLE[0], session, 0)
    return root


@pytest.mark.slow
def test_training_predicting_and_reproducing_work_through_a_service_and_a_mirror(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Registry(tmp_path / "models")
    monkeypatch.setenv("MODEL_TRAINER_TOKEN", add_token(tokens_file(store.created()), "all", ("read", "publish")))
    user = ["--user", USER, "--modality", "gesture"]
    features = str(next((data / "users").glob("*/sessions/*/features/*.npz")))

    def done(path: str, words: list[Any]) -> str:
        result = invoke(path, [str(word) for word in words])
        assert result.exit_code == 0, result.output
        return result.stdout

    with served(store) as url:
        words = ["--user", USER, "--data", data, "--demo-data", "--set", "evaluation.folds=2"]
        entry = json.loads(done("gesture-train", [*words, "--out", tmp_path / "out", "--registry", url]))
        assert entry["model_version"] == "v1" and entry["status"] == "success"
        for address in (url, store.root.as_uri(), str(store.root)):
            line = json.loads(done("model-trainer predict", [*user, "--registry", address, features]))
            assert (line["model_version"], line["fallback"]) == ("v1", False)
            same = done("model-trainer reproduce", [*user, "--registry", address, "--data", data])
            assert f"{USER}/gesture v1: byte-identical" in same
        uploaded = done("model-trainer upload", [tmp_path / "out", "--registry", url])
        assert "was published before as" in uploaded


@pytest.mark.parametrize("place", [a_file, below_a_file, in_proc])
@pytest.mark.parametrize("path", TRAINERS)
def test_a_folder_for_bundles_that_cannot_be_made_is_one_line(
    path: str, place: Callable[[Path], Path], files: dict[str, str], tmp_path: Path
) -> None:
    address = str(place(tmp_path))
    before = all_bytes(tmp_path)
    assert_refused(path, invoke(path, ["--user", "user123", "--data", files["data"], "--out", address]), address)
    assert all_bytes(tmp_path) == before


@pytest.mark.parametrize("place", [below_a_file, in_proc])
def test_a_target_that_cannot_be_written_is_one_line(
    place: Callable[[Path], Path], files: dict[str, str], tmp_path: Path
) -> None:
    registry = ["--registry", str(tmp_path / "models")]
    assert invoke("model-trainer registry publish", [files["bundle"], *registry]).exit_code == 0
    address = str(place(tmp_path))
    before = all_bytes(tmp_path)
    for name, words in (
        ("export", [*SLOT, address, "--form", "tar"]),
        ("export", [*SLOT, address, "--form", "onnx"]),
        ("resolve", [*SLOT, "--into", address]),
    ):
        path = f"model-trainer registry {name}"
        assert_refused(path, invoke(path, [*words, *registry]), address)
    assert all_bytes(tmp_path) == before


@pytest.mark.parametrize("place", [a_file, below_a_file, in_proc])
def test_a_run_folder_that_cannot_be_made_is_one_line(
    place: Callable[[Path], Path], files: dict[str, str], tmp_path: Path
) -> None:
    address = str(place(tmp_path))
    words = ["--data", files["data"], "--runs", address, "--registry", str(tmp_path / "models")]
    result = invoke("model-trainer batch", words)
    assert result.exit_code == 2 and address in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "models").exists()
