"""What counts as a trainer's code: all that it can load, and nothing that only other commands load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from shared import fingerprint
from shared.fingerprint import code_files, code_fingerprint

PACKAGES = ("gesture_trainer", "sound_trainer", "speech_context_trainer", "visual_environment_trainer")
WITH_DUPLICATES = ("speech_context_trainer", "visual_environment_trainer")
_LOADED = "import sys, {0}.train; print(*(n for n in sys.modules if n.partition('.')[0] in ('shared', '{0}')))"


@pytest.mark.slow
@pytest.mark.parametrize("package", PACKAGES)
def test_all_that_a_trainer_loads_counts(package: str) -> None:
    done = subprocess.run([sys.executable, "-c", _LOADED.format(package)], capture_output=True, text=True, check=True)
    loaded = [name for name in done.stdout.split() if "." in name]
    assert len(loaded) > 20
    counted = code_files(package)
    for name in loaded:
        path = name.replace(".", "/")
        assert f"{path}.py" in counted or f"{path}/__init__.py" in counted, name


@pytest.mark.parametrize("package", PACKAGES)
def test_what_only_other_commands_load_does_not(package: str) -> None:
    counted = code_files(package)
    assert {"shared/learning/heads.py", "shared/requirements.txt"} <= set(counted)
    assert ("shared/learning/duplicates.py" in counted) == (package in WITH_DUPLICATES)
    assert not {
        "shared/commands/import_data.py",
        "shared/commands/check.py",
        "shared/commands/predict.py",
        "shared/commands/reproduce.py",
        "shared/prediction.py",
    } & set(counted)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from shared.learning.duplicates import group\n", True),
        ("def f():\n    from shared.learning.duplicates import group\n", True),
        ("import shared.learning.duplicates\n", True),
        ("from shared.learning import duplicates\n", True),
        ("from shared.learning import folds, duplicates as d  # why\n", True),
        ("from shared.learning import (\n    folds,\n    duplicates,\n)\n", True),
        ("try:\n    pass\nexcept OSError:\n    from shared.learning import duplicates\n", True),
        ("try:\n    pass\nfinally:\n    import shared.learning.duplicates\n", True),
        ("for _ in ():\n    pass\nelse:\n    import shared.learning.duplicates\n", True),
        ("class A:\n    async def f(self):\n        with x:\n            import shared.learning.duplicates\n", True),
        ("match 1:\n    case 1:\n        import shared.learning.duplicates\n", True),
        ("from shared.commands.import_data import x\n", False),
        ("from shared_learning import duplicates\n", False),
        ("name = 'shared.learning.duplicates'\n", False),
    ],
)
def test_every_way_to_import_is_noticed(source: str, found: bool, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(source)
    names = {path.name for path in fingerprint._imported_of_shared([tmp_path / "module.py"])}
    assert ("duplicates.py" in names) == found


@pytest.mark.slow
def test_a_source_is_parsed_once_however_many_fingerprints_count_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[str] = []
    parse = ast.parse
    monkeypatch.setattr(ast, "parse", lambda text: (parsed.append(text), parse(text))[1])
    for cached in (fingerprint.code_files, fingerprint.imported_names):
        cached.cache_clear()
    for package in ("sound_trainer", "shared"):
        code_files(package)
    code_files("sound_trainer", tmp_path)
    assert len(parsed) > 20
    assert len(parsed) <= len(set(parsed)) + parsed.count("")  # empty modules are alike


@pytest.mark.slow
def test_an_edit_changes_the_fingerprint_of_those_that_load_it(monkeypatch: pytest.MonkeyPatch) -> None:
    contents = fingerprint._contents
    before = {package: code_fingerprint(package) for package in PACKAGES}

    def edited(name: str, root: Path, paths: list[Path]) -> dict[str, str]:
        return {
            key: "edited" if key == "shared/learning/duplicates.py" else old
            for key, old in contents(name, root, paths).items()
        }

    monkeypatch.setattr(fingerprint, "_contents", edited)
    fingerprint.code_files.cache_clear()
    after = {package: code_fingerprint(package) for package in PACKAGES}
    fingerprint.code_files.cache_clear()
    assert [package for package in PACKAGES if before[package] != after[package]] == list(WITH_DUPLICATES)
