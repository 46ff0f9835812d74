#!/bin/sh
# Readies /app: the named commands only, everything readable, and bytecode, which a read-only container cannot write.
set -eu
for command in /app/bin/*; do
    keep=no
    for name in "$@"; do if [ "$name" = "${command##*/}" ]; then keep=yes; fi; done
    if [ $keep = no ]; then rm "$command"; fi
done
"$VENV/bin/python" -m compileall -q --invalidation-mode unchecked-hash /app
chmod -R a+rX /app
