"""The documentation is true: the README's commands run, links lead somewhere, generated pages are current."""

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
import yaml
from click.testing import CliRunner

from demo.make_data import write_session
from demo.people import PEOPLE, SESSIONS
from docs.generate import CLI_PAGE, DEMO_PICTURE, command_reference
from shared.commands.check import check_command
from tests.paths import ROOT

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"(?P<before>[^\n]*)\n```bash\n(?P<commands>.*?)^```$", re.DOTALL | re.MULTILINE)
NOT_RUN = re.compile(r"<!-- not run here: .+ -->")
LINK = re.compile(r"(?:\]\(|src=\")([^)\s\"]+)")
DAYS = dict(zip((session.session_id for session in SESSIONS), ("monday", "thursday", "sunday"), strict=True))


def bash_blocks(text: str) -> tuple[list[str], list[str]]:
    """Return the bash blocks that must run, and those that a comment in the line before keeps from it."""
    run: list[str] = []
    kept: list[str] = []
    for match in BLOCK.finditer(text):
        (kept if NOT_RUN.fullmatch(match["before"]) else run).append(match["commands"])
    return run, kept


def run_blocks(blocks: list[str], folder: Path) -> tuple[int, str]:
    """Run bash blocks in `folder` up to the first command that fails; return its exit code and all output."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    output = ""
    for block in blocks:
        command = ["bash", "-euo", "pipefail", "-c", block]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
        output += f"{block}\n{done.stdout}{done.stderr}"
        if done.returncode:
            return done.returncode, output
    return 0, output


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a folder laid out like the project's, with the recordings that the README mentions."""
    for name in ("orchestrator", ".venv", ".pretrained"):
        if (ROOT / name).exists():
            (tmp_path / name).symlink_to(ROOT / name)
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    ana = PEOPLE[0]
    for session in SESSIONS:
        write_session(tmp_path / "made", ana, session, seed=3)
        for wav in (tmp_path / "made" / "users" / "ana" / "sessions" / session.session_id / "sounds").glob("*_0*.wav"):
            label, take = wav.stem.split("_")
            shutil.copy(wav, recordings / f"{label}_ana_{DAYS[session.session_id]}_{take}.wav")
    shutil.rmtree(tmp_path / "made")
    return tmp_path


@pytest.mark.slow
def test_the_commands_of_the_readme_run_on_recordings_named_as_it_says(checkout: Path) -> None:
    run, kept = bash_blocks((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(run) == 2 and len(kept) == 3
    code, output = run_blocks(run, checkout)
    assert code == 0, output
    assert '"classifier_output"' in output and '"unknown"' in output
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


def broken_links(page: Path) -> list[str]:
    """Return the links of a page to files that do not exist, or to headings that are not there."""
    broken = []
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not re.match(r"https?:", link) and not (target.is_file() and (not anchor or anchor in anchors(target))):
            broken.append(f"{page.name}: {link}")
    return broken


def anchors(page: Path) -> set[str]:
    """Return the names by which GitHub links to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_leads_to_a_file_and_a_heading_in_it() -> None:
    assert len(PAGES) > 15
    assert [broken for page in PAGES for broken in broken_links(page)] == []


def test_a_link_to_a_missing_file_or_heading_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text('# A trainer\'s command\n[a](page.md#a-trainers-command) [b](#no) [c](no.md) <img src="no.png">\n')
    assert broken_links(page) == ["page.md: #no", "page.md: no.md", "page.md: no.png"]


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        linked = {(page.parent / link.partition("#")[0]).resolve() for link in LINK.findall(page.read_text("utf-8"))}
        waiting += [target for target in linked - reached if target.suffix == ".md" and target.is_file()]
    assert [str(page.relative_to(ROOT)) for page in PAGES if page not in reached] == []


def test_terms_are_defined_once_and_in_one_place() -> None:
    terms = re.findall(r"\*\*([^*]+)\*\*", (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8"))
    assert len(terms) > 50 and len({term.lower() for term in terms}) == len(terms)
    expected = ("user", "session", "candidate", "decision rule", "familiarity", "false rejection rate", "verdict")
    assert [term for term in expected if term not in terms] == []


# What the pages used to say, and what the field calls it. CHANGELOG.md may quote old words.
OLD_WORDS = {
    r"rooms of the code": "packages",
    r"\bserv(es|ing|ed) (at once|since|afterwards)|that serves\b": "active version",
    r"made(-up)? (data|gestures|people)": "synthetic data, fictional people",
    r"learn(t|ed) (on|from|as)\b": "trained on",
    r"(is|are) told (from|by)\b|tells? .{1,40} from known": "separates, detects",
    r"taken for what": "confusion matrix",
    r"known rejected|rejected known": "false rejection rate",
    r"half as long again": "50 % longer",
    r"\bdealt? over": "distribute round-robin",
    r"\bcontenders?\b|\brivals?\b|line up": "candidates",
}


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "cli.md"], ids=lambda page: page.name)
def test_pages_use_the_words_of_the_glossary(page: Path) -> None:
    text = re.sub(r"`[^`]*`", "", page.read_text(encoding="utf-8").replace("\n", " "))
    assert {old: new for old, new in OLD_WORDS.items() if re.search(old, text, re.IGNORECASE)} == {}


def test_the_issue_forms_are_forms() -> None:
    forms = [path for path in sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")) if path.stem != "config"]
    assert len(forms) == 3
    for path in forms:
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert {"name", "description", "body"} <= form.keys()
        fields = [field for field in form["body"] if field["type"] != "markdown"]
        assert all(field["id"] and field["attributes"]["label"] for field in fields)
        assert len({field["id"] for field in fields}) == len(fields)


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
