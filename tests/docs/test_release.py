"""The version is the same wherever it stands."""

from __future__ import annotations

import re
import tomllib

from tests.paths import ROOT


def test_project_changelog_and_images_have_one_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    releases = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", changelog, re.MULTILINE)
    labels = {
        path.parent.name: re.findall(r'org\.opencontainers\.image\.version="([^"]+)"', path.read_text(encoding="utf-8"))
        for path in ROOT.glob("*/Dockerfile")
    }
    assert releases[0] == version
    assert len(labels) == 5 and all(found == [version] for found in labels.values())


def test_the_changelog_opens_with_what_is_unreleased_and_uses_known_headings() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", changelog, re.MULTILINE)[0] == "[Unreleased]"
    headings = set(re.findall(r"^### (.+)$", changelog, re.MULTILINE))
    assert headings and headings <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
