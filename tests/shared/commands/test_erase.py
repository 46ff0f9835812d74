"""One person's world with every store in it: afterwards nothing of them is left, and nothing comes back."""

from __future__ import annotations

import html
import json
import os
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import numpy as np
import pytest
from click.testing import CliRunner, Result

from model_registry.commands.main import registry as registry_command
from model_registry.errors import ErasedError, MlflowError
from model_registry.storage import uploads
from model_registry.storage.copies import copies_file, record_copy
from model_registry.store import Registry
from orchestrator.jobs import Job, Outcome
from orchestrator.registry_uploader import main as uploader
from orchestrator.run_folder import RunFolder
from shared.commands.check import check_command
from shared.commands.data import data_group
from shared.commands.erase import erase_command, readmit_command
from shared.commands.import_data import import_command
from shared.data import erasure
from shared.features.cache import FeatureCache
from shared.packaging.output import write_failure
from tests.model_registry.bundles import make_bundle
from tests.model_registry.killing import changes, killed
from tests.shared.data.a3cp_folders import event, features_ready
from tests.shared.data.session_folders import features_row, row, session_folder
from tests.soak import SOAK, Tally

SECRET = "ana's own words"
WEIGHTS = b"weights fitted on ana's recordings"


class World:
    """A folder with a registry, data roots, runs, exports, a cache, a mirror and what killed commands left."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.registry = Registry(root / "registry")
        self.data, self.a3cp, self.runs, self.exports = (root / name for name in ("data", "a3cp", "runs", "exports"))
        self.mirror = root / "mirror"

    def command(self, *more: str) -> list[str]:
        return [
            *("ana", "--reason", "asked for", "--yes", "--registry", str(self.registry.root)),
            *("--data", str(self.data), "--data", str(self.a3cp), "--folder", str(self.runs)),
            *("--folder", str(self.exports), "--mirror", self.mirror.as_uri(), *more),
        ]

    def traces(self) -> list[str]:
        """Return every file that has the id in its path, or id, words or weights of the person in its content."""
        texts = (b'"ana"', b"_ana_", WEIGHTS, SECRET.encode())
        return [
            str(path.relative_to(self.root))
            for path in self.root.rglob("*")
            if "ana" in path.relative_to(self.root).parts
            or "_ana_" in path.name
            or (path.is_file() and any(text in path.read_bytes() for text in texts))
        ]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(tmp_path / "world")
    monkeypatch.setenv("MODEL_TRAINER_CACHE", str(world.root / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(world.root / "home"))
    temporary = world.root / "temporary"
    temporary.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    _record(world)
    _train(world)
    _copy(world, temporary)
    return world


def _record(world: World) -> None:
    for user in ("ana", "ben"):
        folder = session_folder(world.data, user)
        rows = [
            row(folder, f"{user}-1", "drink", transcript=SECRET if user == "ana" else "hello"),
            features_row(folder, f"{user}-2", "stop", np.full((3, 4), 0.5)),
        ]
        (folder / "examples.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
        log = world.a3cp / f"logs/users/{user}/sessions/sess_{user}.jsonl"
        log.parent.mkdir(parents=True)
        ready = features_ready(world.a3cp, f"{user}-3", f"sess_{user}", user=user)
        lines = ({"event": event(f"{user}-4", f"sess_{user}", user=user)}, {"event": ready})
        log.write_text("".join(json.dumps(line) + "\n" for line in lines))
        spoken = world.a3cp / f"logs/transcripts/session_sess_{user}.jsonl"
        spoken.parent.mkdir(parents=True, exist_ok=True)
        spoken.write_text(json.dumps({"user_id": user, "transcript": SECRET if user == "ana" else "hello"}) + "\n")


def _train(world: World) -> None:
    folder = RunFolder(world.runs)
    jobs = [Job(user=user, modality="gesture", data=str(world.data), fingerprint="f" * 64) for user in ("ana", "ben")]
    folder.begin({"data": str(world.data)}, jobs)
    for job in jobs:
        bundle = make_bundle(folder.bundles, user=job.user, run="r1", model=WEIGHTS if job.user == "ana" else b"ben's")
        folder.record("started", {"user": job.user, "modality": job.modality})
        folder.start_job(job, job.words(folder.bundles))
        folder.events(job.user, job.modality).write_text('{"event": "stage"}\n')
        outcome = Outcome(user=job.user, modality="gesture", run_id="r1", bundle=str(bundle))
        folder.finish_job(job, {"user_id": job.user}, outcome)
        folder.record("finished", outcome.model_dump())
        failed = {"modality": "gesture", "user_id": job.user, "run_id": "r0", "error_message": "no"}
        write_failure(folder.bundles, failed)
        world.registry.publish(bundle)
    folder.summary.write_text(json.dumps({"jobs": 2, "slowest": [{"user": job.user, "seconds": 1} for job in jobs]}))
    for run, users in (("p1", ["ben", "carla"]), ("p2", ["ana", "ben"])):
        model = WEIGHTS + b", and ben's" if "ana" in users else b"pooled"
        world.registry.publish(make_bundle(folder.bundles, user="_default", run=run, model=model, log={"users": users}))
    description = (folder.bundles / "gesture_ana_r1/bundle.json").read_bytes()
    uploads.begin(world.registry.root, description)


def _copy(world: World, temporary: Path) -> None:
    world.exports.mkdir()
    world.registry.export("ana", "gesture", world.exports / "backup.tar", form="tar")
    world.registry.export("ana", "gesture", world.exports / "model.onnx", form="onnx")
    world.registry.export("_default", "gesture", world.exports / "pooled.tar", form="tar")
    world.registry.export("ben", "gesture", world.exports / "ben.tar", form="tar")
    world.registry.fetch("ana", "gesture", world.exports / "copy")
    world.registry.fetch("_default", "gesture", temporary / "registry-killed")
    world.registry.fetch("ben", "gesture", temporary / "registry-ben")
    FeatureCache().put_many("spec", {"key": np.ones(3, np.float32)})
    fsspec.filesystem("file").put(f"{world.registry.root}/", str(world.mirror), recursive=True)


def erase(world: World, *more: str) -> Result:
    return CliRunner().invoke(erase_command, world.command(*more), standalone_mode=False)


def report(result: Result) -> dict[str, Any]:
    assert result.exception is None, (result.output, result.exception)
    value: dict[str, Any] = json.loads(result.output)
    return value


def test_nothing_of_the_person_is_left_anywhere_and_all_of_others_is(world: World) -> None:
    assert len(world.traces()) > 40
    ben = {str(path) for path in world.root.rglob("*") if "ben" in path.name and ".staging" not in str(path)}
    outcome = report(erase(world, "--json"))
    assert outcome["left"] == [] and world.traces() == []
    assert not list((world.root / "cache").glob("features.sqlite*"))
    assert {str(path) for path in world.root.rglob("*") if "ben" in path.name} == ben
    assert world.registry.resolve("ben", "gesture").version == 1
    assert world.registry.resolve("_default", "gesture").files["model"].read_bytes() == b"pooled"
    journal = [json.loads(line) for line in (world.runs / "journal.jsonl").read_text().splitlines()]
    assert [line.get("user") for line in journal] == [None, "ben", "ben"]
    assert [job["user"] for job in json.loads((world.runs / "run.json").read_text())["jobs"]] == ["ben"]
    assert json.loads((world.runs / "summary.json").read_text())["slowest"] == [{"user": "ben", "seconds": 1}]
    assert all(fault is None for _, fault in world.registry.verify_all()) and world.registry.doctor() == []


@pytest.fixture
def copied(world: World) -> Path:
    """A folder that no erasure is told of: commands exported models, and copied versions, into it."""
    place = world.root / "elsewhere"
    place.mkdir()
    root, mirror = str(world.registry.root), world.mirror.as_uri()
    for words in (
        *(
            ("export", user, "gesture", str(place / f"{user}.{form}"))
            for user in ("ana", "ben")
            for form in ("tar", "onnx")
        ),
        ("export", "_default", "gesture", str(place / "pooled.tar")),
        ("export", "_default", "gesture", str(place / "first.tar"), "--version", "v1"),
        ("resolve", "ana", "gesture", "--into", str(place / "copy")),
        ("resolve", "ben", "gesture", "--into", str(place / "copy")),
    ):
        assert CliRunner().invoke(registry_command, [*words, "--registry", root]).exit_code == 0, words
    words = ("resolve", "ana", "gesture", "--into", str(place / "of mirror"), "--registry", mirror)
    assert CliRunner().invoke(registry_command, words).exit_code == 0
    assert len((world.registry.root / "copies.jsonl").read_text().splitlines()) == 8
    return place


def test_an_erasure_finds_the_copies_that_commands_made(world: World, copied: Path) -> None:
    shutil.copytree(world.registry.root, world.mirror, dirs_exist_ok=True)
    outcome = report(erase(world, "--json"))
    assert outcome["left"] == [] and world.traces() == []
    names = sorted(path.name for path in copied.iterdir())
    assert names == ["ben.onnx", "ben.tar", "copy", "first.tar", "of mirror"]
    assert (copied / "copy/users/ben/gesture/v1/manifest.json").is_file()
    assert len((world.registry.root / "copies.jsonl").read_text().splitlines()) == 4
    assert all(fault is None for _, fault in world.registry.verify_all())


@pytest.mark.slow
def test_an_erasure_finds_what_was_exported_to_mlflow(world: World) -> None:
    pytest.importorskip("mlflow", reason="needs the extra mlflow")
    place, root = world.root / "mlflow", str(world.registry.root)
    words = ("export", "--mlflow", place.as_uri(), "--registry", root)
    assert CliRunner().invoke(registry_command, words).exit_code == 0
    assert [path.name for path in sorted((place / "models").iterdir())] == [
        "_default-gesture",
        "ana-gesture",
        "ben-gesture",
    ]
    shutil.copytree(world.registry.root, world.mirror, dirs_exist_ok=True)
    outcome = report(erase(world, "--json"))
    assert outcome["left"] == [] and world.traces() == []
    assert [path.name for path in sorted((place / "models").iterdir())] == ["_default-gesture", "ben-gesture"]
    assert len(list(place.rglob("MLmodel"))) == 2, "ben's, and the pooled one without ana"


@pytest.mark.parametrize("reason", ["", "does not respond"])
def test_what_an_mlflow_server_keeps_is_named(world: World, monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    run = "http://mlflow.example:5000/#/experiments/1/runs/abc"

    def remove_run(address: str) -> bool:
        assert address == run
        if reason:
            raise MlflowError(reason)
        return False

    monkeypatch.setattr(erasure, "remove_run", remove_run)
    record_copy(copies_file(world.registry.root), ["ana"], run)
    outcome = report(erase(world, "--json"))
    assert outcome["left"] == [
        f"{run}: a model was exported there: {reason}"
        if reason
        else f"{run}: deleted, but the server keeps the files until `mlflow gc --run-ids abc`"
    ]


def test_an_erasure_finds_the_pages_that_check_wrote(world: World, tmp_path: Path) -> None:
    """One lies where nobody names it, one was moved into a folder that is named."""
    place = world.root / "elsewhere"
    for target in (place, world.exports / "moved"):
        words = [str(world.data), "--html", str(target)]
        assert CliRunner().invoke(check_command, words).exit_code in (0, 3)
        assert html.escape(SECRET) in (target / "ana.html").read_text().replace("&#39;", "&#x27;")
    (world.exports / "moved/ana.html").rename(world.exports / "moved/page.html")
    outcome = report(erase(world, "--json"))
    assert outcome["left"] == [] and world.traces() == []
    assert [path.name for path in place.iterdir()] == ["ben.html"]
    assert [path.name for path in (world.exports / "moved").iterdir()] == ["ben.html"]
    assert "ana" not in (world.root / "home/model-trainer/copies.jsonl").read_text()


def test_copies_that_cannot_be_reached_or_are_others_now_are_named(world: World, copied: Path) -> None:
    (copied / "ana.tar").write_bytes(b"something else")
    copied.rename(copied.with_name("unplugged"))
    (copied / "copy").mkdir(parents=True)
    (copied / "ana.tar").write_bytes(b"something else")
    result = erase(world)
    assert result.return_value == 3
    assert "ana.tar: a copy was written there at" in result.output and "something else" in result.output
    assert "users/ana/gesture/v1: a copy was written there at" in result.output
    assert (copied / "ana.tar").is_file()
    assert CliRunner().invoke(registry_command, ["verify", "--registry", str(world.registry.root)]).exit_code == 0


def test_an_erasure_in_the_registry_alone_says_where_copies_are(world: World, copied: Path) -> None:
    erased = world.registry.erase("ana", "asked for")
    assert {Path(path).relative_to(copied).as_posix() for path in erased.copies} == {
        *("ana.tar", "ana.onnx", "pooled.tar", "copy/users/ana/gesture/v1")
    }
    assert world.registry.erase("ana", "asked for").copies == ()
    assert "ana" not in (world.registry.root / "copies.jsonl").read_text()


def test_an_erasure_takes_what_can_be_taken_back_of_corrections_and_imports(world: World, tmp_path: Path) -> None:
    """The journals of changes, and the files that removed samples had, are kept for `data undo`."""
    source = tmp_path / "words.csv"
    source.write_text(f"text,label\n{SECRET},greeting\n")
    data = ["--data", str(world.data), "--user", "ana"]
    for command, words in (
        (import_command, [str(source), *data, "--modality", "speech", "--consent", "--session", "s9", "--as-is"]),
        (data_group, ["relabel", *data, "--label", "drink", "water"]),
        (data_group, ["remove", *data, "--label", "stop"]),
    ):
        result = CliRunner().invoke(command, words, standalone_mode=False)
        assert result.exception is None and not result.return_value, (words, result.output, result.exception)
    kept = world.data / "users/ana/changes"
    assert len(list(kept.glob("*.json"))) == 3 and [path for path in kept.rglob("*") if path.suffix == ".npz"]
    assert report(erase(world, "--json"))["left"] == [] and world.traces() == []


def test_repeating_an_erasure_changes_nothing(world: World) -> None:
    report(erase(world, "--json"))
    before = {str(path): path.read_bytes() for path in world.root.rglob("*") if path.is_file()}
    assert report(erase(world, "--json"))["left"] == []
    assert {str(path): path.read_bytes() for path in world.root.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_an_erasure_killed_anywhere_is_completed_by_the_next(world: World, tmp_path: Path, tally: Tally) -> None:
    shutil.copytree(world.root, tmp_path / "prepared")

    def act() -> object:
        return erase_command.main(world.command(), standalone_mode=False)

    def fresh() -> None:
        shutil.rmtree(world.root)
        shutil.copytree(tmp_path / "prepared", world.root)

    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    names = changes(act)
    assert len(names) > 60
    places = range(0, len(names), 1 if SOAK else 7)
    for at in places:
        fresh()
        killed(act, at, False)
        report(erase(world, "--json"))
        assert world.traces() == [], (at, names[at])
    tally("kills", len(places))


@pytest.mark.slow
def test_what_was_erased_is_neither_published_uploaded_nor_imported_until_readmitted(
    world: World, tmp_path: Path
) -> None:
    shutil.copytree(world.runs, tmp_path / "old_runs")
    recordings = tmp_path / "recordings.csv"
    recordings.write_text("label,text\ndrink,hello\nstop,no\n")
    report(erase(world, "--json"))
    words = [str(tmp_path / "old_runs"), "--registry", str(world.registry.root)]
    uploaded = CliRunner().invoke(uploader, words)
    assert uploaded.exit_code == 3 and uploaded.output.count("was erased on") == 2
    importing = [str(recordings), "--data", str(world.data), "--modality", "speech", "--user", "ana", "--consent"]
    with pytest.raises(ErasedError, match="was erased on"):
        CliRunner().invoke(import_command, [*importing, "--session", "s1"], catch_exceptions=False)
    assert world.traces() == []
    options = ["ana", "--reason", "signed again", "--registry", str(world.registry.root), "--data", str(world.data)]
    assert CliRunner().invoke(readmit_command, options).exit_code == 0
    assert CliRunner().invoke(import_command, [*importing, "--session", "s1"]).exit_code == 0
    assert CliRunner().invoke(uploader, words).exit_code == 0


def test_pooled_models_are_trained_again_without_the_person(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.registry.publish(
        make_bundle(world.runs / "bundles", user="_default", run="p3", log={"users": ["ana", "ben", "carla"]})
    )
    jobs: list[Any] = []

    def train(job: Any, config: object) -> SimpleNamespace:
        jobs.append(job)
        bundle = make_bundle(job.out, user="_default", run=job.run_id, model=b"again", log={"users": list(job.users)})
        return SimpleNamespace(bundle=SimpleNamespace(folder=bundle))

    monkeypatch.setattr("shared.recipe.load_recipe", lambda trainer: SimpleNamespace(config=None, train=train))
    monkeypatch.setattr("shared.config.parse_config", lambda *arguments: None)
    words = ["ana", "--reason", "asked for", "--yes", "--registry", str(world.registry.root), "--data", str(world.data)]
    result = CliRunner().invoke(erase_command, [*words, "--retrain-pooled", "--json"], standalone_mode=False)
    assert "trained again without them as v4" in " ".join(report(result)["removed"])
    assert [job.users for job in jobs] == [("ben", "carla")]
    assert world.registry.resolve("_default", "gesture").files["model"].read_bytes() == b"again"


def test_a_place_that_cannot_be_cleared_is_named_and_the_others_are(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = CliRunner().invoke(
        erase_command, [*world.command("--json"), "--mirror", "nowhere://bucket"], standalone_mode=False
    )
    assert outcome.return_value == 3
    value = report(outcome)
    assert len(value["left"]) == 1 and "nowhere://bucket" in value["left"][0] and world.traces() == []


@pytest.mark.parametrize("user", ["gesture", "model", "drink", "a", "users", "bundles"])
def test_an_id_that_is_a_word_takes_nothing_from_others(world: World, user: str) -> None:
    """Labels, modalities and names of files and folders may be somebody's id."""
    before = {str(path): path.read_bytes() for path in world.root.rglob("*") if path.is_file()}
    words = ["--reason", "asked for", "--yes", "--no-cache", "--json", "--registry", str(world.registry.root)]
    words += [
        "--data",
        str(world.data),
        "--data",
        str(world.a3cp),
        "--folder",
        str(world.runs),
        "--folder",
        str(world.exports),
    ]
    report(CliRunner().invoke(erase_command, [user, *words, "--mirror", world.mirror.as_uri()], standalone_mode=False))
    after = {str(path): path.read_bytes() for path in world.root.rglob("*") if path.is_file()}
    kept = {path: data for path, data in before.items() if "/mirror/uploads/" not in path}
    assert kept.items() <= after.items()
    assert {Path(path).name for path in after.keys() - kept.keys()} == {"tombstones.jsonl"}


def test_the_name_of_a_user_within_a_word_is_nobody(world: World) -> None:
    bundle = make_bundle(world.runs / "bundles", user="anabel", run="r1")
    world.registry.publish(bundle)
    report(erase(world, "--json"))
    assert bundle.is_dir() and world.registry.resolve("anabel", "gesture").version == 1
