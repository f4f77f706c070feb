#!/usr/bin/env bash
# preflight.test.sh: what a machine lacks is said in one line, at once, before anything is built or changed.
set -euo pipefail
unset CALLPLANE_NET
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp --directory)
server=
trap '[[ -z $server ]] || kill "$server"; rm -rf "$work"' EXIT
chmod 755 "$work"
# As after a first run: the disk has room for one more.
mkdir -p "$work/cache/target"
failures=0

# refused NAME PATTERN COMMAND...: it ends within 10 s, not with 0, and says one line that matches.
refused() {
  local name=$1 pattern=$2 said status=0
  shift 2
  said=$(CALLPLANE_STATE=$work/state CALLPLANE_CACHE=$work/cache timeout 10 "$@" 2>&1 >/dev/null) || status=$?
  if ((status == 0 || status == 124)) || [[ $said == *$'\n'* || ! $said =~ $pattern ]]; then
    printf 'FAILED: %s: exit code %s, said: %s\n' "$name" "$status" "$said"
    failures=$((failures + 1))
  elif [[ -e $work/state/machines || -e $work/cache/bin ]]; then
    printf 'FAILED: %s: something was made\n' "$name"
    failures=$((failures + 1))
  else
    echo "ok: $name: $said"
  fi
}

# Everything on the PATH, so that one thing can be missing.
all=$work/all
mkdir "$all"
while IFS= read -r -d: directory; do
  find -L "$directory" -mindepth 1 -maxdepth 1 -type f -perm /111 -exec ln -s -t "$all" {} + 2>/dev/null || true
done <<<"$PATH:"

for missing in cargo:Rust go:Go node:Node npm:Node cc:compiler; do
  mv "$all/${missing%:*}" "$work/hidden"
  refused "no ${missing%:*}" "^error: .*${missing#*:}.* is missing: " env PATH="$all" "$here/preflight.sh"
  mv "$work/hidden" "$all/${missing%:*}"
done

# Programs that say a version and do nothing, as somebody else may run them.
mkdir "$work/fake"
for program in npm cc; do ln -s /bin/true "$work/fake/$program"; done
says() { printf '#!/bin/sh\necho "%s"\n' "$2" >"$work/fake/$1" && chmod 755 "$work/fake/$1"; }
says cargo 'cargo 99.0.0 (of a test)'
says go go99.0
says node v99.0.0

# old PROGRAM SAYS LATER PATTERN: it is refused for what it says.
old() {
  says "$1" "$2"
  refused "an old $1" "$4" env PATH="$work/fake:/usr/bin:/bin" "$here/preflight.sh"
  says "$1" "$3"
}
old cargo 'cargo 1.63.0 (fd9c4297c 2022-07-01)' 'cargo 99.0.0 (of a test)' '^error: Rust 1.63.0 is too old: '
old go go1.20 go99.0 '^error: go1.20 is too old: '
old node v18.20.4 v99.0.0 '^error: Node.js v18.20.4 is too old: '

refused 'a small disk' '^error: .*GB are needed in .*/small' unshare --mount bash -euc "
  mkdir $work/small && mount -t tmpfs -o size=16m tmpfs $work/small
  CALLPLANE_STATE=$work/small/state exec $here/preflight.sh"

refused 'addresses that are taken' '^error: .*10\.77\.0\.0/24 are taken on this machine: ' unshare --net bash -euc "
  ip link set lo up && ip route add 10.77.0.0/24 dev lo
  exec $here/preflight.sh"

# Where the checkout is nobody else may look: they get the scripts alone.
mkdir -p "$work/checkout/e2e/cluster"
cp "$here"/{lib,preflight}.sh "$work/checkout/e2e/cluster/"
cp "$here/../../rust-toolchain.toml" "$work/checkout/"
refused 'not root' '^error: .* needs root ' setpriv --reuid=65534 --regid=65534 --clear-groups \
  env HOME="$work" PATH="$work/fake:/usr/bin:/bin" bash "$work/checkout/e2e/cluster/preflight.sh"

node --eval 'const s = require("net").createServer().listen(0, "127.0.0.1", () => console.log(s.address().port))' >"$work/port" &
server=$!
until [[ -s $work/port ]]; do sleep 0.1; done
refused 'a busy port' "^error: port $(cat "$work/port") is in use: set PAGE_PORT" \
  env PAGE_PORT="$(cat "$work/port")" "$here/../demo/demo.sh" up
refused 'a cluster of no kind' "^error: CLUSTER is local, kind or current, not 'minikube'" \
  env CLUSTER=minikube "$here/../demo/demo.sh" up
refused 'scenarios on a cluster of others' '^error: the scenarios kill .* not with CLUSTER=current' \
  env CLUSTER=current "$here/with.sh" true

((failures == 0)) || exit 1
