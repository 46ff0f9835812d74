"""The pages for people, in headless Chromium and as text."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from model_registry.service.server import create_app
from model_registry.storage.tokens import add_token, tokens_file
from model_registry.store import Registry
from tests.model_registry.bundles import make_bundle, make_encoder
from tests.model_registry.service.browser import Browser, chromium
from tests.model_registry.service.serving import served
from tests.paths import ROOT


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Sixty users, one of whom has three versions, an encoder and a second modality."""
    folder = tmp_path_factory.mktemp("pages")
    store = Registry(folder / "registry")
    for number in range(60):
        store.publish(make_bundle(folder, user=f"person{number:02d}", run="r1"))
    ref = make_encoder(folder)
    for run in ("r2", "r3"):
        store.publish(make_bundle(folder, user="person07", run=run, verdict="weak", encoder_refs=[ref]))
    store.rollback("person07", "gesture", "confuses <b>drink</b> & stop")
    store.publish(make_bundle(folder, user="person07", modality="visual_environment", run="r1"), promote=False)
    return store


@pytest.fixture(scope="module")
def secret(store: Registry) -> str:
    return add_token(tokens_file(store.root), "reader", ("read",))


@pytest.fixture(scope="module")
def client(store: Registry, secret: str) -> TestClient:
    return TestClient(create_app(store), headers={"Authorization": f"Bearer {secret}"})


@pytest.fixture(scope="module")
def browser(store: Registry, secret: str) -> Iterator[tuple[Browser, str]]:
    with served(store) as address, chromium({"Authorization": f"Bearer {secret}"}) as page:
        yield page, address


def test_a_browser_asks_for_the_token_and_then_shows_every_page(store: Registry, secret: str) -> None:
    with served(store) as address, chromium({}) as page:
        page.sign_in(f"{address}/", secret)
        for path in PAGES:
            page.open(f"{address}{path}")
            assert page.run("document.querySelector('h1') !== null && document.body.innerText.includes('person0')")


PAGES = ["/", "/?search=person0", "/users/person07/gesture", "/users/person07/gesture/v2"]


@pytest.mark.slow
def test_the_index_lists_searches_and_turns_pages(client: TestClient) -> None:
    text = client.get("/").text
    assert "60 users" in text and "person00" in text and "person49" in text and "person50" not in text
    assert "person50" in client.get("/?page=2").text
    found = client.get("/", params={"search": "ON07"}).text
    assert "1 user " in found and "v2" in found and "weak" in found and "none" in found
    assert "1 March 2026, 10:00 UTC" in found


def test_a_version_shows_card_history_and_files(client: TestClient) -> None:
    text = client.get("/users/person07/gesture/v2").text
    for expected in ("weak", "0.910", "drink, stop, très", "60 examples in 3 sessions", "minilm", "rollback"):
        assert expected in text
    assert "confuses &lt;b&gt;drink&lt;/b&gt; &amp; stop" in text
    link = re.search(r'href="(/users/person07/gesture/v2/files/model)"', text)
    assert link and client.get(link.group(1)).content == b"model of r2"
    card = client.get("/users/person07/gesture/v2/card")
    assert card.text == "<!doctype html><title>card</title>"
    assert "sandbox" in card.headers["content-security-policy"] and "default-src 'none'" in str(card.headers)


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
        for ink, paper in (("ink", "paper"), ("ink", "soft"), ("link", "paper")):
            assert contrast(colours[ink], colours[paper]) >= 4.5, (ink, paper)
        assert contrast(colours["line"], colours["paper"]) >= 3


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
    page.screenshot(tmp_path / "phone.png")
    assert (tmp_path / "phone.png").stat().st_size > 5000


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
    for _ in range(4):
        page.press("Tab")
        order.append(page.run("document.activeElement.textContent.trim() || document.activeElement.id"))
        assert page.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert order == ["Skip to the content", "All users", "search", "Search"]
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
