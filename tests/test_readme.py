"""The documentation does what it says: README's commands run, its links lead somewhere, the command page is current."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from demo.make_data import write_session
from demo.people import PEOPLE, ROOMS
from docs.generate import CLI_PAGE, DEMO_PICTURE, command_reference
from shared.commands.check import check_command
from tests.paths import ROOT

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").glob("*.md")
)
BLOCK = re.compile(r"(?P<before>[^\n]*)\n```bash\n(?P<commands>.*?)^```$", re.DOTALL | re.MULTILINE)
NOT_RUN = re.compile(r"<!-- not run here: .+ -->")
DAYS = dict(zip((room.session_id for room in ROOMS), ("monday", "thursday", "sunday"), strict=True))


def bash_blocks(text: str) -> tuple[list[str], list[str]]:
    """Return the bash blocks that must run, and those that a comment in the line before keeps from it."""
    run: list[str] = []
    kept: list[str] = []
    for match in BLOCK.finditer(text):
        (kept if NOT_RUN.fullmatch(match["before"]) else run).append(match["commands"])
    return run, kept


def run_blocks(blocks: list[str], folder: Path) -> tuple[int, str]:
    """Run bash blocks in `folder` up to the first command that fails; return its exit code and all that was told."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    told = ""
    for block in blocks:
        command = ["bash", "-euo", "pipefail", "-c", block]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
        told += f"{block}\n{done.stdout}{done.stderr}"
        if done.returncode:
            return done.returncode, told
    return 0, told


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a folder that looks like the project's own, with the recordings that README speaks of."""
    for name in ("orchestrator", ".venv", ".pretrained"):
        if (ROOT / name).exists():
            (tmp_path / name).symlink_to(ROOT / name)
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    ana = PEOPLE[0]
    for room in ROOMS:
        write_session(tmp_path / "made", ana, room, seed=3)
        for wav in (tmp_path / "made" / "users" / "ana" / "sessions" / room.session_id / "sounds").glob("*_0*.wav"):
            label, take = wav.stem.split("_")
            shutil.copy(wav, recordings / f"{label}_ana_{DAYS[room.session_id]}_{take}.wav")
    shutil.rmtree(tmp_path / "made")
    return tmp_path


def test_the_commands_of_the_readme_run_on_recordings_named_as_it_says(checkout: Path) -> None:
    run, kept = bash_blocks((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(run) == 2 and len(kept) == 2
    code, told = run_blocks(run, checkout)
    assert code == 0, told
    assert '"classifier_output"' in told and '"unknown"' in told
    published = sorted(path.name for path in (checkout / "models").rglob("sound_model_ana_v*.onnx"))
    assert published == ["sound_model_ana_v1.onnx"]  # the batch found it up to date


def test_a_command_of_a_page_that_fails_is_noticed(tmp_path: Path) -> None:
    page = "Do\n\n```bash\nfalse\ntrue\n```\n\n<!-- not run here: long -->\n```bash\nexit 7\n```\n"
    page += "\n```bash\ntouch later\n```\n"
    run, kept = bash_blocks(page)
    assert (run, kept) == (["false\ntrue\n", "touch later\n"], ["exit 7\n"])
    assert run_blocks(run, tmp_path)[0] == 1 and not (tmp_path / "later").exists()
    assert run_blocks(run[1:], tmp_path)[0] == 0 and (tmp_path / "later").exists()


def test_make_knows_the_targets_that_the_pages_name() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = {
        target
        for page in PAGES
        for target in re.findall(r"(?:^|`| {4})make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert {"setup", "demo", "test", "lint", "check", "help"} <= named
    assert [target for target in sorted(named) if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []


def test_every_link_to_a_file_leads_to_one() -> None:
    links = [
        (page.relative_to(ROOT), link, page.parent / link.partition("#")[0])
        for page in PAGES
        for link in re.findall(r"(?:\]\(|src=\")([^)\s\"]+)", page.read_text(encoding="utf-8"))
        if not re.match(r"https?:|#", link)
    ]
    assert len(links) >= 5
    assert [f"{page}: {link}" for page, link, target in links if not target.is_file()] == []


def test_the_page_of_commands_is_what_the_commands_say_of_themselves() -> None:
    CliRunner().invoke(check_command, ["--help"])  # a command that was run on its own says the same on the page
    written = CLI_PAGE.read_text(encoding="utf-8")
    assert written == command_reference(), "out of date; run: .venv/bin/python -m docs.generate"


def test_every_installed_command_is_on_the_page_with_an_example() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    sections = dict(re.findall(r"^## (.+?)\n\n```text\n(.*?)```", CLI_PAGE.read_text(encoding="utf-8"), re.S | re.M))
    assert set(scripts) <= set(sections) and len(sections) > 12
    groups = {name for name in sections if any(other.startswith(f"{name} ") for other in sections)}
    assert [name for name in sections if name not in groups and "Example" not in sections[name]] == []


def test_the_picture_of_the_demo_shows_every_model_and_fetches_nothing() -> None:
    text = DEMO_PICTURE.read_text(encoding="utf-8")
    words = "".join(ElementTree.fromstring(text).itertext())
    assert all(words.count(person.user_id) >= 4 for person in PEOPLE)
    assert "url(http" not in text and "href" not in text
