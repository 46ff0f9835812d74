"""Rules that hold over the whole tree: who imports whom, what never runs, what never stands in a file."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import metadata, packages_distributions
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import shared
from shared.trainers import modality_names
from tests.paths import ROOT

TRAINERS = ("gesture_trainer", "sound_trainer", "speech_context_trainer", "visual_environment_trainer")
MAY_IMPORT = {
    "model_registry": set(),
    "shared": {"model_registry"},
    "orchestrator": {"shared", "model_registry"},
    "model_trainer": {"shared", "model_registry"},
    **{trainer: {"shared", "model_registry"} for trainer in TRAINERS},
}
TOOLS = ("build_tools", "demo")  # installed, and imported by nobody
NOT_INSTALLED = ("benchmarks",)
OURS = (*MAY_IMPORT, *TOOLS, *NOT_INSTALLED, "docs", "tests")
# Lowest tier first. A module may import its own group and the tiers below, but no other group of its own tier.
TIERS: dict[str, tuple[tuple[set[str], ...], ...]] = {
    "shared": (
        ({"errors", "schema_faults", "schema_utils", "logs", "progress", "fingerprint", "named_files", "trainers"},),
        ({"data", "data_loader"},),
        ({"features"},),
        ({"learning", "evaluation"},),
        ({"config"},),
        ({"job"},),
        ({"training_run"},),
        ({"packaging"}, {"report"}),
        ({"recipe", "ready_features"},),
        ({"training"}, {"prediction"}),
        ({"commands", "__main__"},),
    ),
    "model_registry": (
        ({"errors", "messages", "metrics", "platforms", "timestamps"},),
        ({"names"}, {"languages"}),
        ({"storage"},),
        ({"folders"},),
        ({"store"}, {"http_schemas"}, {"copying"}),
        ({"client"}, {"mirror"}),
        ({"location"},),
        ({"promotion"}, {"mlflow_export"}),
        ({"service"},),
        ({"commands", "__main__"},),
    ),
}
COMMANDS = re.compile(r"(shared|model_registry)/commands/\w+\.py|\w+/__main__\.py")  # which may print and exit
PICKLE_READERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "torch"}
Links = Callable[[ast.Module], Iterable[tuple[int, str]]]  # a module's tree -> line, dotted name
ENTRY_POINT_GROUPS = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"])
MODULE_NAME = re.compile(rf"(?<![\w./-])(?:{'|'.join(OURS)})(?:\.\w+)+|\b(?:{'|'.join(TRAINERS)})\b")


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
    """Yield (line, dotted name) of every import wherever it stands, `import_module("…")` with a literal name included.

    `from a import b` yields `a.b`, since b may be a module.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{package}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and called(node).rpartition(".")[2] in ("import_module", "__import__"):
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield node.lineno, argument.value


def references(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield `imports`, and (line, dotted name) of every module of ours that a string names, docstrings aside.

    Strings such as "a.b:c", or code for another process, are imported by whoever gets them. The groups of our entry
    points are named after the distribution, as the Python API's package is, and are no modules.
    """
    found = dict.fromkeys(imports(tree))
    docstrings = {id(text) for text in map(docstring, ast.walk(tree))}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            named = [match.group() for match in MODULE_NAME.finditer(node.value)]
            found |= {(node.lineno, name): None for name in named if name not in ENTRY_POINT_GROUPS}
    yield from found


def docstring(node: ast.AST) -> ast.expr | None:
    """Return the docstring of a module, class or function."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
        first = node.body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            return first.value
    return None


def present_packages() -> list[str]:
    """Return the packages that nobody imports and that are here; a copy of the project may lack them."""
    return [name for name in (*TOOLS, *NOT_INSTALLED) if (ROOT / name).is_dir()]


@lru_cache(maxsize=1)
def our_modules() -> dict[str, ast.Module]:
    """Return dotted name -> tree of every module of ours."""
    files = {path.relative_to(ROOT).with_suffix(""): path for path in python_files(*MAY_IMPORT, *present_packages())}
    return {".".join(name.parts).removesuffix(".__init__"): parsed(path) for name, path in files.items()}


def module_graph(sources: Mapping[str, ast.Module], links: Links) -> dict[str, set[str]]:
    """Return which of the modules in `sources` (dotted name -> tree) each of them links to, itself aside."""

    def module_of(name: str) -> str:
        while name and name not in sources:
            name = name.rpartition(".")[0]
        return name

    return {module: {module_of(name) for _, name in links(tree)} - {"", module} for module, tree in sources.items()}


def place_of(module: str) -> tuple[int, int] | None:
    """Return the tier of a module of a package with TIERS, and the group in it; None for the package itself."""
    package, _, rest = module.partition(".")
    name = rest.split(".")[0]
    if not name:
        return None
    for tier, groups in enumerate(TIERS[package]):
        for number, group in enumerate(groups):
            if name in group:
                return tier, number
    raise AssertionError(f"{module}: give it a place in TIERS")


def upward_imports(package: str, graph: Mapping[str, set[str]]) -> list[str]:
    """Return the imports between modules of `package` that its TIERS do not allow."""
    within = {module: others for module, others in graph.items() if module.split(".")[0] == package}
    broken = []
    for module, others in within.items():
        here = place_of(module)
        for other in others & within.keys():
            there = place_of(other)
            if here and there and here != there and there[0] >= here[0]:
                broken.append(f"{module} imports {other}")
    return sorted(broken)


def import_cycle(graph: Mapping[str, set[str]]) -> list[str]:
    """Return modules that import each other in a circle, each imported by the next; none where there is no circle."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1]
        return cycle
    return []


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
    ours = {*OURS, ""} - MAY_IMPORT[package] - {package}  # a relative import begins with nothing
    return [f"{line}: {name}" for line, name in references(tree) if name.split(".")[0] in ours]


def modality_branches(tree: ast.Module) -> list[str]:
    """Return every comparison with the name of a modality, membership in a literal tuple included."""
    found = []
    for node in ast.walk(tree):
        compared = [*ast.walk(node)] if isinstance(node, ast.Compare | ast.MatchValue) else []
        for part in compared:
            if isinstance(part, ast.Constant) and part.value in modality_names():
                found.append(f"{node.lineno}: {part.value}")
    return found


def modality_lists(tree: ast.Module) -> list[str]:
    """Return every literal, a schema's `Literal[…]` included, that holds the names of two modalities or more."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict | ast.List | ast.Tuple | ast.Set):
            items = node.keys if isinstance(node, ast.Dict) else node.elts
            named = [i.value for i in items if isinstance(i, ast.Constant) and i.value in modality_names()]
            found += [f"{node.lineno}: {', '.join(named)}"] if len(named) > 1 else []
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
        ("shared", "from benchmarks import speed"),
        ("gesture_trainer", "from build_tools.make import main"),
        ("gesture_trainer", "from . import parts"),
        ("sound_trainer", "from ..gesture_trainer import parts"),
        ("orchestrator", "if TYPE_CHECKING:\n    import sound_trainer"),
        ("shared", "COMMANDS = {'extract': 'gesture_trainer.extracting:extract_command'}"),
        ("shared", "package = 'sound_trainer'"),
        ("shared", "load(f'gesture_trainer.{name}')"),
        ("orchestrator", "run([python, '-m', 'sound_trainer.train'])"),
        ("orchestrator", "run('import sys; from tests.paths import ROOT')"),
        ("model_registry", "find('shared.errors:Fault')"),
        ("speech_context_trainer", "entry = 'demo.make_data:main'"),
        ("shared", "from model_trainer import train"),
        ("shared", "place = 'model_trainer.training:train'"),
        ("model_trainer", "from sound_trainer.train import RECIPE"),
    ],
)
def test_the_import_rule_notices_each_way_to_break_it(package: str, source: str) -> None:
    assert len(forbidden_imports(package, ast.parse(source))) == 1


@pytest.mark.parametrize(
    "source",
    [
        '"""As `gesture_trainer.train` does."""',
        "def f():\n    'See gesture_trainer.parts.'",
        "class C:\n    'See demo.make_data.'",
        "path = 'demo/run.sh'",
        "word = 'shared'",
        "file = 'model_registry.jsonl'",
        "group = 'model_trainer.commands'",
        "import shared.errors\nfrom model_registry import names",
    ],
)
def test_the_import_rule_allows_prose_paths_and_what_is_below(source: str) -> None:
    assert forbidden_imports("orchestrator", ast.parse(source)) == []


@pytest.mark.slow
@pytest.mark.parametrize("package", TIERS)
def test_a_module_imports_only_its_own_group_and_lower_tiers(package: str) -> None:
    graph = module_graph(our_modules(), references)
    assert sum(module.startswith(f"{package}.") for module in graph) >= 20
    assert upward_imports(package, graph) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("shared.errors", "import shared.data_loader"),
        ("shared.data.files", "from shared.features.cache import FeatureCache"),
        ("shared.features.graph", "from shared.evaluation import Rows"),
        ("shared.learning.folds", "def late():\n    from shared.config import TrainerConfig"),
        ("shared.config", "if TYPE_CHECKING:\n    from shared.job import Job"),
        ("shared.job", "from shared.packaging import bundle"),
        ("shared.packaging.bundle", "import shared.report.metrics"),
        ("shared.report.metrics", "import shared.packaging.bundle"),
        ("shared.report.audit", "from shared.recipe import load"),
        ("shared.recipe", "places = ['shared.commands.main:run']"),
        ("model_registry.names", "from model_registry.storage import layout"),
        ("model_registry.storage.layout", "from model_registry.store import Registry"),
        ("model_registry.client", "from model_registry.service.server import create_app"),
    ],
)
def test_the_order_of_modules_notices_each_way_to_break_it(module: str, source: str) -> None:
    graph = module_graph({**our_modules(), module: ast.parse(source)}, references)
    (broken,) = upward_imports(module.split(".")[0], graph)
    assert broken.startswith(f"{module} imports ")


@pytest.mark.slow
def test_a_new_module_must_be_given_a_place() -> None:
    graph = module_graph({**our_modules(), "shared.novelty": ast.parse("import shared.errors")}, references)
    with pytest.raises(AssertionError, match=r"shared.novelty: give it a place in TIERS"):
        upward_imports("shared", graph)


@pytest.mark.slow
def test_no_modules_import_each_other_in_a_circle() -> None:
    """Late imports and those for type checkers count. A string does not: a declaration names what imports it."""
    assert import_cycle(module_graph(our_modules(), imports)) == []


@pytest.mark.parametrize(
    "sources",
    [
        {"shared.a": "import shared.b", "shared.b": "import shared.a"},
        {"shared.a": "from shared import b", "shared.b": "from shared.a import name"},
        {"shared.a": "import shared.b", "shared.b": "def late():\n    import shared.c", "shared.c": "import shared.a"},
        {"shared.a": "if TYPE_CHECKING:\n    import shared.b", "shared.b": "from shared.a import Name"},
        {"shared.a": "import importlib\nimportlib.import_module('shared.b')", "shared.b": "import shared.a"},
    ],
)
def test_the_circle_rule_notices_each_way_to_close_one(sources: dict[str, str]) -> None:
    trees = {module: ast.parse(source) for module, source in sources.items()}
    assert set(import_cycle(module_graph(trees, imports))) == set(sources)
    last = list(trees)[-1]
    assert import_cycle(module_graph({**trees, last: ast.parse("")}, imports)) == []


def test_the_distribution_holds_the_packages_that_the_rules_are_for_and_no_other() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    patterns = settings["setuptools"]["packages"]["find"]["include"]
    installed = {path.name for path in ROOT.iterdir() if any(fnmatchcase(path.name, each) for each in patterns)}
    assert installed == {*MAY_IMPORT, *TOOLS}
    checked = installed | {"benchmarks"}
    assert checked == set(settings["mypy"]["packages"]) == set(settings["pyright"]["include"])
    assert installed.isdisjoint(NOT_INSTALLED)


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


@pytest.mark.slow
def test_only_trainers_and_what_builds_their_images_list_modalities() -> None:
    files = python_files("shared", "model_registry", "orchestrator")
    found = [f"{path.relative_to(ROOT)}:{fault}" for path in files for fault in modality_lists(parsed(path))]
    assert not found, "declare it in <package>/modality.py: " + ", ".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "IMAGES = {'gesture': 'gesture-trainer', 'sound': 'sound-trainer'}",
        "for modality in ('sound', 'speech'): f()",
        "Modality = Literal['gesture', 'sound']",
        "def f(kinds=['speech', 'gesture']): ...",
        "KNOWN = {'visual_environment', 'sound'}",
    ],
)
def test_the_rule_of_lists_notices_each_kind_of_list(source: str) -> None:
    assert len(modality_lists(ast.parse(source))) == 1
    assert modality_lists(ast.parse("example = ('gesture', 'stop')")) == []


@pytest.mark.parametrize(
    "source",
    ["if modality == 'gesture': f()", "x = m in ('sound', 'speech')", "match m:\n    case 'sound':\n        f()"],
)
def test_the_rule_of_modalities_notices_each_way_to_break_it(source: str) -> None:
    assert modality_branches(ast.parse(source))


@pytest.mark.slow
def test_nothing_unpickles() -> None:
    files = python_files(*MAY_IMPORT, *present_packages())
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_no_package_relies_on_private_names_or_interpreter_tricks() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{fault}" for path in python_files(*MAY_IMPORT) for fault in tricks(parsed(path))
    ]
    assert found == [], ", ".join(found)


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


# What only some operating systems have, or where files are on a person's machine -> the one module that knows.
SYSTEM_MODULES = {
    **dict.fromkeys(("fcntl", "grp", "resource"), "model_registry.platforms"),
    **dict.fromkeys(("pwd", "termios", "pty", "tty", "syslog", "msvcrt", "winreg"), ""),
    "platformdirs": "model_registry.folders",
}


def system_imports(module: str, tree: ast.Module) -> list[str]:
    """Return what a module imports that another one is for; `_import` is how that one does it."""
    late = {
        node.args[0].value: node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and called(node) == "_import" and isinstance(node.args[0], ast.Constant)
    }
    names = [*imports(tree), *((line, str(name)) for name, line in late.items())]
    return [
        f"{module}:{line}: {name}" for line, name in names if SYSTEM_MODULES.get(name.split(".")[0], module) != module
    ]


@pytest.mark.slow
def test_what_differs_between_operating_systems_is_in_one_module_each() -> None:
    installed = {name: tree for name, tree in our_modules().items() if name.split(".")[0] not in NOT_INSTALLED}
    found = [fault for name, tree in installed.items() for fault in system_imports(name, tree)]
    assert found == [], ", ".join(found)
    for owner in {"model_registry.platforms", "model_registry.folders"}:
        assert system_imports("elsewhere", installed[owner]), f"{owner} imports none of them"


@pytest.mark.parametrize(
    "source",
    ["import fcntl", "def late():\n    import resource", "from platformdirs import user_data_path", "import pwd"],
)
def test_the_rule_of_operating_systems_notices_each_way_to_break_it(source: str) -> None:
    assert len(system_imports("shared.errors", ast.parse(source))) == 1


def test_shared_is_ours_and_not_another_package_of_that_name() -> None:
    assert Path(shared.__file__ or "").resolve() == ROOT / "shared" / "__init__.py"


def test_the_distribution_cannot_be_uploaded() -> None:
    assert "Private :: Do Not Upload" in (metadata("model-trainer").get_all("Classifier") or [])


@pytest.mark.slow
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
