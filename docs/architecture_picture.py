"""An SVG of the packages in layers with an arrow for each import; arrows that follow from others are left out."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from xml.sax.saxutils import escape

from docs.import_graph import Graph, layers, module_graph, package_graph, reduced, summary

WIDTH, MARGIN = 1000, 20  # of the picture
BOX_WIDTH, LANE_WIDTH = 340, 14  # at most of a module, and of the lane that an arrow takes through a row
GAP, ROW_GAP, PADDING = 16, 30, 10  # between boxes, between rows, inside a box
TITLE_LINE, TEXT_LINE = 19, 16  # from one line to the next
TITLE_LETTER, TEXT_LETTER = 8.6, 6.5  # width of an average letter
STYLE = """
  svg { --page: #ffffff; --frame: #f1f4f8; --box: #ffffff; --edge: #8a99aa; --title: #17202b; --text: #4d5b6a;
        --arrow: #5a6b7d; font: 12.5px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
  @media (prefers-color-scheme: dark) { svg { --page: #10151b; --frame: #171e27; --box: #222c37; --edge: #5d6e80;
        --title: #eef2f6; --text: #b3bfcc; --arrow: #93a5b8; } }
  .page { fill: var(--page) } .frame { fill: var(--frame); stroke: var(--edge) }
  .box { fill: var(--box); stroke: var(--edge) } .arrow { fill: none; stroke: var(--arrow); stroke-width: 1.4 }
  .head { fill: var(--arrow) } .title { fill: var(--title); font-size: 15px; font-weight: 600 }
  .text { fill: var(--text) }
"""


@dataclass(frozen=True)
class Box:
    """A rectangle with a title and a text in lines; upper left corner and size in pixels. A lane has no title."""

    name: str
    title: tuple[str, ...]
    text: tuple[str, ...]
    x: float
    y: float
    width: float
    height: float
    kind: str = "box"

    @property
    def centre(self) -> float:
        return self.x + self.width / 2

    @property
    def bottom(self) -> float:
        return self.y + self.height


def architecture_picture(root: Path, packages: Collection[str]) -> str:
    """Return the picture of `packages` in the folder `root`, importers above what they import.

    A package that is alone in its layer and has subpackages is a frame that shows them.
    """
    graph = reduced(package_graph(root, packages))
    outer: dict[str, Box] = {}
    inner: list[Box] = []
    arrows: list[str] = []
    top = float(MARGIN)
    for row in _rows(layers(graph)):
        if len(row) == 1 and any((root / row[0]).glob("*/__init__.py")):
            frame, boxes, curves = _framed(root, row[0], top)
            outer[row[0]] = frame
            inner += boxes
            arrows += curves
        else:
            outer |= {box.name: box for box in _row_of_packages(root, row, top)}
        top = max(box.bottom for box in outer.values()) + ROW_GAP
    for name, others in sorted(graph.items()):
        above = outer[name]
        arrows += [_curve([above, replace(outer[o], x=above.x, width=above.width)]) for o in sorted(others)]
    return _svg([*outer.values(), *inner], arrows, top - ROW_GAP + MARGIN)


def _rows(levels: dict[str, int]) -> list[list[str]]:
    """Return the names of each layer, the topmost first."""
    rows = defaultdict(list)
    for name, level in levels.items():
        rows[level].append(name)
    return [rows[level] for level in sorted(rows, reverse=True)]


def _row_of_packages(root: Path, names: Sequence[str], top: float) -> list[Box]:
    """Return one row of boxes over the whole width."""
    width = (WIDTH - 2 * MARGIN - GAP * (len(names) - 1)) / len(names)
    boxes = [_box(name, summary(root, name), MARGIN + k * (width + GAP), top, width) for k, name in enumerate(names)]
    return _equally_high(boxes)


def _framed(root: Path, package: str, top: float) -> tuple[Box, list[Box], list[str]]:
    """Return a frame, the boxes of the subpackages and modules of `package` in it, and the arrows between them."""
    graph = reduced(module_graph(root, package))
    frame = _box(package, summary(root, package), MARGIN, top, WIDTH - 2 * MARGIN, kind="frame")
    paths = list(_paths(graph))
    placed: dict[str, Box] = {}
    y = frame.bottom
    for row in _ordered(layers(graph), paths):
        lanes = sum(name not in graph for name in row)
        room = WIDTH - 2 * (MARGIN + PADDING) - GAP * (len(row) - 1) - LANE_WIDTH * lanes
        box_width = min(BOX_WIDTH, room / max(len(row) - lanes, 1))
        widths = [box_width if name in graph else LANE_WIDTH for name in row]
        x = (WIDTH - sum(widths) - GAP * (len(row) - 1)) / 2
        boxes = []
        for name, width in zip(row, widths, strict=True):
            boxes.append(_box(name, summary(root, package, name), x, y, width) if name in graph else _lane(name, x, y))
            x += width + GAP
        placed |= {box.name: box for box in _equally_high(boxes)}
        y = max(placed[name].bottom for name in row) + ROW_GAP
    frame = replace(frame, height=y - ROW_GAP + GAP - top)
    return frame, [placed[name] for name in sorted(graph)], [_curve([placed[stop] for stop in path]) for path in paths]


def _box(name: str, text: str, x: float, y: float, width: float, kind: str = "box") -> Box:
    breakable = name if ", " in name else name.replace("_", "_ ")
    title = tuple(w.replace("_ ", "_") for w in textwrap.wrap(breakable, int((width - 2 * PADDING) / TITLE_LETTER)))
    lines = tuple(textwrap.wrap(text, int((width - 2 * PADDING) / TEXT_LETTER)))
    height = 2 * PADDING + TITLE_LINE * len(title) + TEXT_LINE * len(lines)
    return Box(name, title, lines, x, y, width, height, kind)


def _lane(name: str, x: float, y: float) -> Box:
    return Box(name, (), (), x, y, LANE_WIDTH, 0)


def _equally_high(boxes: Sequence[Box]) -> list[Box]:
    height = max(box.height for box in boxes)
    return [replace(box, height=height) for box in boxes]


# --- the order in which boxes stand beside each other


def _paths(graph: Graph) -> Iterator[tuple[str, ...]]:
    """Yield for each import the importer, a lane through each layer that the arrow passes, and what is imported."""
    levels = layers(graph)
    for name in sorted(graph):
        for other in sorted(graph[name]):
            passed = range(levels[name] - 1, levels[other], -1)
            yield name, *(f"{name} > {other} > {level}" for level in passed), other


def _ordered(levels: dict[str, int], paths: Sequence[tuple[str, ...]]) -> list[list[str]]:
    """Return the rows, topmost first, with the lanes, so that few arrows cross.

    Rows are sorted by the mean place of their neighbours, downwards and upwards in turn (Sugiyama and others 1981).
    """
    lanes = {lane: int(lane.rpartition(" > ")[2]) for path in paths for lane in path[1:-1]}
    rows = _rows(levels | lanes)
    neighbours = defaultdict(set)
    for above, below in (step for path in paths for step in pairwise(path)):
        neighbours[above].add(below)
        neighbours[below].add(above)
    place = {name: k - len(row) / 2 for row in rows for k, name in enumerate(row)}

    def mean_place(name: str) -> tuple[float, str]:
        around = [place[other] for other in neighbours[name]]
        return sum(around) / max(len(around), 1), name

    tried = []
    for sweep in range(24):
        for row in rows if sweep % 2 else reversed(rows):
            row.sort(key=mean_place)
            place |= {name: k - len(row) / 2 for k, name in enumerate(row)}
        tried.append([list(row) for row in rows])
    return min(tried, key=lambda arrangement: _crossings(arrangement, paths))


def _crossings(rows: Sequence[Sequence[str]], paths: Sequence[tuple[str, ...]]) -> int:
    place = {name: (level, k) for level, row in enumerate(rows) for k, name in enumerate(row)}
    steps = [(place[above], place[below]) for path in paths for above, below in pairwise(path)]
    return sum(
        a[0] == c[0] and (a[1] - c[1]) * (b[1] - d[1]) < 0 for k, (a, b) in enumerate(steps) for c, d in steps[:k]
    )


# --- SVG


def _curve(stops: Sequence[Box]) -> str:
    """Return an arrow from the lower edge of the first box through the lanes to the upper edge of the last."""
    x, y = stops[0].centre, stops[0].bottom
    parts = [f"M {x:.0f} {y:.0f}"]
    for stop in stops[1:]:
        end = stop.y - (7 if stop is stops[-1] else 0)  # the arrow's head
        parts.append(f"C {x:.0f} {(y + end) / 2:.0f} {stop.centre:.0f} {(y + end) / 2:.0f} {stop.centre:.0f} {end:.0f}")
        x, y = stop.centre, stop.bottom
        if stop is not stops[-1]:
            parts.append(f"L {x:.0f} {y:.0f}")
    return f'<path class="arrow" marker-end="url(#head)" d="{" ".join(parts)}"/>'


def _shape(box: Box) -> str:
    x, y, size = f"{box.x:.0f}", f"{box.y:.0f}", f'width="{box.width:.0f}" height="{box.height:.0f}"'
    parts = [f'<rect class="{box.kind}" x="{x}" y="{y}" {size} rx="6"/>']
    baseline = box.y + PADDING - 4
    for css_class, lines, step in (("title", box.title, TITLE_LINE), ("text", box.text, TEXT_LINE)):
        for line in lines:
            baseline += step
            place = f'x="{box.x + PADDING:.0f}" y="{baseline:.0f}"'
            parts.append(f'<text class="{css_class}" {place}>{escape(line)}</text>')
    return "\n".join(parts)


def _svg(boxes: Sequence[Box], arrows: Sequence[str], height: float) -> str:
    frames = [_shape(box) for box in boxes if box.kind == "frame"]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img">',
            "<title>The packages in layers, with an arrow from each to what it imports</title>",
            f"<style>{STYLE}</style>",
            '<defs><marker id="head" viewBox="0 0 8 8" refX="1" refY="4" markerWidth="8" markerHeight="8" '
            'markerUnits="userSpaceOnUse" orient="auto"><path class="head" d="M 0 0 L 8 4 L 0 8 z"/></marker></defs>',
            f'<rect class="page" width="{WIDTH}" height="{height:.0f}"/>',
            *frames,
            *arrows,
            *(_shape(box) for box in boxes if box.kind != "frame"),
            "</svg>\n",
        ]
    )
