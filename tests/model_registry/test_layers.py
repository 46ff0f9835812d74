"""The layers of the registry's code: each module imports only from layers before its own, so there is no cycle."""

from __future__ import annotations

import ast

from tests.paths import ROOT

LAYERS = (
    ("errors", "messages", "timestamps"),
    ("names",),
    ("storage",),
    ("folders", "http_schemas", "store"),
    ("client", "mirror"),
    ("location",),
    ("service", "commands"),
)
RANK = {module: rank for rank, layer in enumerate(LAYERS) for module in layer}


def imports() -> dict[str, set[str]]:
    """Return module -> the modules of the registry that it imports anywhere, functions included."""
    package = ROOT / "model_registry"
    found = {}
    for path in sorted(package.rglob("*.py")):
        name = ".".join(path.relative_to(package).with_suffix("").parts)
        targets: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "model_registry":
                base = (node.module or "").partition(".")[2]
                for alias in node.names:
                    inside = package.joinpath(*base.split("."), alias.name) if base else package / alias.name
                    is_module = inside.with_suffix(".py").is_file() or inside.is_dir()
                    targets.add(f"{base}.{alias.name}".strip(".") if is_module else base)
            elif isinstance(node, ast.Import):
                targets |= {n.name.partition(".")[2] for n in node.names if n.name.startswith("model_registry.")}
        found[name] = targets - {name}
    return found


def test_every_module_imports_only_from_layers_before_its_own() -> None:
    found = imports()
    assert len(found) > 40
    for name, targets in found.items():
        layer = name.split(".")[0]
        if layer in ("__init__", "__main__"):
            continue
        upward = [t for t in targets if t.split(".")[0] != layer and RANK[t.split(".")[0]] >= RANK[layer]]
        within = [t for t in upward if layer == "commands" and t.startswith("service.")]  # a command starts the service
        assert upward == within, f"{name} imports {upward}"


def test_no_modules_import_each_other_in_a_cycle() -> None:
    left = imports()
    while left:
        leaves = {name for name, targets in left.items() if not targets & left.keys()}
        assert leaves, f"a cycle among {sorted(left)}"
        left = {name: targets for name, targets in left.items() if name not in leaves}


def test_storage_has_one_value_for_a_version_with_its_files() -> None:
    """Whatever says `files` and `encoders` of a version is that value, or what the service sends of it."""
    classes = set()
    for path in (ROOT / "model_registry").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                fields = {ast.unparse(item.target) for item in node.body if isinstance(item, ast.AnnAssign)}
                if {"files", "encoders"} <= fields:
                    classes.add(node.name)
    assert classes == {"ResolvedVersion", "ResolveResponse", "VersionManifest"}
