#!/usr/bin/env bash
# test.sh: the demo, begun and ended as people do it on a cluster of theirs. It leaves the cluster of KUBECONFIG as it was,
# which must not have callplane in it yet. REGISTRY and TAG name the images, as for demo.sh.
source "$(dirname "${BASH_SOURCE[0]}")/../cluster/lib.sh"
: "${KUBECONFIG:?names the cluster}" "${REGISTRY:?has the images}" "${TAG:?is the tag of the images}"
demo=$REPO_DIR/e2e/demo/demo.sh
work=$(mktemp -d)
export CLUSTER=current
fail() {
  cat "$work"/said >&2 || true
  die "the demo: $*"
}

# What callplane has in a cluster, whatever made it: nothing may be left of it.
left() {
  kubectl get namespaces,crds,clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings,priorityclasses \
    --output name | grep callplane || true
}

free_port() { node --eval 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close(); })'; }

# A phone, as far as networks go: it reaches this machine by one address, and nothing behind it.
PHONE=callplane-phone
LAN=198.51.100.1
make_phone() {
  ip netns add "$PHONE"
  ip link add "$PHONE" type veth peer name lan netns "$PHONE"
  ip address add "$LAN/30" dev "$PHONE"
  ip link set "$PHONE" up
  ip -netns "$PHONE" address add 198.51.100.2/30 dev lan
  ip -netns "$PHONE" link set lan up
  ip -netns "$PHONE" link set lo up
  printf '#!/bin/sh\nexec ip netns exec %s "%s" "$@"\n' "$PHONE" "${CHROMIUM:-/usr/bin/chromium}" >"$work/chromium"
  chmod +x "$work/chromium"
}
drop_phone() {
  ip netns delete "$PHONE" 2>/dev/null || true
  ip link delete "$PHONE" 2>/dev/null || true
}

finish() {
  local status=$?
  if ((status)); then
    kubectl get callrooms,medianodes,pods --all-namespaces --output wide || true
    kubectl describe callroom talk --namespace callplane-demo || true
    kubectl logs --namespace callplane-system --selector app.kubernetes.io/name=callplane --tail 40 --prefix || true
  fi >&2
  "$demo" down >/dev/null 2>&1 || true
  drop_phone
  rm -rf "$work"
  exit "$status"
}
trap finish EXIT

before=$(left)
[[ -z $before ]] || fail "this cluster is in use: $before"
PAGE_PORT=$(free_port) GATEWAY_PORT=$(free_port)
export PAGE_PORT GATEWAY_PORT
began=$EPOCHSECONDS
"$demo" up >"$work/said" 2>&1 || fail "it ended with $?"
say "demo: up in $((EPOCHSECONDS - began)) s"

# What it prints is what a person does next.
mapfile -t links < <(sed -n 's/^  \(http[^ ]*\).*/\1/p' "$work/said")
((${#links[@]} == 2)) || fail "it names ${#links[@]} links, not two"
for link in "${links[@]}"; do
  curl --silent --show-error --fail --max-time 10 --output /dev/null "${link%%#*}" || fail "$link does not answer"
done
mapfile -t commands < <(sed -n 's/^  \(kubectl [^#]*[^# ]\) *#.*/\1/p' "$work/said")
((${#commands[@]} == 2)) || fail "it names ${#commands[@]} commands of kubectl, not two"
for command in "${commands[@]}"; do
  bash -c "$command" >"$work/command" 2>&1 || fail "\`$command\` fails: $(<"$work/command")"
  grep --quiet demo "$work/command" || fail "\`$command\` does not tell of the demo: $(<"$work/command")"
done
mapfile -t pictures < <(find "$CACHE/demo/screenshots" -name '*.png' -size +10k -newermt "@$began")
((${#pictures[@]} >= 3)) || fail "there are ${#pictures[@]} screenshots: ${pictures[*]}"

# A person who comes back to it, and wants to show it on a phone.
drop_phone
make_phone
began=$EPOCHSECONDS
LAN=198.51.100.77 "$demo" up >"$work/refused" 2>&1 && fail "it takes an address that is not this machine's"
grep --quiet "no address of this machine: it has .*$LAN" "$work/refused" || fail "it does not say which address to take: $(<"$work/refused")"
LAN=$LAN LAN_PORT=$(free_port) "$demo" up >"$work/again" 2>&1 || fail "a second time it ended with $?: $(<"$work/again")"
say "demo: a second time in $((EPOCHSECONDS - began)) s"
link=$(sed -n 's/^  \(https:[^ ]*\).*/\1/p' "$work/again")
CHROMIUM=$work/chromium node "$REPO_DIR/e2e/browser/talk.mjs" "$link" "$work/phone" >"$work/phone.log" 2>&1 ||
  fail "on a phone: $(<"$work/phone.log")"
links+=("$link")
say "demo: a call on a phone that reaches nothing but $LAN"

"$demo" down >"$work/down" 2>&1 || fail "down: $(<"$work/down")"
after=$(left)
[[ -z $after ]] || fail "this is left of it: $after"
for link in "${links[@]}"; do
  ! curl --silent --insecure --max-time 2 --output /dev/null "${link%%#*}" || fail "$link still answers"
done
say "demo: two calls, ${#pictures[@]} screenshots, and nothing left"
