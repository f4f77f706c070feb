#!/usr/bin/env bash
# Installs the Python programs of the interop tests into the cache, once per list, and prints their interpreter.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cache=${CALLPLANE_CACHE:-$HOME/.cache/callplane}
list=$here/requirements.txt
venv=$cache/python-$(sha256sum "$list" | cut -c1-12)

mkdir -p "$cache"
exec 9>"$cache/python.lock"
flock 9
if [ ! -e "$venv/installed" ]; then
  rm -rf "$venv"
  python3 -m venv "$venv" >&2
  "$venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: --requirement "$list" >&2
  touch "$venv/installed"
fi
echo "$venv/bin/python"
