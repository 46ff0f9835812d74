"""Files that a table or an annotation names: found beside it, wherever its data set keeps them."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

from shared.data.formats.raw import ReadOptions
from shared.data.formats.walking import walk
from shared.data.media_types import MEDIA_TYPES

_BESIDE_AUDIO = frozenset(["meta", "metadata", "annotations", "labels"])  # folders of tables, not of what they name
_UPLOAD = re.compile(r"[0-9a-f]{8}-(.+)")  # Label Studio puts eight hexadecimal digits before a file's name


@dataclass(frozen=True)
class ListedFiles:
    """The media files below a folder, by their names; nothing outside it is ever opened."""

    root: Path
    by_name: dict[str, list[Path]]  # by their names in small letters

    @classmethod
    def near(cls, table: Path, options: ReadOptions) -> ListedFiles:
        """Return the files in `options.media`, or else beside the table, or beside the folder `meta` that it is in."""
        root = options.media
        if root is None:
            root = table.parent.parent if table.parent.name.lower() in _BESIDE_AUDIO else table.parent
        by_name: dict[str, list[Path]] = defaultdict(list)
        for path in walk(root):
            if path.suffix.lower() in MEDIA_TYPES and not path.is_symlink():
                by_name[_folded(path.name)].append(path)
        return cls(root, by_name)

    def find(self, written: str) -> Path | None:
        """Return the file that a table means by a path: the one whose path ends most alike; None without one."""
        parts = PurePosixPath(_plain_path(written)).parts
        if not parts:
            return None
        candidates = self._named(parts[-1])
        if not candidates and (match := _UPLOAD.fullmatch(parts[-1])):
            candidates = self._named(match.group(1))
        if len(candidates) <= 1:
            return candidates[0] if candidates else None

        def alike(path: Path) -> int:
            same = 0
            for theirs, ours in zip(reversed(parts), reversed(path.relative_to(self.root).parts), strict=False):
                if theirs != ours:
                    break
                same += 1
            return same

        best = max(candidates, key=alike)
        return best if sum(alike(path) == alike(best) for path in candidates) == 1 else None

    def _named(self, name: str) -> list[Path]:
        """Return the files of a name; of one in other letter case, or without its suffix, where there is none."""
        alike = self.by_name.get(_folded(name), [])
        exact = [path for path in alike if path.name == name]
        if alike or PurePosixPath(name).suffix.lower() in MEDIA_TYPES:
            return exact or alike
        return [path for paths in self.by_name.values() for path in paths if _folded(path.stem) == _folded(name)]

    def unlisted(self, listed: Collection[Path]) -> list[Path]:
        """Return the files that nothing named."""
        return sorted({path for paths in self.by_name.values() for path in paths} - set(listed))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _plain_path(written: str) -> str:
    """Return the path in what a table names: an address without its query, or that of Label Studio's local files."""
    text = written.strip()
    if "://" in text or text.startswith("/data/local-files/"):
        address = urlsplit(text)
        text = parse_qs(address.query).get("d", [unquote(address.path)])[0]
    return text.replace("\\", "/")
