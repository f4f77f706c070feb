#!/usr/bin/env bash
# build.sh [PEER...]: builds or unpacks the servers that callplane is measured against, pinned, into the
# cache. Each is optional: what cannot be built is said in one line, and the benchmark says so too.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
(($#)) || set -- mediasoup janus livekit
mkdir -p "$PEERS"
exec 9>"$PEERS/lock"
flock 9

for peer in "$@"; do
  [[ -x $PEERS_DIR/$peer/build.sh ]] || die "no such peer: $peer"
  shared=(lib.sh lines.mjs)
  grep --quiet sdp.mjs "$PEERS_DIR/$peer/build.sh" && shared+=(sdp.mjs)
  key=$(cd "$PEERS_DIR" && find "${shared[@]}" "$peer" -type f | LC_ALL=C sort | xargs sha256sum | sha256sum | cut -c1-16)
  if [[ $(cat "$PEERS/$peer/stamp" 2>/dev/null) == "$key" ]]; then
    continue
  fi
  rm -rf "${PEERS:?}/$peer"
  mkdir -p "$PEERS/$peer"
  echo "$peer: building (log: $PEERS/$peer.log)"
  began=$EPOCHSECONDS
  if OUT=$PEERS/$peer "$PEERS_DIR/$peer/build.sh" >"$PEERS/$peer.log" 2>&1 9>&-; then
    echo "$key" >"$PEERS/$peer/stamp"
    echo "$peer: built in $((EPOCHSECONDS - began)) s"
  else
    echo "$peer: ABSENT, it did not build: $(tail -n 1 "$PEERS/$peer.log")"
  fi
done
