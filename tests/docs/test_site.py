"""The documentation as a site: it builds strictly, every link leads somewhere, and nothing comes from another host."""

from __future__ import annotations

import os
import posixpath
import re
import subprocess
import sys
from dataclasses import dataclass, field, fields
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import model_trainer.estimators
from model_trainer import Model, Prediction, Published, TrainingResult
from tests.paths import ROOT

pytest.importorskip("material", reason="needs mkdocs-material; make setup installs it")
pytest.importorskip("mkdocstrings", reason="needs mkdocstrings; make setup installs it")
pytest.importorskip("mkdocs", reason="needs mkdocs; make setup installs it")
from docs.site_pages import PROJECT_FILES, site_links

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src"}
LOADING_LINKS = {"stylesheet", "icon", "preload", "prefetch", "preconnect", "dns-prefetch", "modulepreload", "manifest"}


@dataclass
class SitePage(HTMLParser):
    """A page's anchors, the links that a reader follows, and the addresses that a browser loads by itself."""

    text: str
    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.anchors |= {attributes[name] for name in ("id", "name") if name in attributes}
        if tag in LOADED and attributes.get(LOADED[tag]):
            self.loaded.append(attributes[LOADED[tag]])
        if tag == "link" and LOADING_LINKS & set(attributes.get("rel", "").split()):
            self.loaded.append(attributes["href"])
        if tag == "a" and "href" in attributes:
            self.links.append(attributes["href"])


def faults(site: Path) -> list[str]:
    """Return every link to a missing file or anchor, and everything that is loaded from another host."""
    pages = {path: SitePage(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loaded and parts.scheme != "data":
                    found.append(f"{path.relative_to(site)}: loads {link}")
                continue
            name = unquote(parts.path)
            base = site if name.startswith("/") else path.parent
            target = Path(posixpath.normpath(base / name.lstrip("/"))) if name else path
            target = target / "index.html" if target.is_dir() else target
            anchor = unquote(parts.fragment)
            if not target.is_file() or (anchor and target in pages and anchor not in pages[target].anchors):
                found.append(f"{path.relative_to(site)}: {link}")
    for style in sorted(site.rglob("*.css")):
        loaded = re.findall(r"(?:url\(\s*['\"]?|@import\s+['\"])((?:https?:)?//[^)'\"]+)", style.read_text("utf-8"))
        found += [f"{style.relative_to(site)}: loads {address}" for address in loaded]
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the site, built strictly."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_every_link_and_anchor_resolves_and_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    assert len(list(site.rglob("*.html"))) > 30
    assert faults(site) == []


@pytest.mark.slow
def test_every_page_of_the_documentation_is_on_the_site(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    pages |= {Path("project", name).with_suffix(".html") for name in PROJECT_FILES if name.endswith(".md")}
    places = {page.with_name("index.html") if page.stem == "README" else page for page in pages}
    assert [str(place) for place in sorted(places) if not (site / place).is_file()] == []
    assert "SequenceFeatures" in (site / "python-api.html").read_text(encoding="utf-8")
    assert not [path for path in site.rglob("*") if path.suffix in (".py", ".ipynb")]


@pytest.mark.slow
def test_the_reference_has_all_of_the_python_api_with_its_fields(site: Path) -> None:
    text = (site / "python-reference.html").read_text(encoding="utf-8")
    names = [f"model_trainer.{name}" for name in model_trainer.__all__]
    names += [f"model_trainer.estimators.{name}" for name in model_trainer.estimators.__all__]
    assert len(names) > 10 and [name for name in names if name not in SitePage(text).anchors] == []
    documented = (Model, Prediction, Published, TrainingResult)
    named = [f"{kind.__name__}.{one.name}" for kind in documented for one in fields(kind) if one.name[0] != "_"]
    assert len(named) > 15 and [name for name in named if f'title="model_trainer.{name}"' not in text] == []


def test_a_fault_of_each_kind_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "other.html").write_text('<h1 id="top">Other</h1>')
    sound = '<a href="other.html#top"></a><a href="https://example.org/x"></a><a href="#here" id="here"></a>'
    broken = (
        '<a href="missing.html"></a><a href="other.html#no"></a><a href="#no"></a><img src="missing.png">'
        '<script src="https://example.org/x.js"></script><link rel="preconnect" href="//example.org">'
    )
    (tmp_path / "page.html").write_text(sound)
    assert faults(tmp_path) == []
    (tmp_path / "page.html").write_text(sound + broken)
    (tmp_path / "page.css").write_text("@import 'https://example.org/x.css'; a {background: url(//example.org/x.png)}")
    assert faults(tmp_path) == [
        "page.html: missing.html",
        "page.html: other.html#no",
        "page.html: #no",
        "page.html: missing.png",
        "page.html: loads https://example.org/x.js",
        "page.html: loads //example.org",
        "page.css: loads https://example.org/x.css",
        "page.css: loads //example.org/x.png",
    ]


@pytest.mark.parametrize(
    ("page", "link", "on_the_site"),
    [
        ("importing.md", "../README.md#try-it", "project/README.md#try-it"),
        ("decisions/README.md", "../results.md", "../results.md"),
        ("project/README.md", "docs/importing.md", "../importing.md"),
        ("project/README.md", "LICENSE", "LICENSE"),
        ("stability.md", "python-api.ipynb", "python-api.md"),
        ("stability.md", "https://example.org/README.md", "https://example.org/README.md"),
        ("stability.md", "missing.md", "missing.md"),
    ],
)
def test_links_of_a_checkout_become_links_of_the_site(page: str, link: str, on_the_site: str) -> None:
    assert site_links(f"[a]({link})", page) == f"[a]({on_the_site})"
