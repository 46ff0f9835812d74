"""Every page, in every language: at most 100 KB in one request, fits a phone, and axe finds nothing.

The registry's pages are found in the table of its service, so that a new one is looked at without being named here.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from model_registry.languages import LANGUAGES, Language
from model_registry.storage.tokens import add_token, tokens_file
from orchestrator.jobs import Job, failed
from orchestrator.monitor_page import page_server
from orchestrator.progress import Follower
from orchestrator.run_folder import RunFolder
from tests.model_registry.service.browser import Browser, chromium
from tests.model_registry.service.serving import page_addresses, served
from tests.model_registry.service.test_pages import write_registry
from tests.paths import ROOT
from tests.shared.commands.test_data_pages import all_kinds, page_of
from tests.shared.report.test_model_card import FORTY, write_card

pytestmark = pytest.mark.slow
SIZE = 100_000  # bytes
VALUES = {"user": "person07", "modality": "gesture", "version": "v2", "before": "v1", "after": "v3"}


@dataclass(frozen=True)
class Pages:
    """A browser, and servers and folders from which it gets pages."""

    browser: Browser
    secret: str
    registry: str
    monitor: str
    folder: Path

    def headers(self, language: Language) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.secret}", "Accept-Language": language, "Accept": "text/html"}

    def card(self, language: Language) -> str:
        path = self.folder / f"card-{language}.html"
        return write_card(path, labels=FORTY, training_config={"seed": 0, "lang": language}).as_uri()

    def data(self, language: Language) -> str:
        folder = self.folder / f"data-{language}"
        folder.mkdir()
        return page_of(folder / "data", all_kinds(folder / "data"), "--lang", language).as_uri()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    folder = tmp_path_factory.mktemp("every-page")
    store = write_registry(folder, card=write_card(folder / "card.html").read_bytes())
    secret = add_token(tokens_file(store.root), "browser", ("read",))
    runs = RunFolder(folder / "runs")
    jobs = [Job(user=user, modality="speech", data="data", fingerprint="a.b.c") for user in ("ana", "b" * 64)]
    runs.begin({}, jobs)
    runs.record("finished", failed(jobs[0], "internal", "no samples of " + "x" * 200).model_dump())
    with ExitStack() as stack:
        monitor = stack.enter_context(page_server(Follower(runs), "127.0.0.1", 0))
        threading.Thread(target=monitor.serve_forever, daemon=True).start()
        stack.callback(monitor.shutdown)
        registry = stack.enter_context(served(store))
        browser = stack.enter_context(chromium({}))
        browser.resize(360, 740)
        browser.ask("Page.setBypassCSP", enabled=True)  # axe is a script, and the registry's card may run none
        yield Pages(browser, secret, registry, f"http://127.0.0.1:{monitor.server_port}", folder)


# Name -> its address in a language.
Address = Callable[[Pages, Language], str]
PAGES: dict[str, Address] = {
    **{path: lambda pages, _, at=at: pages.registry + at for path, at in page_addresses(VALUES).items()},
    "what is not there": lambda pages, _: pages.registry + "/nowhere",
    "monitor": lambda pages, _: pages.monitor + "/",
    "model card": Pages.card,
    "data page": Pages.data,
}
# Asked for again and again by the monitor's page while it is open.
POLLED = ("/state.json", "/failures.json")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_one_small_request_fits_a_phone_and_passes_axe(name: str, language: Language, pages: Pages) -> None:
    url, browser = PAGES[name](pages, language), pages.browser
    browser.ask("Network.setExtraHTTPHeaders", headers=pages.headers(language))
    browser.events.clear()
    browser.sign_in(url, "")  # its header signs it in; the page of a refusal is behind a prompt, which is closed
    browser.run("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert browser.run("document.documentElement.scrollWidth") <= 360
    assert browser.violations() == []
    assert [each for each in browser.requests() if not each.endswith(POLLED)] == [url]
    assert 1000 < len(without_recordings(content(url, pages.headers(language)))) <= SIZE
    if name != "/users/{user}/{modality}/{version}/card":  # this one is as its training wrote it
        assert browser.run("document.documentElement.lang") == language


def content(url: str, headers: dict[str, str]) -> bytes:
    """Return a page's bytes."""
    if url.startswith("file:"):
        return Path(url.removeprefix("file://")).read_bytes()
    return httpx.get(url, headers=headers, timeout=30).content


def without_recordings(page: bytes) -> bytes:
    """Return a page without the sounds and pictures in it: those of the data page are what it is for."""
    return re.sub(rb"data:(?:audio|image)/[^\"')]+", b"", page)


def test_there_is_no_page_of_which_this_file_knows_nothing() -> None:
    """The page that tries a model is looked at with the model in it, where it is tested."""
    known = {"orchestrator/monitor.html", "shared/report/data_page.html", "shared/report/model_card.html"}
    packages = [
        path for path in ROOT.iterdir() if (path / "__init__.py").is_file() and path.name not in ("tests", "docs")
    ]
    found = {path.relative_to(ROOT).as_posix() for package in packages for path in package.rglob("*.html")}
    assert {path for path in found if not path.startswith("model_registry/service/")} == known | {
        "model_registry/web/index.html"
    }
    assert len(page_addresses(VALUES)) >= 6
