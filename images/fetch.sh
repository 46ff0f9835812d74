#!/bin/sh
# Makes the named pretrained networks in $MODEL_TRAINER_PRETRAINED, each checked against its recorded sha256.
set -eu
if [ -s /run/secrets/ca.crt ]; then export PIP_CERT=/run/secrets/ca.crt; fi
if [ -s /run/secrets/pip.conf ]; then export PIP_CONFIG_FILE=/run/secrets/pip.conf; fi

only=""
for name in "$@"; do only="$only --only $name"; done
# shellcheck disable=SC2086  # a list of options
"$VENV/bin/python" -m build_tools $only
chmod -R a+rX "$MODEL_TRAINER_PRETRAINED"
