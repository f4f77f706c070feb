#!/usr/bin/env bash
# ahead.sh cluster|lint COMMAND...: runs a command, and meanwhile builds what tools.sh of that name builds, with what the
# command leaves of the processors. Whoever needs a tool waits until it is there. When the command ends, so does the
# building: what was compiled by then is in the compilers' caches.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
(($# > 1)) || die "usage: ahead.sh cluster|lint COMMAND..."

# The idle class takes nothing from anybody, so tests are not slowed down. A sandbox may refuse it.
idle=(chrt --idle 0)
"${idle[@]}" true 2>/dev/null || idle=(nice -n 19)

build() {
  "${idle[@]}" "$CLUSTER_DIR/tools.sh" "$1" || return
  [[ $1 != cluster ]] || "${idle[@]}" "$CLUSTER_DIR/images.sh" bases
}

# A process group of its own, so that compilers end with it; not a session, where the idle class would count anew.
set -m
build "$1" > >(sed --unbuffered 's/^/ahead: /') 2>&1 &
building=$!
set +m
shift

finish() {
  local status=$?
  kill -- "-$building" 2>/dev/null || true
  exit "$status"
}
trap finish EXIT
"$@"
