"""The picture of the architecture: current, complete, legible, and drawn from the imports alone."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest

from docs.architecture_picture import architecture_picture
from docs.generate import ARCHITECTURE_PICTURE, installed_packages
from docs.import_graph import cycles, layers, module_graph, package_graph, reduced, summary
from tests.paths import ROOT

SVG = "{http://www.w3.org/2000/svg}"


def project(root: Path, **files: str) -> Path:
    """Write Python files; `__` in a name stands for `/`."""
    for name, source in files.items():
        path = root / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
        for folder in [path.parent, *path.parent.parents]:
            if folder == root:
                break
            (folder / "__init__.py").touch()
    return root


def rectangles(text: str, kind: str) -> list[tuple[float, float, float, float]]:
    """Return left, top, right and bottom of each rectangle of a CSS class."""
    found = [e for e in ElementTree.fromstring(text).iter(f"{SVG}rect") if e.get("class") == kind]
    sides = [[float(e.get(name, "0")) for name in ("x", "y", "width", "height")] for e in found]
    return [(x, y, x + width, y + height) for x, y, width, height in sides]


@pytest.mark.slow
def test_the_picture_is_what_the_imports_say() -> None:
    written = ARCHITECTURE_PICTURE.read_text(encoding="utf-8")
    assert written == architecture_picture(ROOT, installed_packages()), "out of date; run: python -m docs.generate"


def test_every_installed_package_is_in_the_picture() -> None:
    words = " ".join(
        "".join(e.itertext())
        for e in ElementTree.fromstring(ARCHITECTURE_PICTURE.read_text("utf-8")).iter(f"{SVG}text")
    )
    assert [name for name in installed_packages() if name not in words.replace("_ ", "_")] == []


def test_boxes_do_not_overlap_and_lie_within_the_picture() -> None:
    text = ARCHITECTURE_PICTURE.read_text(encoding="utf-8")
    boxes, (page,) = rectangles(text, "box"), rectangles(text, "page")
    assert len(boxes) > 12
    assert all(page[0] <= b[0] and page[1] <= b[1] and b[2] <= page[2] and b[3] <= page[3] for b in boxes)
    assert not [
        (a, b) for a, b in combinations(boxes, 2) if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
    ]


def test_text_stays_within_its_box() -> None:
    text = ARCHITECTURE_PICTURE.read_text(encoding="utf-8")
    boxes = rectangles(text, "box") + rectangles(text, "frame")
    for element in ElementTree.fromstring(text).iter(f"{SVG}text"):
        left, baseline = float(element.get("x", "0")), float(element.get("y", "0"))
        width = len(element.text or "") * (
            8.0 if element.get("class") == "title" else 6.2
        )  # of DejaVu Sans, on average
        around = [b for b in boxes if b[0] < left and b[1] < baseline < b[3] and left < b[2]]
        assert any(left + width <= b[2] for b in around), element.text


def test_an_importer_stands_above_what_it_imports_and_implied_arrows_are_left_out(tmp_path: Path) -> None:
    root = project(
        tmp_path,
        top__a="import middle.b\nimport base.c",
        middle__b="from base import c",
        base__c="",
    )
    graph = package_graph(root, ["top", "middle", "base"])
    assert graph == {"top": {"middle", "base"}, "middle": {"base"}, "base": set()}
    assert reduced(graph) == {"top": {"middle"}, "middle": {"base"}, "base": set()}
    assert layers(graph) == {"base": 0, "middle": 1, "top": 2}
    (top, middle, base) = sorted(rectangles(architecture_picture(root, ["top", "middle", "base"]), "box"))[:3]
    assert len({top[1], middle[1], base[1]}) == 3
    assert architecture_picture(root, ["top", "middle", "base"]).count('class="arrow"') == 2


@pytest.mark.parametrize(
    "source", ["from p.low import x", "from p import low", "import p.low.x", "def f():\n    import p.low"]
)
def test_every_way_to_import_a_subpackage_is_noticed(tmp_path: Path, source: str) -> None:
    root = project(tmp_path, p__high__a=source, p__low__x="")
    assert module_graph(root, "p") == {"high": {"low"}, "low": set()}


def test_modules_that_need_no_subpackage_and_modules_in_a_circle_share_a_box(tmp_path: Path) -> None:
    root = project(
        tmp_path,
        p__errors="",
        p__names="import p.errors",
        p__store="import p.storage.files",
        p__storage__files="import p.names\nfrom p import store",
    )
    assert cycles({"a": {"b"}, "b": {"a"}, "c": {"a"}}) == [{"a", "b"}]
    assert module_graph(root, "p") == {"errors, names": set(), "storage, store": {"errors, names"}}


def test_a_box_says_what_its_package_says_of_itself(tmp_path: Path) -> None:
    root = project(tmp_path, p__one='"""Reads `files`. Then more.\n\nMore."""')
    assert summary(root, "p", "one") == "Reads files"
    assert summary(root, "p", "one, two") == ""


def test_the_picture_is_legible_on_light_and_on_dark_pages() -> None:
    text = ARCHITECTURE_PICTURE.read_text(encoding="utf-8")
    light, dark = (dict(re.findall(r"--(\w+): #(\w{6})", part)) for part in text.split("prefers-color-scheme", 1))
    assert light.keys() == dark.keys() == {"page", "frame", "box", "edge", "title", "text", "arrow"}
    for theme in (light, dark):
        for ink, paper in (("title", "box"), ("text", "box"), ("text", "frame"), ("arrow", "frame")):
            assert contrast(theme[ink], theme[paper]) >= 4.5, (ink, paper)


def contrast(ink: str, paper: str) -> float:
    """Return the contrast ratio of two colours as WCAG 2 defines it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[k : k + 2], 16) / 255 for k in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    brighter, darker = sorted((luminance(ink), luminance(paper)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)
