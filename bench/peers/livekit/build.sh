#!/usr/bin/env bash
# LiveKit: its server built from the Go module, its signalling's messages from npm.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
need go node npm
here=$PEERS_DIR/livekit
cd "$OUT"
cp "$PEERS_DIR"/{lines,sdp}.mjs "$here"/{adapter.mjs,package.json,package-lock.json} .
npm ci --no-audit --no-fund
cd "$here"
go build -o "$OUT/livekit-server" -ldflags '-s -w' github.com/livekit/livekit-server/cmd/server
