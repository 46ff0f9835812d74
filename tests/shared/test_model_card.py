"""The model card as people meet it: on a phone, with a screen reader, from a file."""

from pathlib import Path

import numpy as np
import pytest

from shared.charts import line_chart
from shared.metrics import LabelReport, Report
from shared.model_card import model_card
from shared.schema_utils import TrainingLogEntry
from tests.registry.browser import chromium

ADVICE = "Record 6 more of `hungry<b>` in a new session: it is confused with `thirsty`."
LABELS = ("hungry<b>", "thirsty")
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)


@pytest.fixture
def card(tmp_path: Path) -> Path:
    rows = tuple(LabelReport(label, 0.9, 0.8, 0.6, 0.9, 0.85, 20, 3, False) for label in LABELS)
    metrics = {"accuracy": 0.8, "accuracy_low": 0.6, "accuracy_high": 0.9, "majority_baseline": 0.5}
    result = Report(
        metrics, rows, np.array([[16, 4], [3, 17]]), ((0.7, 0.6, 10), (0.9, 0.95, 30)), "leave-one-session-out",
        "weak", ("balanced accuracy is 0.79",), ((10, 0.6), (40, 0.8)), ((0.5, 1.0), (1.0, 0.8)),
    )  # fmt: skip
    suspect = {"record_id": "r" * 36, "label": "thirsty", "rather": LABELS[0], "probability": 0.97}
    entry = TrainingLogEntry.model_validate(
        {
            "user_id": "ana", "modality": "gesture", "timestamp": "2026-03-01T10:00:00Z", "status": "success",
            "sample_count": 40, "session_count": 3, "verdict": "weak", "run_id": "r1", "labels": LABELS,
            "training_config": {"seed": 0}, "feature_spec_id": "sha256:" + "0" * 64, "notes": [], "dropped": [],
            "data_fingerprint": "sha256:" + "1" * 64, "warnings": ["1 label may be wrong"],
            "metrics": {"advice": [ADVICE], "chosen": "lda", "audit": {"suspected_labels": [suspect]}},
        }
    )  # fmt: skip
    path = tmp_path / "card.html"
    path.write_bytes(model_card(entry, result, PIXEL))
    return path


def test_the_card_says_verdict_and_advice_first_and_everything_in_words(card: Path) -> None:
    text = card.read_text("utf-8")
    assert text.index("Weak.") < text.index("Record 6 more of") < text.index("Label by label")
    assert "hungry&lt;b&gt;" in text and "hungry<b>" not in text
    for heading in ("Is it as sure", "Do more samples help?", "answers only when it is sure"):
        assert heading in text
    assert "http" not in text.replace("http-equiv", ""), "nothing is asked from outside"


def test_the_card_fits_a_phone_and_complains_of_nothing(card: Path, tmp_path: Path) -> None:
    with chromium({}) as page:
        page.resize(360, 740)
        page.open(card.as_uri())
        assert page.run("document.documentElement.scrollWidth") <= 360
        names = {name for role, name in page.accessible() if role in ("image", "img")}
        assert any("70%: 60%; 90%: 95%" in name for name in names)
        assert any("10: 60%; 40: 80%" in name for name in names)
        assert page.run("document.querySelector('#confusion tbody').innerText.split(/\\s+/).join(' ')").startswith(
            "hungry<b> 16 4"
        )
        page.screenshot(tmp_path / "card.png")
        bad = [e for e in page.events if e["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")]
        assert bad == []
        asked = [e["params"]["request"]["url"] for e in page.events if e["method"] == "Network.requestWillBeSent"]
        assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def test_a_chart_tells_its_points_and_escapes_its_words() -> None:
    chart = line_chart(((0.5, 0.25), (1.0, 1.0)), "a<b", "y", "T")
    assert "50%: 25%; 100%: 100%" in chart and "a&lt;b" in chart and "a<b" not in chart
