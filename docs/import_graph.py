"""Which of the project's packages and modules import which, read from their source."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

Graph = dict[str, set[str]]  # name -> names that it imports


def package_graph(root: Path, packages: Collection[str]) -> Graph:
    """Return which of the top-level `packages` in the folder `root` imports which other."""
    return {package: _imported(root, _files(root / package), packages) - {package} for package in packages}


def module_graph(root: Path, package: str) -> Graph:
    """Return which subpackage or module of `package` imports which other, without `__init__` and `__main__`.

    Modules that depend on no subpackage are one node together, named by all of them: `errors, logs`.
    """
    folder = root / package
    subpackages = {path.parent.name for path in folder.glob("*/__init__.py")}
    names = subpackages | {path.stem for path in folder.glob("*.py") if not path.stem.startswith("__")}
    dotted = {f"{package}.{name}" for name in names}
    graph = {
        name: {
            other.partition(".")[2]
            for other in _imported(
                root, _files(folder / name if name in subpackages else folder / f"{name}.py"), dotted
            )
        }
        - {name}
        for name in sorted(names)
    }
    base = {name for name in names - subpackages if not reachable(graph, name) & subpackages}
    return _merged(graph, [base, *cycles(graph)])


def reachable(graph: Mapping[str, Collection[str]], name: str) -> set[str]:
    """Return everything that `name` imports, directly or through others."""
    reached: set[str] = set()
    waiting = list(graph[name])
    while waiting:
        other = waiting.pop()
        if other not in reached:
            reached.add(other)
            waiting.extend(graph[other])
    return reached


def cycles(graph: Mapping[str, Collection[str]]) -> list[set[str]]:
    """Return the sets of names that import each other in a circle."""
    reach = {name: reachable(graph, name) for name in graph}
    circular = {frozenset(m for m in reach[n] if n in reach[m]) for n in graph if n in reach[n]}
    return [set(group) for group in sorted(circular, key=sorted)]


def reduced(graph: Graph) -> Graph:
    """Return an acyclic graph without the imports that follow from others: a -> c where a -> b and b -> c."""
    return {
        name: {other for other in graph[name] if not any(other in reachable(graph, via) for via in graph[name])}
        for name in graph
    }


def layers(graph: Graph) -> dict[str, int]:
    """Return the layer of each name in an acyclic graph: 0 imports nothing, and each imports from lower layers only."""
    levels: dict[str, int] = {}

    def level(name: str) -> int:
        if name not in levels:
            levels[name] = 1 + max(map(level, graph[name]), default=-1)
        return levels[name]

    return {name: level(name) for name in graph}


def summary(root: Path, package: str, name: str = "") -> str:
    """Return the first sentence of the docstring of a package or of `name` in it; nothing for a node of several."""
    place = root / package / name
    path = place / "__init__.py" if place.is_dir() else place.with_name(f"{place.name}.py")
    if not path.is_file():
        return ""
    first_line = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
    return first_line.partition(". ")[0].rstrip(".").replace("`", "")


def _files(place: Path) -> list[Path]:
    return sorted(place.rglob("*.py")) if place.is_dir() else [place]


def _imported(root: Path, files: Collection[Path], targets: Collection[str]) -> set[str]:
    """Return which of the dotted names `targets` the files import."""
    return {
        target
        for path in files
        for name in _imports(ast.parse(path.read_text(encoding="utf-8")))
        for target in targets
        if name == target or name.startswith(f"{target}.")
    }


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _merged(graph: Graph, groups: Collection[Collection[str]]) -> Graph:
    """Return the graph with the names of each group in one node."""
    node = {name: name for name in graph}
    for group in groups:
        node |= dict.fromkeys(group, ", ".join(sorted(group)))
    merged: Graph = {joined: set() for joined in node.values()}
    for name, others in graph.items():
        merged[node[name]] |= {node[other] for other in others} - {node[name]}
    return merged
