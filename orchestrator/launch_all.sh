#!/usr/bin/env bash
# Trains every user on every modality that has data and publishes what came out.
#   orchestrator/launch_all.sh --data DIR [--users all|a,b] [--modalities all|a,b] [--registry DIR] [--runs DIR] [--jobs N]
#   orchestrator/launch_all.sh --help
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
python=$root/.venv/bin/python
if [[ ! -x $python ]]; then
    python=$(command -v python3 || command -v python) || { echo "no Python found; run: make -C '$root' setup" >&2; exit 2; }
fi
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
exec "$python" -m orchestrator.launch "$@"
