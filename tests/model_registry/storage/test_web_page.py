"""The exported web page tries a model in a browser, offline, and answers as `model-trainer predict` does."""

from __future__ import annotations

import json
import re
import threading
import wave
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from model_registry.commands.reading import export
from model_registry.names import Modality
from model_registry.storage.copies import copies_file, read_copies
from model_registry.store import Registry
from tests.javascript.packages import installed_packages
from tests.model_registry.bundles import make_bundle
from tests.model_registry.service.browser import Browser, chromium
from tests.paths import ROOT
from tests.published_models import PublishedModels
from tests.trainer_runs import USER

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("published_models")]
RATE = 16000
MICROPHONE = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")


def exported(models: PublishedModels, modality: Modality, folder: Path) -> Path:
    """Return a page written by `registry export --form web`."""
    words = [USER, modality, str(folder), "--form", "web", "--node-modules", str(installed_packages())]
    done = CliRunner().invoke(export, [*words, "--registry", str(models.registry)])
    assert done.exit_code == 0, done.output
    return folder


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *values: Any) -> None: ...


@contextmanager
def opened(folder: Path, *options: str) -> Iterator[Browser]:
    """Serve a page as any static server does, yield a browser that shows it, and check that it asked for no more."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://localhost:{server.server_port}/"
    try:
        with chromium({}, *options) as page:
            page.open(address)
            assert page.wait_for("document.getElementById('loading').hidden")
            yield page
            sent = [event["params"] for event in page.events if event["method"] == "Network.requestWillBeSent"]
            requested = [parameters["request"]["url"] for parameters in sent]
            assert f"{address}model.onnx" in requested
            assert [url for url in requested if not url.startswith((address, "data:", "blob:"))] == []
            assert [e for e in page.events if e["method"] == "Log.entryAdded"] == []
    finally:
        server.shutdown()
        server.server_close()


def samples_of(path: Path) -> list[float]:
    """Return the samples (N,) of a WAV file of 16 bits, -1 to 1."""
    with wave.open(str(path)) as file:
        return (np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768).tolist()


def write_wav(path: Path, samples: np.ndarray) -> Path:
    """Write samples (N,) int16 at 16 kHz."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def sounds(models: PublishedModels) -> list[Path]:
    """Return recordings of one channel at 16 kHz."""
    found = []
    for path in models.files["sound"]:
        with wave.open(str(path)) as file:
            if (file.getframerate(), file.getnchannels()) == (RATE, 1):
                found.append(path)
    return found


def assert_same(found: Sequence[dict[str, Any]], expected: Sequence[dict[str, Any]]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one["label"], one["label_set"]) == (other["label"], other["label_set"]), other["file"]
        scores = other["classifier_output"]
        assert list(one["classifier_output"]) == list(scores)
        np.testing.assert_allclose([*one["classifier_output"].values()], [*scores.values()], atol=1e-4)
    assert {answer["label"] == "unknown" for answer in expected} == {True, False}


def test_a_sound_page_answers_as_predict_does(published_models: PublishedModels, tmp_path: Path) -> None:
    folder = exported(published_models, "sound", tmp_path / "page")
    noise = np.random.default_rng(0).normal(0, 8000, RATE)
    files = [*sounds(published_models)[:23], write_wav(tmp_path / "silence.wav", np.zeros(RATE))]
    files.append(write_wav(tmp_path / "noise.wav", noise))
    with opened(folder) as page:
        found = [
            page.wait_for(f"import('./page.mjs').then((m) => m.classify(Float32Array.from({samples_of(path)})))")
            for path in files
        ]
        assert page.run("document.getElementById('answer').textContent") == "unknown"  # the noise
        assert page.violations() == []
    assert_same(found, published_models.predictions("sound", files))


def test_a_sound_of_the_microphone_is_recorded_and_classified(
    published_models: PublishedModels, tmp_path: Path
) -> None:
    folder = exported(published_models, "sound", tmp_path / "page")
    known = sounds(published_models)
    answers = published_models.predictions("sound", known)
    labels = sorted({answer["label"] for answer in answers} - {"unknown"})[:2]
    for label in labels:
        path = max((a["classifier_output"][label], a["file"]) for a in answers if a["label"] == label)[1]
        sound = np.array(samples_of(Path(path))) * 32768
        heard = write_wav(tmp_path / f"{label}.wav", np.concatenate([np.zeros(RATE // 2), sound, np.zeros(4 * RATE)]))
        with opened(folder, *MICROPHONE, f"--use-file-for-fake-audio-capture={heard}%noloop") as page:
            page.press("Tab")
            assert page.run("document.activeElement.id") == "record"
            page.press("Enter")
            assert page.wait_for("document.getElementById('record').textContent === 'Stop'")
            page.wait_for("new Promise((done) => setTimeout(() => done(true), 2500))")
            page.press("Enter")
            assert page.wait_for("!document.getElementById('scores').hidden")
            assert page.run("document.getElementById('answer').textContent") == label


def test_a_speech_page_answers_as_predict_does(published_models: PublishedModels, tmp_path: Path) -> None:
    folder = exported(published_models, "speech", tmp_path / "page")
    files = [*published_models.files["speech"][:21]]
    texts = ("", "quarterly revenue forecasts", "<b>שלום</b> עולם", "e\u0301te\u0301 \U0001f600")
    for number, text in enumerate(texts):
        files.append(tmp_path / f"{number}.txt")
        files[-1].write_text(text, encoding="utf-8")
    with opened(folder) as page:
        found = []
        for path in files:
            text = json.dumps(path.read_text(encoding="utf-8"))
            found.append(page.wait_for(f"import('./page.mjs').then((m) => m.classify({text}))"))
        page.run("document.getElementById('transcript').focus()")
        page.ask("Input.insertText", text=files[0].read_text(encoding="utf-8"))
        page.press("Tab")
        page.press("Enter")
        expected = published_models.predictions("speech", files)
        label = json.dumps(expected[0]["label"])
        assert page.wait_for(f"document.querySelector('#answer bdi').textContent === {label}")
        assert page.violations() == []
        page.prefer("dark")
        assert page.run("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
        assert page.violations() == []
    assert_same(found, expected)


def test_the_page_is_small_and_says_nothing_of_the_person(published_models: PublishedModels, tmp_path: Path) -> None:
    folder = exported(published_models, "sound", tmp_path / "page")
    own = [path for path in folder.iterdir() if path.is_file() and path.name != "model.onnx"]
    assert sum(path.stat().st_size for path in own) < 100_000
    assert [path.name for path in own if re.search(rf"\b{USER}\b", path.read_text(encoding="utf-8"))] == []
    assert {"onnxruntime-web-LICENSE.txt", "tokenizers-LICENSE.txt"} <= {p.name for p in (folder / "runtime").iterdir()}
    recorded = [record.path for record in read_copies(copies_file(published_models.registry))]
    assert str(folder / "model.onnx") in recorded  # an erasure finds it


def test_other_models_missing_packages_and_existing_folders_are_refused(
    published_models: PublishedModels, tmp_path: Path
) -> None:
    folder = exported(published_models, "sound", tmp_path / "page")
    pinned, before = installed_packages(), sorted(tmp_path.iterdir())
    registry = ["--registry", str(published_models.registry)]
    cases = (
        ([USER, "gesture", "new"], pinned, "models of recorded sound and of speech"),
        ([USER, "sound", str(folder)], pinned, "exists already"),
        ([USER, "sound", "new"], tmp_path / "absent", "npm install --ignore-scripts onnxruntime-web@"),
    )
    for words, packages, reason in cases:
        words[2] = str(tmp_path / words[2])
        done = CliRunner().invoke(export, [*words, "--form", "web", "--node-modules", str(packages), *registry])
        assert done.exit_code != 0 and reason in done.stderr, done.output
    assert sorted(tmp_path.iterdir()) == before


def test_a_model_of_an_earlier_release_and_changed_packages_are_refused(tmp_path: Path) -> None:
    pinned, changed = installed_packages(), tmp_path / "node_modules"
    for name in ("onnxruntime-web/dist", "@huggingface/tokenizers/dist"):
        (changed / name).mkdir(parents=True)
    (changed / "onnxruntime-web/dist/ort.wasm.bundle.min.mjs").write_text("export const more = 1;")
    store = Registry(tmp_path / "registry")
    store.publish(make_bundle(tmp_path, modality="sound", model=b""))
    for packages, reason in ((changed, "is not the file of the pinned version"), (pinned, "train it again")):
        words = ["user123", "sound", str(tmp_path / "page"), "--form", "web", "--node-modules", str(packages)]
        done = CliRunner().invoke(export, [*words, "--registry", str(store.root)])
        assert done.exit_code != 0 and reason in done.stderr, done.output
        assert not (tmp_path / "page").exists()


def test_the_pinned_versions_are_those_that_are_tested() -> None:
    page = (ROOT / "model_registry" / "storage" / "web_page.py").read_text(encoding="utf-8")
    packages = json.loads((ROOT / "tests" / "javascript" / "package.json").read_text(encoding="utf-8"))["dependencies"]
    guide = (ROOT / "docs" / "using-a-model.md").read_text(encoding="utf-8")
    for name, version in packages.items():
        assert f"{name}@{version}" in page and f"{name}@{version}" in guide
