"""The page of `check --html`: what it shows and in which order, what it keeps in, and how people meet it."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from scipy.io import wavfile

from shared.commands.check import check_command
from shared.report import data_page as page_module
from shared.report.traces import trace
from tests.model_registry.service.browser import chromium
from tests.shared.data.session_folders import features_row, media_row, row, session_folder, two_sessions, write_rows

HOSTILE = "<script>alert(1)</script>\"'><img src=x>"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(check_command, list(arguments))


def wav(path: Path, hertz: float = 440.0, seconds: float = 0.5) -> bytes:
    wave = np.sin(np.arange(int(16000 * seconds)) * 2 * np.pi * hertz / 16000)
    wavfile.write(path, 16000, (wave * 12000).astype(np.int16))
    return path.read_bytes()


def all_kinds(root: Path, user: str = "anna") -> dict[str, Any]:
    """Write two sessions of sounds, pictures, sequences and texts, with hostile names, and return a training log."""
    scratch = root.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    for session in ("s1", "s2"):
        folder = session_folder(root, user, session)
        rows = []
        for k in range(4):
            record, label = f"{session}-{k}", ["yes", HOSTILE][k % 2]
            content = wav(scratch / "a.wav", 300 + 50 * k + 10 * (session == "s2"))
            rows.append(media_row(folder, f"sound-{record}", label, content))
            rows.append(row(folder, f"text-{record}", label, transcript=f"{HOSTILE} {k} {session}"))
            path = np.cumsum(np.full((8, 42), 0.01 * (k + 1)), axis=0) + np.arange(42) * 0.01
            reference = {"encoding": "hand_landmarks_xy_v1"}
            rows.append(features_row(folder, f"move-{record}", label, path, reference=reference))
            pixels = np.random.default_rng(k + 10 * (session == "s2")).integers(0, 255, (90, 120, 3), np.uint8)
            Image.fromarray(pixels).save(scratch / "a.png")
            picture = media_row(folder, f"place-{record}", label, (scratch / "a.png").read_bytes())
            (folder / "media" / f"place-{record}.wav").rename(folder / "media" / f"place-{record} <b>.png")
            picture |= {"modality": "visual_environment"}
            picture["media"] |= {"path": f"media/place-{record} <b>.png"}
            rows.append(picture)
        write_rows(folder, rows)
    doubt = {"record_id": "sound-s1-1", "label": HOSTILE, "predicted": "yes", "probability": 0.99}
    odd = {"record_id": "sound-s2-0", "label": "yes", "predicted": HOSTILE, "probability": 0.6}
    relabelled = {"record_id": "sound-s2-1", "label": "before", "predicted": "yes", "probability": 0.99}
    gone = {"record_id": "removed", "label": "yes", "predicted": "no", "probability": 0.99}
    audit = {"suspected_labels": [doubt, relabelled, gone], "near_identical": [["sound-s1-0", "sound-s2-2"]]}
    return {
        "user_id": user,
        "modality": "sound",
        "run_id": "run-7",
        "metrics": {"audit": audit},
        "misclassified": [doubt, odd],
    }


def page_of(root: Path, log: dict[str, Any] | None = None, *options: str) -> Path:
    """Write the page of the only user and return it."""
    target = root.parent / "page.html"
    arguments: list[str] = []
    if log is not None:
        (root.parent / "log.json").write_text(json.dumps(log))
        arguments = ["--training-log", str(root.parent / "log.json")]
    result = run(str(root), "--html", str(target), *arguments, *options)
    assert target.exists(), result.output
    return target


def positions(text: str, parts: Sequence[str]) -> list[int]:
    return [text.index(part, text.index("<body>")) for part in parts]


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return page_of(tmp_path / "data", all_kinds(tmp_path / "data"))


@pytest.mark.slow
def test_what_needs_attention_stands_above_the_samples_by_label_and_session(tmp_path: Path) -> None:
    log = all_kinds(tmp_path / "data")
    with (tmp_path / "data/users/anna/sessions/s2/examples.jsonl").open("a") as file:
        file.write(json.dumps({"record_id": "broken"}) + "\n")
    text = page_of(tmp_path / "data", log).read_text("utf-8")
    order = (
        "Faults</h2>",
        "what training run-7 found",
        "may be wrong</h3>",
        "Odd ones out</h3>",
        "Copies and near",
        "Gestures</h2>",
    )
    assert (places := positions(text, order)) == sorted(places)
    above, samples = text[: text.index('id="samples"')], text[text.index('id="samples"') :]
    assert above.count("<audio") == 2 and "sound-s1-1" in above and "sound-s2-0" in above
    assert "removed" not in above and "sound-s2-1" not in above, "of samples that were corrected since nothing is said"
    assert "nearly the same" in above and 'href="#' in above
    assert samples.count("<audio") == 6 and samples.count("is shown above") == 2
    assert samples.count('class="trace"') == 8 and samples.count("<img") == 8 and samples.count('class="text"') == 8
    assert re.search(r"<bdi>yes</bdi></th><td>2</td><td>2</td><td>4</td>", samples)


def test_labels_file_names_and_texts_are_shown_as_text(page: Path) -> None:
    text = page.read_text("utf-8")
    assert "<script" not in text and "<img src=x" not in text and " <b>.png" not in text
    assert unescape(text).count(HOSTILE) > 10
    assert "http" not in text.replace("http-equiv", ""), "nothing is asked from outside"


def test_only_its_owner_can_read_a_page_and_each_user_has_one(tmp_path: Path) -> None:
    two_sessions(tmp_path / "data", "anna")
    two_sessions(tmp_path / "data", "ben")
    pages = tmp_path / "pages"
    assert run(str(tmp_path / "data"), "--html", str(pages)).exit_code == 0
    assert sorted(path.name for path in pages.iterdir()) == ["anna.html", "ben.html"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in pages.iterdir()} == {0o600}
    assert "ben" not in (pages / "anna.html").read_text("utf-8")


def test_one_file_holds_one_user_only(tmp_path: Path) -> None:
    two_sessions(tmp_path / "data", "anna")
    two_sessions(tmp_path / "data", "ben")
    target = tmp_path / "page.html"
    result = run(str(tmp_path / "data"), "--html", str(target))
    assert "holds the page of one user, but here are anna, ben" in str(result.exception) and not target.exists()
    assert run(str(tmp_path / "data"), "--user", "ben", "--html", str(target)).exit_code == 0
    assert "Samples of ben" in target.read_text("utf-8")


def test_a_file_that_is_no_training_log_is_refused(tmp_path: Path) -> None:
    two_sessions(tmp_path / "data")
    for content in ("[1]", "{", '{"user_id": "anna", "modality": "speech", "metrics": {"audit": 3}}'):
        (tmp_path / "log.json").write_text(content)
        result = run(
            str(tmp_path / "data"), "--html", str(tmp_path / "p.html"), "--training-log", str(tmp_path / "log.json")
        )
        assert "is no training log" in str(result.exception) and not (tmp_path / "p.html").exists()
    assert run(str(tmp_path / "data"), "--training-log", str(tmp_path / "log.json")).exit_code == 2


@pytest.mark.slow
def test_a_file_that_cannot_be_shown_says_why_in_its_place(tmp_path: Path) -> None:
    all_kinds(tmp_path / "data")
    folder = tmp_path / "data/users/anna/sessions/s1"
    (folder / "media/sound-s1-0.wav").unlink()
    rows = [json.loads(line) for line in (folder / "examples.jsonl").read_text().splitlines()]
    rows.append(media_row(folder, "noise", "yes", b"no sound"))
    write_rows(folder, rows)
    text = page_of(tmp_path / "data").read_text("utf-8")
    assert "its file cannot be read" in text and "file not found" in text
    assert (
        "is not a sound that can be read" in text and "noise.wav: is damaged or in an unsupported audio format" in text
    )


def test_a_full_page_names_what_it_does_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    all_kinds(tmp_path / "data")
    monkeypatch.setattr(page_module, "SHOWN", 1)
    text = page_of(tmp_path / "data").read_text("utf-8")
    assert "Shown are 16 of 32 samples: at most 1 of each label and session" in text
    assert text.count("1 more are not shown") == 16
    monkeypatch.setattr(page_module, "SHOWN", 24)
    monkeypatch.setattr(page_module, "SIZE", 1)
    monkeypatch.setattr(page_module, "_TOGETHER", 8)
    text = page_of(tmp_path / "data").read_text("utf-8")
    assert text.count("the page is full") == 24 and "Shown are 8 of 32 samples" in text


def test_faults_and_what_is_left_out_are_in_the_language_of_the_page(tmp_path: Path) -> None:
    all_kinds(tmp_path / "data")
    with (tmp_path / "data/users/anna/sessions/s2/examples.jsonl").open("a") as file:
        for number in range(2):
            example = row(tmp_path / "data/users/anna/sessions/s2", f"partial-{number}", "yes", transcript="so")
            file.write(json.dumps(example | {"consent_given": False}) + "\n")
        file.write("[]\n")
    text = unescape(page_of(tmp_path / "data", None, "--lang", "de").read_text("utf-8"))
    assert "muss ein JSON-Objekt enthalten" in text and "must hold one JSON object" not in text
    assert "keine Einwilligung" in text and "no consent" not in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("language", "said"),
    [
        (
            "de",
            ["Aufnahmen von anna", "Labels, die falsch sein k\u00f6nnten", "fast gleich", "Sitzung s1: 2 Aufnahmen"],
        ),
        (
            "es",
            [
                "Muestras de anna",
                "Etiquetas que pueden ser err\u00f3neas",
                "casi iguales",
                "Sesi\u00f3n s1: 2 muestras",
            ],
        ),
    ],
)
def test_the_page_is_in_a_language_of_choice(language: str, said: list[str], tmp_path: Path) -> None:
    log = all_kinds(tmp_path / "data")
    page = page_of(tmp_path / "data", log, "--lang", language)
    text = unescape(page.read_text("utf-8"))
    assert f'<html lang="{language}">' in text and [each for each in said if each not in text] == []
    with chromium({}) as browser:
        browser.resize(360, 740)
        browser.open(page.as_uri())
        browser.run("document.querySelectorAll('details').forEach(part => { part.open = true })")
        assert browser.run("document.documentElement.scrollWidth") <= 360 and browser.violations() == []
        browser.run("document.querySelectorAll('bdi, code, [lang=en]').forEach(part => part.remove())")
        left = browser.run("document.body.innerText")
        assert re.findall(r"\b(?:the|of|is|are|and|sample|samples|session|label)\b", left) == []


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_passes_axe_and_complains_of_nothing(page: Path, scheme: str) -> None:
    with chromium({}) as browser:
        browser.resize(360, 740)
        browser.prefer(scheme)
        browser.open(page.as_uri())
        browser.run("document.querySelectorAll('details').forEach(part => { part.open = true })")
        assert browser.run("document.documentElement.scrollWidth") <= 360
        assert browser.violations() == []
        colour = {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 24, 27)"}[scheme]
        assert browser.run("getComputedStyle(document.body).backgroundColor") == colour
        complaints = [e for e in browser.events if e["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")]
        assert complaints == [] and browser.requests() == [page.as_uri()]


@pytest.mark.slow
def test_sounds_play_pictures_show_and_the_keyboard_reaches_everything(page: Path) -> None:
    with chromium({}) as browser:
        browser.open(page.as_uri())
        browser.run("document.querySelectorAll('details').forEach(part => { part.open = true })")
        browser.run("document.querySelectorAll('img').forEach(part => { part.loading = 'eager' })")
        loaded = """Promise.all([...document.images].map(part => part.decode().then(() => part.naturalWidth))
            .concat([...document.querySelectorAll('audio')].map(part => new Promise((done, failed) => {
                part.onloadedmetadata = () => done(part.duration); part.onerror = failed; part.load() }))))"""
        answer = browser.ask("Runtime.evaluate", expression=loaded, returnByValue=True, awaitPromise=True)
        values = answer["result"]["value"]
        assert values[:8] == [120] * 8
        assert len(values) == 16 and all(0.4 < seconds < 0.8 for seconds in values[8:])
        browser.press("Tab")
        assert browser.run("document.activeElement.textContent") == "Skip to the samples"
        browser.press("Enter")
        browser.press("Tab")
        assert browser.run("document.activeElement.getAttribute('role')") == "region"
        browser.press("Tab")
        assert browser.run("document.activeElement.tagName") == "SUMMARY"


def test_a_trace_draws_paths_where_numbers_are_positions_and_curves_otherwise() -> None:
    moving = np.zeros((5, 42), np.float32)
    moving[:, :4] = np.arange(1, 21).reshape(5, 4)
    paths = trace(moving, "hand_landmarks_xy_v1", "a<b>")
    assert paths.count("<circle") == 2 and paths.count("<polyline") == 2, "points at the origin are missing"
    assert 'aria-label="a&lt;b&gt;: 5 frames of 42 numbers"' in paths
    curves = trace(moving, "vector_42_v1", "a")
    assert curves.count("<polyline") == 6 and "<circle" not in curves
    assert trace(moving[:1], "vector_42_v1", "a").count("<polyline") == 1
    assert "<polyline" not in trace(np.zeros((3, 42), np.float32), "hand_xy", "a")
    assert not re.search("nan|inf", trace(np.ones((3, 4), np.float32), "x_xy_v1", "a"))
