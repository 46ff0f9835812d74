"""Where numba finds what it compiled while an image was built: NUMBA_CACHE_LOCATOR_CLASSES names the class.

numba's own locators take a folder only if they can write there, which a read-only container cannot; without this,
importing librosa would compile its functions anew in every container, which takes longer than training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numba.core.caching import InTreeCacheLocator


class BuiltCacheLocator(InTreeCacheLocator):
    """Finds a function's cache beside its source, if the build left one there; nothing is written."""

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> BuiltCacheLocator | None:
        locator = cls(py_func, py_file)
        left = f"*.{py_func.__name__}-{locator.get_disambiguator()}.*.nbi"
        return locator if any(Path(locator.get_cache_path()).glob(left)) else None
