"""The pages for people, in headless Chromium and as text."""

from __future__ import annotations

import json
import re
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from model_registry.service.server import create_app
from model_registry.storage.tokens import add_token, tokens_file
from model_registry.store import Registry
from tests.model_registry.bundles import make_bundle, make_encoder
from tests.model_registry.service.browser import Browser, chromium
from tests.model_registry.service.serving import page_addresses, served
from tests.paths import ROOT

ARABIC = "\u0623\u0631\u064a\u062f \u0645\u0627\u0621"  # "I want water", written from right to left
LABELS = [
    "drink",
    ARABIC,
    "a label that is as long as labels may be, ".ljust(200, "x"),
    *(f"label {k}" for k in range(37)),
]
METRICS = {
    "balanced_accuracy": 0.8, "f1_macro": 0.91, "f1_macro_low": 0.85, "f1_macro_high": 0.95, "majority_baseline": 0.1,
    "coverage": 0.9, "coverage_low": 0.8, "coverage_high": 0.95, "ece": 0.07, "something_new": 3.0,
}  # fmt: skip
ADVICE = f"Record 6 more of `{ARABIC}` in a new session: it is confused with `drink`."


def evaluation_log(labels: list[str], recall: float) -> dict[str, Any]:
    """What a training log says of labels; the first has 0.2 less recall than the others."""
    rows = [
        {
            "label": label,
            "recall": recall - 0.2 * (label == labels[0]),
            "recall_low": 0.2,
            "recall_high": 0.9,
            "precision": 0.8,
        }
        | {"support": 20, "sessions": 3, "within_session": label == labels[1], "f1": 0.7}
        for label in labels
    ]
    reasons = ["balanced accuracy is 0.50, under 0.80"]
    return {
        "metrics": {
            "verdict_reasons": reasons,
            "advice": [ADVICE],
            "labels": rows,
            "validation": "leave-one-session-out",
        }
    }


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return write_registry(tmp_path_factory.mktemp("pages"))


def write_registry(folder: Path, **parts: bytes) -> Registry:
    """Write a registry of sixty users, one of whom has three versions, an encoder and a second modality.

    `parts` are `card` and `model` of the second and third version.
    """
    store = Registry(folder / "registry")
    for number in range(60):
        store.publish(make_bundle(folder, user=f"person{number:02d}", run="r1"))
    ref = make_encoder(folder)
    for run, recall in (("r2", 0.5), ("r3", 0.75)):
        log = evaluation_log(LABELS, recall)
        metrics = METRICS | {"accuracy": recall, "accuracy_low": recall - 0.2, "accuracy_high": recall + 0.2}
        changes: dict[str, Any] = {"verdict": "weak", "labels": LABELS, "metrics": metrics}
        store.publish(make_bundle(folder, user="person07", run=run, encoder_refs=[ref], log=log, **parts, **changes))
    store.rollback("person07", "gesture", "confuses <b>drink</b> & stop")
    store.publish(make_bundle(folder, user="person07", modality="visual_environment", run="r1"), promote=False)
    return store


@pytest.fixture(scope="module")
def secret(store: Registry) -> str:
    return add_token(tokens_file(store.root), "browser", ("read",))


@pytest.fixture(scope="module")
def client(store: Registry) -> TestClient:
    return reading_client(store)


@pytest.fixture(scope="module")
def browser(store: Registry, secret: str) -> Iterator[tuple[Browser, str]]:
    with served(store) as address, chromium({"Authorization": f"Bearer {secret}"}) as page:
        yield page, address


@pytest.mark.slow
def test_a_browser_asks_for_the_token_and_then_shows_every_page(store: Registry, secret: str) -> None:
    with served(store) as address, chromium({}) as page:
        page.sign_in(f"{address}/", secret)
        for path in PAGES:
            page.open(f"{address}{path}")
            assert page.run("document.querySelector('h1') !== null && document.body.innerText.includes('person0')")


@pytest.mark.slow
def test_a_browser_that_is_signed_in_downloads_each_file_of_a_version(
    store: Registry, secret: str, tmp_path: Path
) -> None:
    version = store.resolve("person07", "gesture")
    with served(store) as address, chromium({}) as page:
        page.sign_in(f"{address}/users/person07/gesture/{version.entry.model_version}", secret)
        page.ask("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
        for role, file in version.files.items():
            page.run(f"document.querySelector('a[href$=\"/files/{role}\"]').click()")
            there = tmp_path / file.name
            for _ in range(1000):
                if there.is_file() and there.stat().st_size == file.stat().st_size:
                    break
                time.sleep(0.02)
            assert there.read_bytes() == file.read_bytes(), role


@pytest.mark.slow
def test_a_browser_signs_out_and_is_asked_again(store: Registry, secret: str) -> None:
    heading = "document.querySelector('h1').textContent"
    with served(store) as address, chromium({}) as page:
        page.sign_in(f"{address}/", secret)
        page.open(f"{address}/users/person07")
        assert page.run("document.querySelector('nav a[href=\"/sign-out\"]').innerText") == "Sign out"
        page.sign_in(f"{address}/sign-out", "")
        assert page.run(heading) == "Signed out"
        page.sign_in(f"{address}/users/person07", "")
        assert page.run(heading) == "Sign in"
        page.sign_in(f"{address}/users/person07", secret)
        assert page.run(heading) == "person07"


PAGES = [
    "/",
    "/?search=person0",
    "/users/person07",
    "/users/person07/gesture",
    "/users/person07/gesture/v1",
    "/users/person07/gesture/v2",
    "/users/person07/gesture/compare?before=v2&after=v3",
    "/users/person07/gesture/compare?before=v1&after=v3",
]


@pytest.mark.slow
def test_the_index_lists_searches_and_turns_pages(client: TestClient) -> None:
    text = client.get("/").text
    assert "60 users" in text and "person00" in text and "person24" in text and "person25" not in text
    assert "person25" in client.get("/?page=2").text
    found = client.get("/", params={"search": "ON07"}).text
    assert "1 user " in found and "v2" in found and "Weak" in found and "none" in found
    assert "1 March 2026, 10:00 UTC" in found


def test_a_version_shows_card_history_and_files(client: TestClient) -> None:
    text = client.get("/users/person07/gesture/v2").text
    for expected in ("Weak", "0.910 (0.850 – 0.950)", "drink", "60 examples in 3 sessions", "minilm", "rollback"):
        assert expected in text
    assert "confuses &lt;b&gt;drink&lt;/b&gt; &amp; stop" in text
    link = re.search(r'href="(/users/person07/gesture/v2/files/model)"', text)
    assert link and client.get(link.group(1)).content == b"model of r2"
    card = client.get("/users/person07/gesture/v2/card")
    assert card.text == "<!doctype html><title>card</title>"
    assert "sandbox" in card.headers["content-security-policy"] and "default-src 'none'" in str(card.headers)


def test_a_version_leads_with_verdict_accuracy_labels_advice_and_card(client: TestClient) -> None:
    text = client.get("/users/person07/gesture/v2").text
    shown = plain_text(text[text.index("<body>") :])
    order = (
        "Weak – active", "Balanced accuracy is 0.50", "50%",
        "of recordings from sessions that it was not trained on were recognised. The 95% confidence interval is 30%",
        "drink 30% (20% – 90%)", "28 more labels", "Record 6 more of", "Read the model card", "Compare with v1",
        "Accuracy accuracy 0.500 (0.300 – 0.700)", "macro F1", "majority baseline", "Unknown coverage 0.900",
        "Calibration expected calibration error 0.070", "Others something new 3.000", "How it was made",
        "sha256", "History",
    )  # fmt: skip
    places = [shown.find(part) for part in order]
    assert -1 not in places and places == sorted(places), dict(zip(order, places, strict=True))
    assert "f1_macro_low" not in text and "accuracy_low" not in text
    assert f'<bdi lang="">{ARABIC}</bdi>' in text and f'<code dir="auto">{ARABIC}</code>' in text


def test_a_version_that_was_not_tested_on_another_day_has_no_interval(tmp_path: Path) -> None:
    store = Registry(tmp_path / "registry")
    log = evaluation_log(["drink", "eat"], 0.6)
    log["metrics"]["validation"] = "within-session"
    metrics = {"accuracy": 0.9, "accuracy_low": 0.71, "accuracy_high": 0.99}
    store.publish(make_bundle(tmp_path, log=log, verdict="insufficient data", metrics=metrics))
    client = reading_client(store)
    for path in ("/", "/users/user123", "/users/user123/gesture", "/users/user123/gesture/v1"):
        text = client.get(path).text
        assert "90%" in text and "71%" not in text and "20% –" not in text, path
    assert "0.710" not in text
    assert "there is no interval" in client.get("/users/user123/gesture/v1").text


def test_two_versions_are_compared_label_by_label(client: TestClient) -> None:
    text = client.get("/users/person07/gesture/compare?before=v2&after=v3").text
    plain = plain_text(text)
    assert "drink 30% (20% – 90%) 55% (20% – 90%) +25 points" in plain
    assert "accuracy 0.500 (0.300 – 0.700) 0.750 (0.550 – 0.950) +0.250" in plain
    assert text.count('<svg class="pair"') == len(LABELS)
    gained = client.get("/users/person07/gesture/compare?before=v1&after=v2").text
    assert f'Gained: <bdi lang="">{ARABIC}' in gained and 'Lost: <bdi lang="">stop</bdi>' in gained
    assert client.get("/users/person07/gesture/compare?before=v1&after=v9").status_code == 404
    assert client.get("/users/person07/gesture/compare?before=v1&after=<b>").status_code == 422


def test_a_version_without_a_card_says_so_in_words(tmp_path: Path) -> None:
    store = Registry(tmp_path / "registry")
    bundle = make_bundle(tmp_path)
    description = json.loads((bundle / "bundle.json").read_text())
    del description["files"]["model_card"]
    (bundle / "model_card.html").unlink()
    (bundle / "bundle.json").write_text(json.dumps(description))
    store.publish(bundle)
    client = reading_client(store)
    assert "/card" not in client.get("/users/user123/gesture/v1").text
    page = client.get("/users/user123/gesture/v1/card", headers={"Accept-Language": "de"})
    assert page.status_code == 404 and "Diese Version hat keine Modellkarte." in page.text


def test_accuracy_over_versions_is_drawn_and_said(client: TestClient) -> None:
    for path in ("/users/person07", "/users/person07/gesture"):
        text = client.get(path).text
        said = "v1: 91%; v2: 50% (30% – 70%); v3: 75% (55% – 95%)."
        assert said in text and text.count('<circle class="active"') == 1, path
    assert "<svg" not in client.get("/users/person08/gesture").text


def test_a_token_for_one_person_sees_that_person_alone(store: Registry) -> None:
    secret = add_token(tokens_file(store.root), "one", ("read:person07",))
    client = TestClient(create_app(store), headers={"Authorization": f"Bearer {secret}"})
    for path in ("", "/gesture", "/gesture/compare?before=v1&after=v1"):
        assert client.get(f"/users/person07{path}").status_code == 200
        assert client.get(f"/users/person08{path}").status_code == 403


@pytest.mark.parametrize(
    "log", [{"metrics": 5}, {"metrics": {"labels": [{"label": 1}], "advice": "x", "verdict_reasons": None}}]
)
def test_a_log_of_another_shape_leaves_a_page_without_what_it_does_not_say(log: dict[str, Any], tmp_path: Path) -> None:
    store = Registry(tmp_path / "registry")
    store.publish(make_bundle(tmp_path, log=log))
    text = reading_client(store).get("/users/user123/gesture/v1").text
    assert '<bdi lang="">drink</bdi>, ' in text and "What to do next" not in text


@pytest.mark.parametrize(
    ("asked", "language", "said"),
    [
        ("de-DE,en;q=0.5", "de", ["Schwach", "Genauigkeit", "Das 95\u00a0%-Konfidenzintervall reicht von",
                                  "0,500 (0,300 – 0,700)", "Die balancierte Genauigkeit ist 0.50", "Es wird mit",
                                  "Modellkarte lesen", "1. März 2026"]),
        ("es", "es", ["Débil", "Exactitud", "El intervalo de confianza del 95\u00a0%", "se confunde con",
                      "1 de marzo de 2026"]),
        ("fr", "en", ["Weak", "Accuracy", "Read the model card", "1 March 2026"]),
    ],
)  # fmt: skip
def test_pages_speak_the_language_of_the_browser(
    client: TestClient, asked: str, language: str, said: list[str]
) -> None:
    page = client.get("/users/person07/gesture/v2", headers={"Accept-Language": asked})
    assert f'<html lang="{language}">' in page.text and page.headers["content-language"] == language
    assert page.headers["vary"] == "Accept-Language"
    assert [text for text in said if text not in page.text] == []
    for path in PAGES:
        text = client.get(path, headers={"Accept-Language": asked}).text
        assert f'<html lang="{language}">' in text and "%(" not in text
        if language != "en":
            words = plain_text(re.sub("<bdi.*?</bdi>", "", text[text.index("<body>") :]))
            assert re.findall(r"\b(?:the|of|is|are|and|version|versions)\b", words) == [], path


@pytest.mark.slow
def test_no_page_is_larger_than_100_kb(tmp_path: Path) -> None:
    """With ids, labels and texts as long as they may be, and more versions, labels and events than a page shows."""
    store = Registry(tmp_path / "registry")
    user, labels = "u" * 60, [f"{k:03}".ljust(60, "\u0644") for k in range(300)]
    for number in range(30):
        for modality in ("gesture", "sound", "speech", "visual_environment"):
            store.publish(make_bundle(tmp_path, user=f"{user}{number:02}", modality=modality))
    config = {f"key{k}": "v" * 5000 for k in range(200)}
    for number in range(60):
        changes: dict[str, Any] = {"labels": labels, "config": config if number == 59 else {}}
        log = evaluation_log(labels, 0.5)
        store.publish(make_bundle(tmp_path, user=user, run=f"r{number}", log=log, **changes))
        store.rollback(user, "gesture", "r" * 500) if number else None
    client = reading_client(store)
    values = {"user": user, "modality": "gesture", "version": "v1", "before": "v1", "after": "v60"}
    for path in page_addresses(values).values():
        page = client.get(path)
        expected = 401 if path == "/sign-out" else 200
        assert page.status_code == expected and len(page.content) <= 100_000, (path, len(page.content))
        assert len(page.content) > 3000 or path.endswith("/card"), path
    assert "v1</a>" in client.get(f"/users/{user}/gesture?page=2").text


def plain_text(page: str) -> str:
    return " ".join(re.sub("<[^>]+>", " ", page).replace("\u00a0", " ").replace("&nbsp;", " ").split())


def reading_client(store: Registry) -> TestClient:
    secret = add_token(tokens_file(store.root), "reader", ("read",))
    return TestClient(create_app(store), headers={"Authorization": f"Bearer {secret}"})


def test_hostile_input_is_shown_as_text(client: TestClient) -> None:
    text = client.get("/", params={"search": "<script>alert(1)</script>"}).text
    assert "<script" not in text and "&lt;script&gt;" in text
    assert client.get("/users/..%2f/gesture").status_code in (404, 422)
    assert client.get("/users/person07/gesture/v99").status_code == 404


def test_colours_have_enough_contrast() -> None:
    css = (ROOT / "model_registry/service/templates/base.html").read_text()
    schemes = re.findall(r":root \{([^}]*--ink[^}]*)\}", css)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{3,6})", scheme))
        for ink, paper in (("ink", "paper"), ("ink", "soft"), ("link", "paper"), ("tone", "paper"), ("tone", "tint")):
            assert contrast(colours[ink], colours[paper]) >= 4.5, (ink, paper)
        assert min(contrast(colours[mark], colours["paper"]) for mark in ("line", "link", "other")) >= 3


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours as WCAG 2 defines it."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(c * 2 for c in colour[1:])
        parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("path", PAGES)
def test_a_page_fits_a_phone_and_says_everything_to_a_screen_reader(
    browser: tuple[Browser, str], path: str, tmp_path: Path
) -> None:
    page, address = browser
    page.resize(360, 740)
    page.events.clear()
    page.open(address + path)
    assert page.run("document.documentElement.scrollWidth") <= 360
    assert [e for e in page.events if e["method"] in ("Log.entryAdded", "Runtime.exceptionThrown")] == []
    assert page.run("document.documentElement.lang") == "en" and page.run("document.title").endswith("model registry")
    met = page.accessible()
    roles = [role for role, _ in met]
    assert roles.count("main") == 1 and roles.count("navigation") >= 1
    assert [
        role for role, name in met if role in ("link", "button", "searchbox", "heading", "region") and not name
    ] == []
    links = [name for role, name in met if role == "link"]
    assert len(links) == len(set(links)), "two links sound the same"
    assert page.run("document.querySelectorAll('h1').length") == 1
    assert page.run("document.querySelectorAll('script').length") == 0
    assert page.requests() == [address + path]
    page.screenshot(tmp_path / "phone.png")
    assert (tmp_path / "phone.png").stat().st_size > 5000


REFUSED = [
    ("/nowhere", 404, "Not there"),
    ("/users/nobody/gesture/v1", 404, "Not there"),
    ("/users/person07/gesture/v9", 404, "Not there"),
    ("/users/person07/gesture/v1/files/recipe", 404, "Not there"),
    ("/users/person07/gesture/vx", 422, "Not understood"),
    ("/users/a%20b/gesture", 422, "Not understood"),
    ("/?page=0", 422, "Not understood"),
]


@pytest.mark.parametrize(("path", "status", "heading"), REFUSED)
def test_what_is_refused_is_a_page_for_a_browser_and_json_for_a_program(
    client: TestClient, path: str, status: int, heading: str
) -> None:
    for accepted in ({}, {"Accept": "application/json"}):
        response = client.get(path, headers=accepted)
        assert response.status_code == status and response.json()["detail"]
    page = client.get(path, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert page.status_code == status and page.headers["content-type"].startswith("text/html")
    assert f"<h1>{heading}</h1>" in page.text and page.headers["vary"] == "Accept-Language"
    assert "script" not in page.headers["content-security-policy"].replace("default-src 'none'", "")


def test_who_may_not_see_a_page_is_told_what_to_do(store: Registry, secret: str) -> None:
    app = TestClient(create_app(store))
    browser = {"Accept": "text/html", "Accept-Language": "es"}
    unknown = app.get("/", headers=browser)
    assert unknown.status_code == 401 and "<h1>Iniciar sesi\u00f3n</h1>" in unknown.text
    assert unknown.headers["www-authenticate"].startswith("Basic ")
    own = add_token(tokens_file(store.root), "family", ("read:person07",))
    foreign = app.get("/users/person08", headers={**browser, "Authorization": f"Bearer {own}"})
    assert foreign.status_code == 403 and "<h1>No permitido</h1>" in foreign.text
    posted = app.post("/v1/uploads", headers=browser)
    assert posted.status_code == 401 and posted.json()["detail"] == "a token is required"


@pytest.mark.slow
@pytest.mark.parametrize("language", ["en", "de", "es"])
def test_refusals_fit_a_phone_pass_axe_and_are_one_request(
    store: Registry, secret: str, language: str, tmp_path: Path
) -> None:
    headers = {"Authorization": f"Bearer {secret}", "Accept-Language": language}
    with served(store) as address, chromium(headers) as page:
        page.resize(360, 740)
        for path, _, heading in REFUSED:
            page.events.clear()
            page.open(address + path)
            assert page.run("document.documentElement.lang") == language
            assert (page.run("document.querySelector('h1').textContent") == heading) == (language == "en")
            assert page.run("document.documentElement.scrollWidth") <= 360, path
            assert page.violations() == [], path
            assert page.requests() == [address + path]
    without = TestClient(create_app(store)).get("/", headers={"Accept": "text/html", "Accept-Language": language})
    (tmp_path / "sign-in.html").write_text(without.text)  # a browser shows it to those who close its prompt
    with chromium({}) as page:
        page.resize(360, 740)
        page.open((tmp_path / "sign-in.html").as_uri())
        assert page.run("document.querySelector('h1').textContent") in ("Sign in", "Anmelden", "Iniciar sesi\u00f3n")
        assert page.run("document.documentElement.scrollWidth") <= 360 and page.violations() == []


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_a_page_passes_axe(browser: tuple[Browser, str], path: str, scheme: str) -> None:
    page, address = browser
    page.resize(360, 740)
    page.prefer(scheme)
    page.open(address + path)
    assert (
        page.run("getComputedStyle(document.body).backgroundColor")
        == {
            "light": "rgb(255, 255, 255)",
            "dark": "rgb(22, 24, 27)",
        }[scheme]
    )
    assert page.violations() == []


def test_a_user_is_found_by_keyboard_alone(browser: tuple[Browser, str]) -> None:
    page, address = browser
    page.resize(1200, 800)
    page.open(f"{address}/")
    order = []
    for _ in range(5):
        page.press("Tab")
        order.append(page.run("document.activeElement.textContent.trim() || document.activeElement.id"))
        assert page.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert order == ["Skip to the content", "All users", "Sign out", "search", "Search"]
    page.run("document.getElementById('search').focus()")
    page.ask("Input.insertText", text="person07")
    page.press("Enter")
    for _ in range(3000):
        if page.run("location.search") == "?search=person07" and page.run("document.readyState") == "complete":
            break
    assert page.run("document.querySelectorAll('tbody tr').length") == 2


def test_the_templates_are_part_of_the_package() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["*"]
    templates = sorted((ROOT / "model_registry/service/templates").iterdir())
    assert len(templates) >= 5
    for template in templates:
        assert template in [
            found for pattern in patterns for found in (ROOT / "model_registry" / "service").glob(pattern)
        ]
