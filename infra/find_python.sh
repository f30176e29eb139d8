#!/usr/bin/env bash
# Print a Python that this project runs on: $PYTHON if set, else the first of the usual names that is 3.11, 3.12 or 3.13.
set -euo pipefail

suits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; }

if [ -n "${PYTHON:-}" ]; then
  suits "$PYTHON" && { command -v "$PYTHON"; exit; }
  echo "error: PYTHON=$PYTHON is not a Python from 3.11 to 3.13 ($("$PYTHON" --version 2>&1 | head -1 || true))" >&2
  exit 1
fi
for name in python3.11 python3.12 python3.13 python3 python; do
  if command -v "$name" >/dev/null && suits "$name"; then command -v "$name"; exit; fi
done
echo "error: no Python from 3.11 to 3.13 found ($(python3 --version 2>&1 || echo 'no python3 at all'));" \
  "install one, or name it: make setup PYTHON=/path/to/python3.11" >&2
exit 1
