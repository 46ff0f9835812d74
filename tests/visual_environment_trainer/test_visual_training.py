"""Visual models: from images and videos to a published version and its predictions, with and without an encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_registry.store import Registry
from shared.commands.main import run
from shared.commands.train import trainer_command
from shared.evaluation import EvaluationConfig
from shared.features.encoders import load_encoder
from shared.prediction import LiveModel, portable_model
from tests.visual_environment_trainer import networks
from tests.visual_environment_trainer.pictures import (
    ROOMS,
    SESSIONS,
    example,
    film,
    room,
    save,
    write_lines,
    write_sessions,
)
from visual_environment_trainer.preprocessing.handmade import SIDE as HANDMADE_SIDE
from visual_environment_trainer.robustness import keep_helpful_copies
from visual_environment_trainer.train import RECIPE, TRAINER, VisualConfig, encoding_for, visual_candidates

USER = "ana"


@pytest.fixture(autouse=True)
def encoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny network as lite0_int8; there is no lite2_int8."""
    folder = networks.pretrained(tmp_path / "pretrained", "lite0_int8")
    monkeypatch.setenv("MODEL_TRAINER_PRETRAINED", str(folder))
    return folder


Train = Any


def _logistic(*features: str) -> dict[str, Any]:
    return {"features": features, "classifier": {"type": "logistic_regression", "C": 10, "scaler": "none"}}


@pytest.fixture
def train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Train:
    def train(data: Path, *words: str, expect: int = 0) -> dict[str, Any]:
        arguments = ["--user", USER, "--data", str(data), "--out", str(tmp_path / "out")]
        code = run(lambda: trainer_command(TRAINER, RECIPE)([*arguments, *words], standalone_mode=False))
        printed = capsys.readouterr()
        entry: dict[str, Any] = json.loads(printed.out)
        assert code == expect, printed.err[-1500:]
        return entry

    return train


def _live(entry: dict[str, Any], tmp_path: Path) -> LiveModel:
    folders = {ref["name"]: tmp_path / "out" / "encoders" / ref["sha256"] for ref in entry["encoder_refs"]}
    return LiveModel(Path(entry["bundle"]) / "model.onnx", folders)


def _label(model: LiveModel, path: Path) -> str:
    encoders = {name: load_encoder(folder) for name, folder in model.encoders.items()}
    inputs = RECIPE.decode(path, model.properties["spec"]["decode"], encoders)
    wanted = {tensor.name: inputs[tensor.name] for tensor in model.session.get_inputs()}
    return str(model.properties["labels"][int(model.session.run(["label"], wanted)[0])])


@pytest.mark.slow
def test_rooms_are_recognised_in_pictures_and_films(tmp_path: Path, train: Train) -> None:
    entry = train(write_sessions(tmp_path / "data"))
    assert entry["training_metrics"]["accuracy"] > 0.8
    assert [ref["name"] for ref in entry["encoder_refs"]] == ["lite0_int8"]
    assert any("without the image encoder lite2_int8" in note for note in entry["notes"])
    model = _live(entry, tmp_path)
    for label in ROOMS:
        assert _label(model, save(tmp_path / f"{label}.png", room(label, 99))) == label
        frames = [room(label, 200 + k // 10) for k in range(30)]
        assert _label(model, film(tmp_path / f"{label}.mp4", frames)) == label


@pytest.mark.slow
def test_films_are_learnt_from_as_pictures_are(tmp_path: Path, train: Train) -> None:
    data = write_sessions(tmp_path / "data")
    for session in SESSIONS:
        folder = data / "users" / USER / "sessions" / session
        lines = [json.loads(line) for line in (folder / "examples.jsonl").read_text().splitlines()]
        for label in ROOMS:
            path = film(
                folder / "media" / f"{label}.mp4", [room(label, 300 + len(session) + k // 10) for k in range(30)]
            )
            lines.append(example(folder, f"film-{label}-{session}", label, path) | {"onset": 0.5, "offset": 2.5})
        write_lines(folder, lines)
    entry = train(data)
    assert entry["sample_count"] == 3 * 3 * 5
    assert entry["training_metrics"]["accuracy"] > 0.8


@pytest.mark.slow
def test_without_any_encoder_the_fallback_is_trained_and_named(
    tmp_path: Path, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_TRAINER_PRETRAINED", str(tmp_path / "nothing"))
    entry = train(write_sessions(tmp_path / "data"))
    assert entry["metrics"]["chosen"] == "handmade: logistic_regression(C=0.01)"
    assert entry["encoder_refs"] == []
    assert entry["notes"][0].startswith("FALLBACK")
    assert "FALLBACK" in (Path(entry["bundle"]) / "model_card.html").read_text()
    assert entry["training_metrics"]["accuracy"] > 0.8
    model = _live(entry, tmp_path)
    (taken,) = model.session.get_inputs()
    assert (taken.name, taken.shape) == ("image", [HANDMADE_SIDE, HANDMADE_SIDE, 3])
    assert _label(model, save(tmp_path / "new.jpg", room("pool", 99))) == "pool"


@pytest.mark.slow
def test_an_own_network_is_trained_with_and_goes_beside_the_models(tmp_path: Path, train: Train) -> None:
    path = networks.network(tmp_path / "mine.onnx")
    config = tmp_path / "own.yaml"
    config.write_text(json.dumps({"few_encoder": None, "encoder": networks.contract(path, name="mine")}))
    entry = train(write_sessions(tmp_path / "data"), "--config", str(config), "--registry", str(tmp_path / "models"))
    (reference,) = entry["encoder_refs"]
    assert reference["name"] == "mine"
    assert (tmp_path / "models" / "encoders" / reference["sha256"] / "model.onnx").is_file()
    assert entry["notes"] == []


@pytest.mark.slow
def test_three_pictures_of_each_label_are_compared_with_class_means(tmp_path: Path, train: Train) -> None:
    entry = train(write_sessions(tmp_path / "data", each=1))
    assert entry["sample_count"] == 9
    assert entry["training_metrics"]["accuracy"] > 0.6
    tried = list(entry["metrics"]["candidates"])
    assert tried == [f"{f}: nearest_centroid(scaler=none, metric=cosine)" for f in ("embedding", "embedding+middle")]
    assert _live(entry, tmp_path).properties["labels"] == sorted(ROOMS)


@pytest.mark.slow
def test_near_copies_in_other_sessions_are_reported_and_validated_with_their_first(
    tmp_path: Path, train: Train
) -> None:
    def draw(label: str, number: int) -> np.ndarray:
        return room(label, 0 if (label, number) in (("hall", 0), ("hall", 5)) else number)

    data = write_sessions(tmp_path / "data", draw=draw)
    again = data / "users" / USER / "sessions" / SESSIONS[1]
    lines = [json.loads(line) for line in (again / "examples.jsonl").read_text().splitlines()]
    path = save(again / "media" / "hall5.jpg", room("hall", 0), quality=40)
    lines[1] = example(again, "hall-05", "hall", path)
    write_lines(again, lines)
    entry = train(data)
    assert entry["media"] == [{"record_id": "hall-05", "near_copy_of": "hall-00"}]
    assert any("1 images are nearly the same" in w and "hall-05 of hall-00" in w for w in entry["warnings"])
    assert entry["metrics"]["audit"]["duplicates_across_folds"] == 0
    assert train(write_sessions(tmp_path / "clean"))["media"] == []


def test_every_file_that_cannot_be_used_is_named_with_its_line(tmp_path: Path, train: Train) -> None:
    data = write_sessions(tmp_path / "data")
    folder = data / "users" / USER / "sessions" / SESSIONS[2]
    lines = [json.loads(line) for line in (folder / "examples.jsonl").read_text().splitlines()]
    whole = (folder / lines[0]["media"]["path"]).read_bytes()
    for place, (name, content) in enumerate(
        {"cut.jpg": whole[:500], "text.jpg": b"hello", "lies.png": b"GIF89a", "no.mp4": b"no film"}.items()
    ):
        (folder / "media" / name).write_bytes(content)
        lines[place] = example(folder, lines[place]["record_id"], lines[place]["label"], folder / "media" / name)
    write_lines(folder, lines)
    entry = train(data, expect=3)
    assert [(fault["line"], fault["field"]) for fault in entry["faults"]] == [(k, "media") for k in (1, 2, 3, 4)]
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("*/bundle.json"))


@pytest.mark.slow
def test_the_configured_region_is_all_that_training_and_the_model_see(tmp_path: Path, train: Train) -> None:
    def beside(label: str, number: int) -> np.ndarray:
        other = list(ROOMS)[(number + 1) % 3]
        return np.concatenate([room(label, number), room(other, number + 500)], axis=1)

    data = write_sessions(tmp_path / "data", draw=beside)
    region = "region={x: 0.0, y: 0.0, width: 0.5, height: 1.0}"
    entry = train(data, "--set", region)
    assert entry["training_metrics"]["accuracy"] > 0.8
    model = _live(entry, tmp_path)
    path = save(tmp_path / "new.png", np.concatenate([room("lawn", 99), room("pool", 98)], axis=1))
    assert _label(model, path) == "lawn"


@pytest.mark.slow
def test_boxes_of_examples_are_told_to_whoever_runs_the_model(tmp_path: Path, train: Train) -> None:
    box = {"x": 0.1, "y": 0.1, "width": 0.8, "height": 0.8}
    entry = train(write_sessions(tmp_path / "data", more={"pool-01": {"box": box}, "hall-02": {"box": box}}))
    assert any("2 images were seen through the box" in note for note in entry["notes"])


@pytest.mark.slow
def test_a_second_run_decodes_nothing(tmp_path: Path, train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_sessions(tmp_path / "data")
    first = train(data)

    def refuse(*_: Any) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr("visual_environment_trainer.preprocessing.embeddings.read_views", refuse)
    second = train(data)
    models = [Path(entry["bundle"]) / "model.onnx" for entry in (first, second)]
    assert models[0].read_bytes() == models[1].read_bytes()


def test_what_many_pictures_are_seen_by_is_quicker() -> None:
    config, encoder = VisualConfig(), load_encoder("lite0_int8")
    assert len(encoding_for(config, encoder, 10).viewing.views) == 3
    assert len(encoding_for(config, encoder, config.several_views_up_to + 1).viewing.views) == 1


def _clouded(count: int, dimension: int, seed: int) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Samples whose label shows in one half of the embedding when sharp and in the other when blurred."""
    rng = np.random.default_rng(seed)
    classes = np.arange(count) % 2
    sign = np.where(classes, 1.0, -1.0)[:, None]
    sharp, soft = (np.abs(rng.normal(size=(count, dimension))) for _ in range(2))
    sharp[:, :1] += 4 * (sign > 0)
    sharp[:, 1:2] += 4 * (sign < 0)
    soft[:, 2:3] += 4 * (sign > 0)
    soft[:, 3:4] += 4 * (sign < 0)
    rows = [
        {"lite0_int8": a[None].astype(np.float32), "lite0_int8_blurred": b[None].astype(np.float32)}
        for a, b in zip(sharp, soft, strict=True)
    ]
    return rows, classes


@pytest.mark.parametrize("useful", [True, False])
def test_blurred_copies_are_compared_only_where_they_help(useful: bool, tmp_path: Path) -> None:
    from benchmarks.few_shot import quiet_job

    config = VisualConfig.model_validate(
        {"blurred_copies": True, "candidates": [_logistic("embedding")], "evaluation": EvaluationConfig(folds=3)}
    )
    encoder = load_encoder("lite0_int8")
    rows, classes = _clouded(60, 8, 0)
    if not useful:
        for row in rows:
            row["lite0_int8_blurred"] = row["lite0_int8"]
    candidates = visual_candidates(quiet_job(USER, tmp_path), config, encoder, rows, few=False)
    sessions = [str(k // 10) for k in range(60)]
    kept, note = keep_helpful_copies(candidates, classes, sessions, config)
    name = "embedding: logistic_regression(scaler=none, C=10.0)"
    assert [candidate.name for candidate in kept] == ([f"{name}, with copies", name] if useful else [name])
    assert (f"tried in {name}" in note) == useful != note.endswith("left out")
    copies = [len(candidate.source.rows(np.arange(60)).copies) for candidate in kept]
    assert copies == ([60, 0] if useful else [0])


@pytest.mark.slow
def test_training_with_blurred_copies_says_what_they_did(tmp_path: Path, train: Train) -> None:
    entry = train(write_sessions(tmp_path / "data"), "--set", "blurred_copies=true", "--set", "blur=3")
    (note,) = [note for note in entry["notes"] if "blurred copies" in note]
    assert "accuracy on blurred images of other sessions" in note


@pytest.mark.slow
@pytest.mark.parametrize("middle", [True, False])
def test_the_portable_file_answers_pictures_and_films_as_the_model_does(
    middle: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_sessions(tmp_path / "data")
    words = [
        "--user",
        USER,
        "--data",
        str(data),
        "--out",
        str(tmp_path / "out"),
        "--registry",
        str(tmp_path / "models"),
    ]
    words += ["--set", f"candidates={json.dumps([_logistic('embedding', *(['middle'] if middle else []))])}"]
    assert run(lambda: trainer_command(TRAINER, RECIPE)(words, standalone_mode=False)) == 0
    capsys.readouterr()
    registry = Registry(tmp_path / "models")
    registry.export(USER, "visual_environment", tmp_path / "portable.onnx", form="onnx")
    resolved = registry.resolve(USER, "visual_environment")
    live, portable = LiveModel(resolved.files["model"], resolved.encoders), portable_model(tmp_path / "portable.onnx")
    assert [tensor.name for tensor in portable.session.get_inputs()] == ["lite0_int8_image"]
    long = film(tmp_path / "long.mp4", [room("pool", k // 10) for k in range(250)])  # 25 frames in three views each
    for path in [*sorted(data.glob("users/*/sessions/*/media/*.jpg"))[::6], long]:
        one, two = live.classify(path, RECIPE), portable.classify(path, RECIPE)
        assert one == pytest.approx(two, abs=1e-4)
