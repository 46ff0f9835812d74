"""Rules that hold over the whole tree: who imports whom, what never runs, what never stands in a file."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Iterator
from importlib.metadata import metadata, packages_distributions
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import shared
from model_registry.names import MODALITIES
from tests.paths import ROOT

TRAINERS = ("gesture_trainer", "sound_trainer", "speech_context_trainer", "visual_environment_trainer")
MAY_IMPORT = {
    "model_registry": set(),
    "shared": {"model_registry"},
    "orchestrator": {"shared", "model_registry"},
    **{trainer: {"shared", "model_registry"} for trainer in TRAINERS},
}
LAYERS = {"data": 0, "features": 1, "learning": 2, "report": 3, "packaging": 3, "recipe": 4, "commands": 5}  # of shared
NOT_INSTALLED = ("demo", "benchmarks", "build_tools")
COMMANDS = re.compile(r"(shared|model_registry)/commands/\w+\.py|\w+/__main__\.py")  # which may print and exit
PICKLE_READERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "torch"}


def python_files(*packages: str) -> list[Path]:
    """Return the Python files of top-level packages; fails where a package has none."""
    found: list[Path] = []
    for package in packages:
        files = [path for path in sorted((ROOT / package).rglob("*.py")) if "node_modules" not in path.parts]
        assert files, f"{package} holds no Python file"
        found += files
    return found


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of every absolute import, `import_module("…")` with a literal name included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.lineno, node.module
        elif isinstance(node, ast.Call) and called(node).rpartition(".")[2] in ("import_module", "__import__"):
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield node.lineno, argument.value


def called(node: ast.Call) -> str:
    """Return the dotted name of what a call calls; what is no name in it stands as `?`, as in `?.print`."""
    parts: list[str] = []
    target: ast.expr = node.func
    while isinstance(target, ast.Attribute):
        parts.append(target.attr)
        target = target.value
    parts.append(target.id if isinstance(target, ast.Name) else "?")
    return ".".join(reversed(parts))


def forbidden_imports(package: str, tree: ast.Module) -> list[str]:
    """Return what `tree`, a module of `package`, imports of ours against the rules."""
    ours = {*MAY_IMPORT, *NOT_INSTALLED, "tests"} - MAY_IMPORT[package] - {package}
    return [f"{line}: {name}" for line, name in imports(tree) if name.split(".")[0] in ours]


def layer_faults(own: str, tree: ast.Module) -> list[str]:
    """Return what `tree`, a module in the part `own` of shared, imports of another part that is not below it."""
    found = []
    for line, name in imports(tree):
        package, _, rest = name.partition(".")
        other = rest.split(".")[0]
        if package == "shared" and other != own and other in LAYERS and LAYERS[other] >= LAYERS[own]:
            found.append(f"{line}: {name}")
    return found


def modality_branches(tree: ast.Module) -> list[str]:
    """Return every comparison with the name of a modality, membership in a literal tuple included."""
    found = []
    for node in ast.walk(tree):
        compared = [*ast.walk(node)] if isinstance(node, ast.Compare | ast.MatchValue) else []
        for part in compared:
            if isinstance(part, ast.Constant) and part.value in MODALITIES:
                found.append(f"{node.lineno}: {part.value}")
    return found


def unpickling(tree: ast.Module) -> list[str]:
    """Return every call in `tree` that may run code from a data file."""
    found = []
    loaders = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PICKLE_READERS
        for alias in node.names
        if alias.name in ("load", "loads", "Unpickler")
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = called(node)
        library, _, function = name.rpartition(".")
        if name in loaders or (
            library.split(".")[0] in PICKLE_READERS and function in ("load", "loads", "Unpickler", "read_pickle")
        ):
            found.append(f"{node.lineno}: {name}")
        for keyword in node.keywords:
            if keyword.arg == "allow_pickle" and not (
                isinstance(keyword.value, ast.Constant) and keyword.value.value is False
            ):
                found.append(f"{node.lineno}: {name}(allow_pickle=…)")
    return found


def printing(tree: ast.Module) -> list[str]:
    """Return every print, and every exit that stands neither in `main` nor under `if __name__ == "__main__"`."""
    allowed: set[ast.AST] = set()
    for top in tree.body:
        is_main = isinstance(top, ast.FunctionDef) and top.name == "main"
        is_script = isinstance(top, ast.If) and "__name__" in ast.dump(top.test)
        if is_main or is_script:
            allowed.update(ast.walk(top))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and called(node) == "print":
            found.append(f"{node.lineno}: print")
        if isinstance(node, ast.Call) and called(node) in ("sys.exit", "exit", "quit", "SystemExit"):
            found += [] if node in allowed else [f"{node.lineno}: {called(node)}"]
    return found


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_a_package_imports_only_what_the_architecture_allows(package: str) -> None:
    files = python_files(package)
    broken = [
        f"{path.relative_to(ROOT)}:{fault}" for path in files for fault in forbidden_imports(package, parsed(path))
    ]
    assert not broken, "against docs/architecture.md: " + ", ".join(broken)


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("shared", "def late():\n    from gesture_trainer import train"),
        ("shared", "import importlib\nimportlib.import_module('sound_trainer.train')"),
        ("gesture_trainer", "import sound_trainer.preprocessing as p"),
        ("orchestrator", "from visual_environment_trainer.train import main"),
        ("model_registry", "from shared.errors import Fault"),
        ("shared", "import demo.make_data"),
        ("visual_environment_trainer", "from build_tools.onnx_builder import Network"),
    ],
)
def test_the_import_rule_notices_each_way_to_break_it(package: str, source: str) -> None:
    assert len(forbidden_imports(package, ast.parse(source))) == 1


def test_within_shared_every_part_imports_only_those_below_it() -> None:
    """Report and packaging are of one rank: neither knows the other."""
    found, seen = [], set()
    for path in python_files("shared"):
        own = path.relative_to(ROOT / "shared").parts[0].removesuffix(".py")
        if own in LAYERS:
            seen.add(own)
            found += [f"{path.relative_to(ROOT)}:{fault}" for fault in layer_faults(own, parsed(path))]
    assert seen == LAYERS.keys()
    assert not found, "against docs/architecture.md: " + ", ".join(found)


@pytest.mark.parametrize(
    ("own", "source"),
    [
        ("report", "def f():\n    from shared.packaging.export import Exported"),
        ("packaging", "from shared.report.metrics import Report"),
        ("data", "import shared.features.cache"),
        ("learning", "from shared.recipe import load"),
    ],
)
def test_the_rule_of_layers_notices_each_way_to_break_it(own: str, source: str) -> None:
    assert len(layer_faults(own, ast.parse(source))) == 1


def test_shared_asks_nowhere_which_modality_it_has() -> None:
    reader = ROOT / "shared" / "data" / "a3cp.py"  # A3CP keeps transcripts in files of their own
    found = [
        f"{path.relative_to(ROOT)}:{fault}"
        for path in python_files("shared")
        if path != reader
        for fault in modality_branches(parsed(path))
    ]
    assert not found, ", ".join(found)
    assert modality_branches(parsed(reader)), "the reader that is left out does ask"


@pytest.mark.parametrize(
    "source",
    ["if modality == 'gesture': f()", "x = m in ('sound', 'speech')", "match m:\n    case 'sound':\n        f()"],
)
def test_the_rule_of_modalities_notices_each_way_to_break_it(source: str) -> None:
    assert modality_branches(ast.parse(source))


def test_nothing_unpickles() -> None:
    present = [name for name in NOT_INSTALLED if (ROOT / name).is_dir()]
    files = python_files(*MAY_IMPORT, *present)
    assert len(files) >= 20
    found = [f"{path.relative_to(ROOT)}:{fault}" for path in files for fault in unpickling(parsed(path))]
    assert not found, ", ".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\npickle.load(f)",
        "import pickle\npickle.loads(b)",
        "import pickle\npickle.Unpickler(f).load()",
        "from pickle import load as read\nread(f)",
        "import joblib\njoblib.load('x')",
        "import torch\ntorch.load('x')",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import numpy as np\nnp.load('x', allow_pickle=flag)",
    ],
)
def test_the_unpickling_rule_notices_each_way_to_break_it(source: str) -> None:
    assert unpickling(ast.parse(source))


def test_nothing_prints_or_exits_below_the_command_line() -> None:
    files = [path for path in python_files(*MAY_IMPORT) if not COMMANDS.fullmatch(path.relative_to(ROOT).as_posix())]
    assert len(files) >= 20
    found = [f"{path.relative_to(ROOT)}:{fault}" for path in files for fault in printing(parsed(path))]
    assert not found, ", ".join(found)


def test_the_print_rule_notices_a_print_and_an_exit() -> None:
    assert printing(ast.parse("def f():\n    print(1)\n    sys.exit(2)")) == ["2: print", "3: sys.exit"]
    assert printing(ast.parse("Console().print(1)")) == []
    assert printing(ast.parse("def main():\n    sys.exit(2)\nif __name__ == '__main__':\n    sys.exit(main())")) == []


INTERPRETER_TRICKS = {"os._exit", "gc.set_threshold", "gc.disable", "gc.freeze", "sys.setswitchinterval"}


def tricks(tree: ast.Module) -> list[str]:
    """Return every call in `tree` that changes how Python itself runs, and every import of another's private name."""
    found = [
        f"{node.lineno}: {called(node)}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and called(node) in INTERPRETER_TRICKS
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found += [
            f"{node.lineno}: {name}" for name in names if is_private(name) and name.split(".")[0] not in MAY_IMPORT
        ]
    return found


def is_private(name: str) -> bool:
    return any(part.startswith("_") and not part.endswith("__") for part in name.split("."))


def test_no_package_relies_on_private_names_or_interpreter_tricks() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{fault}" for path in python_files(*MAY_IMPORT) for fault in tricks(parsed(path))
    ]
    assert not found, ", ".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos._exit(0)",
        "import gc\ngc.set_threshold(50_000)",
        "from spox import _value_prop as propagation",
        "def late():\n    import spox._value_prop",
    ],
)
def test_the_rule_on_tricks_notices_each_way_to_break_it(source: str) -> None:
    assert len(tricks(ast.parse(source))) == 1
    assert not tricks(ast.parse("from __future__ import annotations\nimport os, gc\ngc.collect()"))


def test_shared_is_ours_and_not_another_package_of_that_name() -> None:
    assert Path(shared.__file__ or "").resolve() == ROOT / "shared" / "__init__.py"


def test_the_distribution_cannot_be_uploaded() -> None:
    assert "Private :: Do Not Upload" in (metadata("model-trainer").get_all("Classifier") or [])


def test_one_distribution_provides_cv2() -> None:
    assert sorted(set(packages_distributions()["cv2"])) == ["opencv-python-headless"]


# --- what stands in no file


def tracked_text() -> dict[str, str]:
    """Return path -> text of every file under version control (or of the whole tree, where there is no git)."""
    try:
        listed = subprocess.run(
            ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            capture_output=True,
            check=True,
            text=True,
        ).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs git and a checkout to know which files are the project's")
    texts = {}
    for name in filter(None, listed):
        path = ROOT / name
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            if b"\0" not in content[:8192]:
                texts[name] = content.decode("utf-8", errors="replace")
    assert len(texts) >= 40
    return texts


MACHINE_PATH = re.compile(r"(?<![\w.$}~*-])/(?:work|root|home|Users|tmp/\w)(?:/|\b)[\w.-]*")
CONTAINER_PATHS = ("Dockerfile", "compose.yaml", "compose.yml")  # paths inside an image are no machine's


def machine_paths(text: str) -> list[str]:
    return [match.group() for match in MACHINE_PATH.finditer(text)]


def test_no_file_names_a_path_of_one_machine() -> None:
    found = [
        f"{name}: {path}"
        for name, text in tracked_text().items()
        if Path(name).name not in CONTAINER_PATHS and name != "tests/test_house.py"
        for path in machine_paths(text)
    ]
    assert not found, ", ".join(found)


@pytest.mark.parametrize("path", ["/" + "work/main/shared", "/" + "root/.cache", "/" + "home/ana/x", "/" + "Users/ana"])
def test_the_path_rule_notices_a_machine_path(path: str) -> None:
    assert machine_paths(f'read("{path}")') and machine_paths(f"cd {path}")
    assert not machine_paths(f"https://example.org{path}") and not machine_paths(f"docs{path}")


def index_hosts() -> set[str]:
    """Return the hosts that this machine installs packages from, the public index aside."""
    configured = " ".join(value for name, value in os.environ.items() if re.match(r"(PIP|UV|NPM_CONFIG)_", name, re.I))
    for place in ("/etc/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf", "/etc/xdg/pip/pip.conf", "~/.npmrc"):
        path = Path(place).expanduser()
        configured += " " + path.read_text(encoding="utf-8") if path.is_file() else ""
    hosts = {urlsplit(url).hostname for url in re.findall(r"https?://[^\s'\"]+", configured)}
    return {host for host in hosts if host} - {"pypi.org", "files.pythonhosted.org", "registry.npmjs.org"}


def test_no_file_names_a_package_index() -> None:
    hosts = index_hosts()
    options = re.compile(r"--(?:extra-)?index-url|--trusted-host|--find-links|^(?:extra-)?index-url\s*=", re.M)
    found = []
    for name, text in tracked_text().items():
        if name == "tests/test_house.py":
            continue
        found += [f"{name}: {match.group()}" for match in options.finditer(text)]
        found += [f"{name}: a host of this machine's package index" for host in hosts if host in text]
    assert not found, ", ".join(found)
