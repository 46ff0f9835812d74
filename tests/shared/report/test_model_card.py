"""The model card as people meet it: on a phone, with a screen reader, from a file, on paper."""

import base64
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.report.charts import interval_chart, line_chart, timeline_chart
from shared.report.model_card import model_card
from shared.schema_utils import TrainingLogEntry
from shared.training_run import Confusion, LabelReport, Report
from tests.model_registry.service.browser import Browser, chromium

ADVICE = "Record 6 more of `hungry<b>` in a new session: it is confused with `thirsty`."
LABELS = ("hungry<b>", "thirsty", "a label that is as long as labels may be, in order to be long")
ARABIC = "\u0623\u0631\u064a\u062f \u0645\u0627\u0621"  # "I want water", written from right to left
FORTY = (*LABELS, ARABIC, "y" * 200, *(f"label {k}" for k in range(35)))


def write_card(
    path: Path,
    verdict: str = "weak",
    scheme: str = "leave-one-session-out",
    gap: float = 0.12,
    labels: tuple[str, ...] = LABELS,
    **changes: Any,
) -> Path:
    """Write the card of a model and return its path."""
    rows = tuple(
        LabelReport(label, 0.9, 0.8, 0.6, 0.9, 0.85, 20, 3, label == LABELS[1], 0.7, 0.97, 0.66, 0.95, 0.81)
        for label in LABELS
    )
    metrics = {
        "accuracy": 0.8, "accuracy_low": 0.6, "accuracy_high": 0.9, "majority_baseline": 0.5, "coverage": 0.9,
        "accuracy_accepted": 0.88, "top2_accuracy": 0.93, "ece": 0.07,
        "ece_calibrated": 0.07, "ece_uncalibrated": 0.21, "optimism_gap": gap,
        "random_split_accuracy": 0.92, "f1_macro": 0.77, "f1_macro_low": 0.61, "f1_macro_high": 0.89,
        "open_set_auroc": 0.83, "false_rejection_rate": 0.1, "set_coverage": 0.91, "set_size": 1.3,
    }  # fmt: skip
    result = Report(
        metrics, rows, np.array([[16, 4, 0], [3, 17, 0], [1, 0, 19]]), ((0.7, 0.6, 10), (0.9, 0.95, 30)),
        scheme, verdict, () if verdict == "good" else ("balanced accuracy is 0.79",),
        ((10, 0.6), (40, 0.8)), ((0.5, 1.0), (1.0, 0.8)),
        (Confusion(LABELS[0], "thirsty", 4, 20, 0.08, 0.42), Confusion("thirsty", LABELS[0], 1, 20, 0.01, 0.2)),
    )  # fmt: skip
    suspect = {"record_id": "r" * 36, "label": "thirsty", "predicted": LABELS[0], "probability": 0.97}
    timeline = [
        {"session_id": f"s{k}" * 12, "started": f"2026-03-0{k}T10:00:00.000Z", "samples": 10 * k, "recognised": 8 * k}
        for k in (1, 2, 3)
    ]
    if labels != LABELS:
        rows = tuple(replace(rows[0], label=label, recall=1 - k / 50) for k, label in enumerate(labels))
        table = 15 * np.eye(len(labels), dtype=int) + np.eye(len(labels), k=1, dtype=int)
        result = replace(result, labels=rows, confusion_matrix=table)
    entry: dict[str, Any] = {
        "user_id": "ana", "modality": "gesture", "timestamp": "2026-03-05T10:00:00Z", "status": "success",
        "left_out_candidates": [],
        "sample_count": 60, "session_count": 3, "verdict": verdict, "run_id": "r1", "labels": LABELS,
        "training_config": {"seed": 0}, "feature_spec_id": "sha256:" + "0" * 64, "notes": ["A note."],
        "encoding": "video/mp4",
        "dropped": [{"record_id": "q" * 40, "reason": "nobody consented to it"}], "timeline": timeline,
        "encoder_refs": [{"name": "lite0", "sha256": "3" * 64}], "libraries": {"python": "3.11", "numpy": "2.0"},
        "data_fingerprint": "sha256:" + "1" * 64, "model_sha256": "2" * 64, "warnings": ["1 label may be wrong"],
        "metrics": {
            "advice": [ADVICE], "chosen": "lda", "audit": {"suspected_labels": [suspect]}, "temperature": 1.5,
            "candidates": {"lda": 0.8, "ridge": 0.7}, "rejection_threshold": -2.0,
        },
    } | changes  # fmt: skip
    path.write_bytes(model_card(TrainingLogEntry.model_validate(entry), result))
    return path


@pytest.fixture
def card(tmp_path: Path) -> Path:
    return write_card(tmp_path / "card.html")


def _faults(page: Browser) -> list[Any]:
    """What the browser complained of, and what was asked for from outside."""
    bad: list[Any] = [e for e in page.events if e["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")]
    return bad + [url for url in page.requests() if not url.startswith("file:")]


def test_the_card_says_verdict_and_advice_first_and_everything_in_words(card: Path) -> None:
    text = card.read_text("utf-8")
    order = ("Weak", "Balanced accuracy is 0.79.", "Record 6 more of", "Accuracy</h2>", "Labels</h2>")
    places = [text.index(part, text.index("<body>")) for part in (*order, "Sessions</h2>", "Technical details")]
    assert places == sorted(places)
    assert "hungry&lt;b&gt;" in text and "hungry<b>" not in text
    for heading in (
        "Confusion matrix",
        "Learning curve",
        "Accuracy by coverage",
        "Reliability",
        "Recordings that were left out",
    ):
        assert heading in text
    plain = " ".join(re.sub("<[^>]+>", "", text).replace("\u00a0", " ").split())
    assert "hungry&lt;b&gt; was predicted as thirsty 4 times out of 20 (8% – 42%)." in plain
    assert "1 time out of 20 (1% – 20%)." in plain
    assert "nobody consented to it" in text and "1 label may be wrong" in text
    assert "one session only: not tested on another day" in text
    assert "http" not in text, "nothing is asked from outside"


def test_the_card_gives_every_metric_with_its_interval(card: Path) -> None:
    plain = " ".join(
        re.sub("<[^>]+>", " ", card.read_text("utf-8")).replace("\u00a0", " ").replace("&nbsp;", " ").split()
    )
    for told in (
        "The 95% confidence interval is 60% to 90%.",
        "Always predicting the most frequent label would reach 50%.",
        "They held it for 91%, with 1.3 labels on average",
        "among its two most probable for 93% of them (top-2 accuracy)",
        "reports 92%: 12 percentage points more than can be expected on another day",
        "It accepted 90% of them (coverage)",
        "which is a false rejection rate of 10%. Of those that it accepted, 88% were right",
        "it is 7% with it and 21% without",
        "macro F1 0.770 0.610 – 0.890",
        "open-set detection AUROC (label held out) 0.830",
        "Label Precision Recall F1 Support Open-set AUROC",
        "thirsty 0.90 (0.70 – 0.97) 0.80 (0.60 – 0.90) 0.85 (0.66 – 0.95) 20 0.81",
    ):
        assert told in plain, told
    once = write_card(card.with_name("once.html"), scheme="within-session").read_text("utf-8")
    assert "so there is no interval: on another day it may be less" in once and "A random split" not in once
    shown = once[once.index("<body>") :]
    assert re.search("60% (–|to) ", card.read_text("utf-8"))
    assert "there is no interval" in shown
    assert not re.search("60% (–|to) ", shown) and "0.610 – 0.890" not in shown and "(0.70 – 0.97)" not in shown


@pytest.mark.parametrize(
    ("gap", "said"),
    [(0.12, "12 percentage points more than"), (0.01, "hardly more than unseen"), (-0.03, "no more than unseen")],
)
def test_a_random_split_is_compared_whichever_way_it_differs(gap: float, said: str, tmp_path: Path) -> None:
    text = write_card(tmp_path / "card.html", gap=gap).read_text("utf-8")
    assert said in text and text.count("percentage points more than") == (gap > 0.015)


def test_the_card_gives_hashes_and_how_to_reproduce_the_model(card: Path) -> None:
    text = card.read_text("utf-8")
    for digest in ("0" * 64, "1" * 64, "2" * 64, "3" * 64):
        assert f"sha256:{digest}" in text
    assert "model-trainer reproduce --user ana --modality gesture --version VERSION" in text


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1280])
def test_the_card_fits_a_phone_and_a_screen_and_complains_of_nothing(width: int, card: Path, tmp_path: Path) -> None:
    with chromium({}) as page:
        page.resize(width, 740)
        page.open(card.as_uri())
        assert page.run("document.documentElement.scrollWidth") <= width
        page.screenshot(tmp_path / "card.png")
        assert _faults(page) == []


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_card_passes_axe_in_light_and_dark(scheme: str, tmp_path: Path) -> None:
    with chromium({}) as page:
        page.resize(360, 740)
        page.prefer(scheme)
        for k, verdict in enumerate(("good", "weak", "insufficient data")):
            path = write_card(tmp_path / f"{k}.html", verdict, labels=FORTY if k else LABELS)
            page.open(path.as_uri())
            page.run("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
            assert page.violations() == [], verdict
            paper = page.run("getComputedStyle(document.body).backgroundColor")
            assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 24, 27)"}[scheme]


@pytest.mark.slow
def test_a_card_of_forty_labels_is_short_and_keeps_labels_in_view(tmp_path: Path) -> None:
    path = write_card(tmp_path / "card.html", labels=FORTY)
    assert path.stat().st_size < 100_000
    with chromium({}) as page:
        page.resize(360, 740)
        page.open(path.as_uri())
        assert page.run("document.documentElement.scrollWidth") <= 360
        assert page.run("document.documentElement.scrollHeight") < 10_000
        first = "document.querySelector('[aria-label=\"Labels of lowest recall\"] tbody').rows"
        assert page.run(f"[{first}.length, {first}[0].cells[0].innerText]") == [12, "label 34"]
        assert page.run("document.querySelector('#confusion').checkVisibility()") is False
        page.run("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
        assert page.run("document.querySelectorAll('#confusion thead th').length") == 41
        assert page.run("[...document.querySelectorAll('#confusion tbody tr')].every((row) => row.cells.length === 41)")
        cells = "document.querySelectorAll('#confusion tbody tr')[3].cells"
        assert page.run(f"[{cells}[0].innerText, {cells}[4].innerText, {cells}[5].innerText]") == [
            f"4 {ARABIC}",
            "15",
            "1",
        ]
        page.run("document.querySelector('.many').scrollLeft = 500")
        assert page.run(f"{cells}[0].getBoundingClientRect().left") == page.run(
            "document.querySelector('.many').getBoundingClientRect().left"
        ), "the label stays beside its row"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("de", ["Gesten von ana", "Schwach", "5. März 2026", "Nehmen Sie ", "Das 95\u00a0%-Konfidenzintervall reicht",
                "in 4 von 20 Fällen als", "Lernkurve", "Kalibrierungsfehler ist 7\u00a0%", "Sitzungen nach Zeit"]),
        ("es", ["Gestos de ana", "Débil", "5 de marzo de 2026", "Grabe ", "se predijo como", "4 veces de 20"]),
    ],
)  # fmt: skip
def test_the_card_speaks_the_language_of_the_configuration(language: str, said: list[str], tmp_path: Path) -> None:
    path = write_card(tmp_path / "card.html", labels=FORTY, training_config={"seed": 0, "lang": language})
    text = path.read_text("utf-8")
    assert f'<html lang="{language}">' in text and "%(" not in text
    assert [each for each in said if each not in text] == []
    said_of_it = r'<(span|td) lang="en">.*?</\1>|<bdi.*?</bdi>|<code.*?</code>|aria-label="[^"]*"'
    reader = re.sub(said_of_it, "", text[text.index("<body>") :])
    assert "engineer" in reader
    plain = re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", reader))
    assert re.findall(r"\b(?:the|of|is|are|and|not|label|recordings)\b", plain) == []
    with chromium({}) as page:
        page.resize(360, 740)
        page.open(path.as_uri())
        assert page.run("document.documentElement.scrollWidth") <= 360
        assert page.violations() == []


def test_labels_are_laid_out_in_their_own_direction(tmp_path: Path) -> None:
    advice = f"Record 6 more of `{ARABIC}` in a new session: it is confused with `thirsty`."
    metrics = {"advice": [advice], "chosen": "lda", "audit": {"suspected_labels": []}, "temperature": 1.0}
    metrics |= {"candidates": {"lda": 0.8}, "rejection_threshold": 0.0}
    text = write_card(tmp_path / "card.html", labels=FORTY, metrics=metrics).read_text("utf-8")
    outside = re.sub(r'<bdi lang="">[^<]*</bdi>|<code dir="auto">[^<]*</code>', "", text)
    assert ARABIC in text and ARABIC not in outside


@pytest.mark.slow
def test_a_table_that_is_wider_than_the_screen_shows_that_it_goes_on(card: Path) -> None:
    with chromium({}) as page:
        page.resize(360, 740)
        page.open(card.as_uri())
        wide = "document.querySelector('[aria-label=Labels]')"
        assert page.run(f"{wide}.scrollWidth > {wide}.clientWidth")
        assert page.run(f"getComputedStyle({wide}).backgroundAttachment") == "local, local, scroll, scroll"


def test_long_lists_are_cut_and_counted(tmp_path: Path) -> None:
    dropped = [{"record_id": f"r{k}", "reason": "too short" if k % 3 else "silent"} for k in range(3000)]
    timeline = [
        {"session_id": f"s{k}", "started": "2026-03-01T10:00:00.000Z", "samples": 10, "recognised": 8}
        for k in range(400)
    ]
    path = write_card(tmp_path / "card.html", dropped=dropped, timeline=timeline)
    text = path.read_text("utf-8")
    assert path.stat().st_size < 100_000
    for said in ('2000: <span lang="en">too short', '1000: <span lang="en">silent', "And 2940 more;", "And 340 more;"):
        assert said in text


@pytest.mark.slow
def test_axe_finds_what_is_wrong(tmp_path: Path) -> None:
    """So that the test above does not pass because nothing was looked at."""
    path = tmp_path / "bad.html"
    path.write_text("<!doctype html><html><title>t</title><img src='data:,'><p style='color:#999'>pale</p></html>")
    with chromium({}) as page:
        page.open(path.as_uri())
        found = {fault.split(":")[0] for fault in page.violations()}
    assert found >= {"image-alt", "color-contrast", "html-has-lang"}


@pytest.mark.slow
def test_a_screen_reader_is_told_every_point_of_every_chart(card: Path) -> None:
    with chromium({}) as page:
        page.open(card.as_uri())
        names = {name for role, name in page.accessible() if role in ("image", "img")}
        told = page.run("document.querySelector('#confusion tbody').innerText.split(/\\s+/).join(' ')")
    assert any("70%: 60%; 90%: 95%" in name for name in names)
    assert any("10: 60%; 40: 80%" in name for name in names)
    assert any("2026-03-01: 10 recordings, 80% recognised; 2026-03-02: 20 recordings" in name for name in names)
    assert any("80% (60% – 90%); always the most frequent label: 50%" in name for name in names)
    assert told.startswith("hungry<b> 16 4 0")


@pytest.mark.slow
def test_the_card_prints_on_pages_without_losing_anything_at_the_side(card: Path) -> None:
    with chromium({}) as page:
        page.open(card.as_uri())
        page.ask("Emulation.setEmulatedMedia", media="print")
        page.resize(720, 1000)  # A4 between its margins
        assert page.run("document.documentElement.scrollWidth") <= 720
        paper = base64.b64decode(page.ask("Page.printToPDF", printBackground=True)["data"])
    assert paper.startswith(b"%PDF") and 2 <= paper.count(b"/Type /Page\n") <= 8


@pytest.mark.slow
def test_what_is_behind_a_click_is_printed(tmp_path: Path) -> None:
    with chromium({}) as page:
        page.open(write_card(tmp_path / "card.html", labels=FORTY).as_uri())
        visible = "document.querySelector('#confusion td').checkVisibility({contentVisibilityAuto: true})"
        assert page.run(visible) is False
        page.ask("Emulation.setEmulatedMedia", media="print")
        until = time.monotonic() + 20
        while page.run(visible) is False and time.monotonic() < until:
            time.sleep(0.05)  # the page is laid out again at its next frame
        assert page.run(visible) is True


def test_a_card_without_sessions_or_advice_is_whole(tmp_path: Path) -> None:
    metrics = {"advice": [], "chosen": "lda", "audit": {"suspected_labels": []}, "temperature": 1.0}
    metrics |= {"candidates": {"lda": 0.8}, "rejection_threshold": 0.0}
    path = write_card(tmp_path / "card.html", "good", timeline=[], dropped=[], warnings=[], notes=[], metrics=metrics)
    text = path.read_text("utf-8")
    assert "What to do next" not in text and "left out" not in text and "</html>" in text


def test_charts_tell_their_points_and_escape_their_words() -> None:
    chart = line_chart(((0.5, 0.25), (1.0, 1.0)), "a<b", "y", "T", "{:.0%}".format)
    assert "50%: 25%; 100%: 100%" in chart and "a&lt;b" in chart and "a<b" not in chart
    interval = interval_chart(0.5, 0.25, 0.75, [("a<b", 0.1)], "T", "{:.0%}".format)
    assert "50% (25% – 75%); a&lt;b: 10%" in interval and "a<b" not in interval
    many = timeline_chart([(f"2026-03-{k:02d}T00:00:00Z", k, 1.0) for k in range(1, 29)], "T")
    assert many.count("<rect") == 56 and many.count("<text") == 2
