#!/usr/bin/env bash
# Janus: Debian's packages, unpacked into the cache with the libraries that this system lacks.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
need node npm apt-get dpkg
here=$PEERS_DIR/janus
cd "$OUT"
cp "$PEERS_DIR"/{lines,sdp}.mjs "$here"/{adapter.mjs,janus.jcfg,janus.transport.websockets.jcfg,janus.plugin.videoroom.jcfg,package.json,package-lock.json} .
npm ci --no-audit --no-fund
mapfile -t packages < <(apt-get install --simulate --no-install-recommends janus=1.1.2-1 | awk '/^Inst/ {print $2}')
((${#packages[@]})) || packages=(janus)
unpack root "${packages[@]}"
mkdir plugins transports
ln -s "$PWD"/root/usr/lib/*/janus/plugins/libjanus_videoroom.so plugins
ln -s "$PWD"/root/usr/lib/*/janus/transports/libjanus_websockets.so transports
