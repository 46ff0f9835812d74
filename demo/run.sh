#!/usr/bin/env bash
# Generates the demo data, trains models for three fictional people and four modalities, publishes them and prints a table.
#   demo/run.sh [FOLDER]      everything is written to FOLDER (default: .demo in the project's root)
# Running it again trains only what is missing or out of date; remove the folder to start from scratch.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
folder=${1:-.demo}
python=.venv/bin/python
[[ -x $python ]] || { echo "$python is missing; run: make setup" >&2; exit 2; }
PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} "$python" -m demo.make_data "$folder/data"
exec orchestrator/launch_all.sh --data "$folder/data" --registry "$folder/registry" --runs "$folder/runs" --demo-data
