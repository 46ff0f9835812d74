"""Where the project lies, for tests in any folder."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
