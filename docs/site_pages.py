"""A hook of MkDocs: adds to the site what pages link to outside docs/, and the notebook as a page.

Files outside docs/ appear below project/. Links in the sources stay as they are; they work in a checkout, too.
"""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
PROJECT_FILES = (
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "RELEASE.md", "SECURITY.md", "LICENSE", "compose.yaml"),
    *("deploy/alerts.yml", "deploy/cluster.yaml", "deploy/workers.Dockerfile", "deploy/model-trainer.cron"),
)
LINK = re.compile(r"(?P<before>\]\(|src=\")(?P<path>[^)\s\"#:]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside docs/, and the notebook."""
    for name in PROJECT_FILES:
        files.append(File.generated(config, f"project/{name}", abs_src_path=str(ROOT / name)))
    notebook = (ROOT / "docs" / "python-api.ipynb").read_text(encoding="utf-8")
    files.append(File.generated(config, "python-api.md", content=notebook_page(notebook)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make links lead to where their targets are on the site."""
    return site_links(markdown, page.file.src_uri)


def site_links(markdown: str, page: str) -> str:
    """Return a page with the links of a checkout turned into links of the site."""
    source = page.removeprefix("project/") if page.startswith("project/") else f"docs/{page}"

    def link(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match["path"]))
        if not (ROOT / target).is_file():
            return match[0]  # not a link between files, or a broken one, which the strict build reports
        place = target.removeprefix("docs/") if target.startswith("docs/") else f"project/{target}"
        place = place.replace("python-api.ipynb", "python-api.md")
        return match["before"] + posixpath.relpath(place, posixpath.dirname(page) or ".")

    return LINK.sub(link, markdown)


def notebook_page(notebook: str) -> str:
    """Return a Jupyter notebook as a page of Markdown."""
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(notebook)["cells"]]
    return "\n\n".join(f"```python\n{source}\n```" if kind == "code" else source for kind, source in cells)
