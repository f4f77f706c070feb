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

finish() {
  local status=$?
  if ((status)); then
    kubectl get callrooms,medianodes,pods --all-namespaces --output wide || true
    kubectl describe callroom talk --namespace callplane-demo || true
    kubectl logs --namespace callplane-system --selector app.kubernetes.io/name=callplane --tail 40 --prefix || true
  fi >&2
  "$demo" down >/dev/null 2>&1 || true
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

# A person who comes back to it.
began=$EPOCHSECONDS
"$demo" up >"$work/again" 2>&1 || fail "a second time it ended with $?: $(<"$work/again")"
say "demo: a second time in $((EPOCHSECONDS - began)) s"

"$demo" down >"$work/down" 2>&1 || fail "down: $(<"$work/down")"
after=$(left)
[[ -z $after ]] || fail "this is left of it: $after"
for link in "${links[@]}"; do
  ! curl --silent --max-time 2 --output /dev/null "${link%%#*}" || fail "$link still answers"
done
say "demo: two calls, ${#pictures[@]} screenshots, and nothing left"
