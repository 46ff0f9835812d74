"""`python -m build_tools` makes the pretrained networks."""

from __future__ import annotations

import sys

from build_tools.make import pretrained_command
from shared.commands.main import run

if __name__ == "__main__":
    sys.exit(run(lambda: pretrained_command(prog_name="python -m build_tools", standalone_mode=False)))
