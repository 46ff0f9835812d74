"""docs/using-a-model.md is true: its code runs models of every modality and answers as `model-trainer predict` does."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from model_registry.names import Modality
from tests.javascript.packages import run_node
from tests.paths import ROOT
from tests.published_models import PublishedModels, publish_model
from tests.test_ready_features import WIDTH, command, features_folder, sample
from tests.trainer_runs import PACKAGES, USER, copy_some

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("published_models")]
PAGE = (ROOT / "docs" / "using-a-model.md").read_text(encoding="utf-8")
TOLERANCE = {"sound": 1e-4, "speech": 1e-4, "gesture": 1e-4, "visual_environment": 0.02}  # of a probability
FILES = 12  # of each modality, evenly spread


def blocks(language: str) -> list[str]:
    """Return the fenced code blocks of the page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture(params=PACKAGES)
def modality(request: pytest.FixtureRequest) -> Modality:
    return str(request.param)


@pytest.fixture
def files(published_models: PublishedModels, modality: Modality, tmp_path: Path) -> list[Path]:
    """Files of a modality, with one that holds nothing to classify and one of none of the labels."""
    known = published_models.files[modality]
    if modality == "sound":  # as a microphone, others are converted first
        known = [path for path in known if is_16_khz_mono(path)]
    files = [*known[:: max(len(known) // FILES, 1)]]
    noise = np.random.default_rng(0)
    if modality == "sound":
        for name, samples in (("silence", np.zeros(16000)), ("noise", noise.normal(0, 8000, 11 * 16000))):
            write_wav(tmp_path / f"{name}.wav", samples.clip(-32768, 32767).astype("<i2"), 16000)
            files.append(tmp_path / f"{name}.wav")
    elif modality == "speech":
        texts = ("", " …\n", "quarterly  revenue\tforecasts", "e\u0301te\u0301 \U0001f600 " + "word " * 900)
        for number, text in enumerate(texts):
            (tmp_path / f"{number}.txt").write_text(text, encoding="utf-8")
            files.append(tmp_path / f"{number}.txt")
    elif modality == "gesture":
        sequences = (np.zeros((20, 214)), noise.uniform(size=(20, 214)), noise.uniform(size=(2, 214)))
        for number, sequence in enumerate(sequences):
            np.savez(tmp_path / f"{number}.npz", features=sequence.astype(np.float32))
            files.append(tmp_path / f"{number}.npz")
    else:
        pictures = ((90, 160), (700, 400))  # that are enlarged, and reduced
        for number, (height, width) in enumerate(pictures):
            pixels = noise.integers(0, 256, (height // 10, width // 10, 3)).astype(np.uint8)
            Image.fromarray(pixels).resize((width, height)).save(tmp_path / f"{number}.png")
            files.append(tmp_path / f"{number}.png")
        Image.new("RGB", (300, 200), (5, 5, 5)).save(tmp_path / "black.png")
        files.append(tmp_path / "black.png")
    return files


def is_16_khz_mono(path: Path) -> bool:
    with wave.open(str(path)) as file:
        return (file.getframerate(), file.getnchannels()) == (16000, 1)


def write_wav(path: Path, samples: np.ndarray, rate: int) -> None:
    """Write samples (N,) int16 as a WAV file of one channel."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())


def assert_same(found: Sequence[dict[str, Any]], expected: Sequence[dict[str, Any]], tolerance: float) -> None:
    """Compare answers with those of `model-trainer predict`."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert (one["label"], one["label_set"]) == (other["label"], other["label_set"]), other["file"]
        assert list(one["classifier_output"]) == list(other["classifier_output"])
        np.testing.assert_allclose(
            [*one["classifier_output"].values()], [*other["classifier_output"].values()], atol=tolerance
        )
    rejected = [answer for answer in expected if answer["label"] == "unknown"]
    assert 0 < len(rejected) < len(expected)  # both kinds were compared


def run_python(model: Path, folder: Path, files: Sequence[Path]) -> subprocess.CompletedProcess[str]:
    """Run the page's Python program in a folder of its own."""
    program = folder / "use_model.py"
    program.write_text("\n\n".join(blocks("python")), encoding="utf-8")
    command = [sys.executable, str(program), str(model), *map(str, files)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


def test_the_python_program_answers_as_predict_does(
    published_models: PublishedModels, modality: Modality, files: list[Path], tmp_path: Path
) -> None:
    done = run_python(published_models.portable[modality], tmp_path, files)
    assert done.returncode == 0, done.stderr
    expected = published_models.predictions(modality, files)
    assert_same([json.loads(line) for line in done.stdout.splitlines()], expected, TOLERANCE[modality])


def test_the_python_program_imports_nothing_of_this_project() -> None:
    imported = set(re.findall(r"^\s*(?:import|from) (\w+)", "\n".join(blocks("python")), re.MULTILINE))
    assert imported - set(sys.stdlib_module_names) == {"numpy", "onnxruntime", "PIL", "tokenizers"}


@pytest.mark.parametrize("language", ["python", "javascript"])
def test_a_sound_of_another_rate_is_refused(published_models: PublishedModels, tmp_path: Path, language: str) -> None:
    write_wav(tmp_path / "telephone.wav", (8000 * np.sin(np.arange(8000) / 8)).astype("<i2"), 8000)
    run_program = run_python if language == "python" else run_javascript
    done = run_program(published_models.portable["sound"], tmp_path, [tmp_path / "telephone.wav"])
    assert done.returncode == 1 and done.stdout == ""
    assert "8000 Hz" in done.stderr and "16000 Hz" in done.stderr


def run_javascript(model: Path, folder: Path, files: Sequence[Path]) -> subprocess.CompletedProcess[str]:
    """Run the page's JavaScript program in a folder of its own."""
    *module, program = blocks("js")
    (folder / "model.mjs").write_text("\n".join(module), encoding="utf-8")
    (folder / "use_model.mjs").write_text(program, encoding="utf-8")
    return run_node(folder, "use_model.mjs", str(model), *map(str, files))


def for_node(path: Path, folder: Path) -> Path:
    """Return a file in the form that the page's Node program reads."""
    if path.suffix == ".npz":
        with np.load(path) as archive:
            frames = archive["features"].tolist()
        converted = folder / f"{path.stem}_{abs(hash(path))}.json"
        converted.write_text(json.dumps(frames))
        return converted
    if path.suffix in (".jpg", ".png"):
        converted = folder / f"{path.stem}_{abs(hash(path))}.ppm"
        Image.open(path).convert("RGB").save(converted)
        return converted
    return path


def test_the_javascript_program_answers_as_predict_does(
    published_models: PublishedModels, modality: Modality, files: list[Path], tmp_path: Path
) -> None:
    converted = [for_node(path, tmp_path) for path in files]
    done = run_javascript(published_models.portable[modality], tmp_path, converted)
    assert done.returncode == 0, done.stderr
    expected = published_models.predictions(modality, files)
    assert_same([json.loads(line) for line in done.stdout.splitlines()], expected, TOLERANCE[modality])


@pytest.mark.parametrize("version", [None, "2.0.0"])
def test_metadata_of_another_version_are_refused(
    published_models: PublishedModels, tmp_path: Path, version: str | None
) -> None:
    model = onnx.load(published_models.portable["gesture"])
    for prop in model.metadata_props:
        if prop.key == "spec":
            spec = {key: value for key, value in json.loads(prop.value).items() if key != "spec_version"}
            prop.value = json.dumps(spec if version is None else spec | {"spec_version": version})
    onnx.save(model, tmp_path / "other.onnx")
    for run_program in (run_python, run_javascript):
        done = run_program(tmp_path / "other.onnx", tmp_path, [])
        assert done.returncode == 1 and "metadata are of another version" in done.stderr


def compare_programs(models: PublishedModels, modality: Modality, files: list[Path], folder: Path) -> None:
    """Compare the answers of both programs with those of `model-trainer predict`."""
    expected = models.predictions(modality, files)
    for run_program, given in ((run_python, files), (run_javascript, [for_node(path, folder) for path in files])):
        done = run_program(models.portable[modality], folder, given)
        assert done.returncode == 0, done.stderr
        assert_same([json.loads(line) for line in done.stdout.splitlines()], expected, 1e-4)


def test_both_programs_run_a_speech_model_without_encoders(
    published_models: PublishedModels, demo_data: Path, tmp_path: Path
) -> None:
    config = str(ROOT / "speech_context_trainer" / "configs" / "without_encoder.yaml")
    portable = publish_model(
        copy_some(demo_data, "speech", tmp_path / "data", 8), tmp_path, "speech", "--config", config
    )
    models = PublishedModels(tmp_path / "registry", {"speech": portable}, published_models.files)
    files = [*models.files["speech"][:20]]
    for number, text in enumerate(("", "ÅNGSTRÖM İstanbul ﬁn \U0001f600", "quarterly revenue forecasts")):
        files.append(tmp_path / f"{number}.txt")
        files[-1].write_text(text, encoding="utf-8")
    compare_programs(models, "speech", files, tmp_path)


def test_both_programs_run_a_model_of_ready_made_features(tmp_path: Path) -> None:
    source = features_folder(tmp_path / "source", 6)
    words = ["--data", str(tmp_path / "data"), "--modality", "sound", "--user", USER, "--consent"]
    assert command("import", str(source), *words, "--encoding", "my_extractor_v1") == 0
    portable = publish_model(tmp_path / "data", tmp_path, "sound")
    models = PublishedModels(tmp_path / "registry", {"sound": portable}, {})
    files = []
    for number, sequence in enumerate((sample("yes", 7, 6), sample("more", 8, 6), np.zeros((6, WIDTH)))):
        files.append(tmp_path / f"{number}.npz")
        np.savez(files[-1], features=sequence.astype(np.float32))
    compare_programs(models, "sound", files, tmp_path)


def test_the_pages_module_is_the_one_that_is_installed() -> None:
    *module, program = blocks("js")
    assert "\n".join(module) == (ROOT / "model_registry" / "web" / "model.mjs").read_text(encoding="utf-8")
    assert program.startswith("// use_model.mjs")


def test_the_page_explains_every_field_that_a_model_has(published_models: PublishedModels, modality: Modality) -> None:
    import onnxruntime

    metadata = onnxruntime.InferenceSession(published_models.portable[modality]).get_modelmeta().custom_metadata_map
    spec = json.loads(metadata["spec"])
    names = {*metadata, *spec, *spec["preparation"]}
    assert [name for name in sorted(names) if f"`{name}`" not in PAGE] == []
