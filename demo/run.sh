#!/usr/bin/env bash
# Makes the demo's data, trains three made-up people on four modalities, publishes the models and prints the table.
#   demo/run.sh [FOLDER]      everything goes to FOLDER (default: .demo in the project's root)
# Running it again keeps what is there and up to date, and trains the rest; remove the folder to start anew.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
folder=${1:-.demo}
python=.venv/bin/python
[[ -x $python ]] || { echo "$python is missing; run: make setup" >&2; exit 2; }
PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} "$python" -m demo.make_data "$folder/data"
exec orchestrator/launch_all.sh --data "$folder/data" --registry "$folder/registry" --runs "$folder/runs" --demo-data
