#!/usr/bin/env bash
# with.sh COMMAND...: runs a command against a cluster that has callplane installed. A cluster that
# is up stays up, with callplane brought up to date; one that had to be started is taken down again, whatever the command's outcome,
# and nothing may be left of it.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
(($#)) || die "usage: with.sh COMMAND..."
[[ ${CLUSTER:-local} == local ]] ||
  die "the scenarios kill processes, machines and the API server: they run on their own cluster, and not with CLUSTER=$CLUSTER"

running=yes
for machine in "${MACHINES[@]}"; do machine_init "$machine" >/dev/null || running=no; done

# What a person would ask first, said before the cluster is gone.
diagnose() {
  local pod
  say "failed; the cluster as it was left:"
  kube get pods,callrooms,medianodes,mediapools --all-namespaces --output wide || true
  kube get events --all-namespaces --sort-by .lastTimestamp | tail -n 30 || true
  for pod in $(kube --namespace callplane-system get pods --output name); do
    echo "--- $pod"
    kube --namespace callplane-system logs --tail 40 --all-containers "$pod" || true
  done
}

finish() {
  local status=$?
  ((status == 0)) || diagnose >&2
  [[ $running == no ]] || return 0
  "$CLUSTER_DIR/down.sh"
  local after
  after=$("$CLUSTER_DIR/traces.sh")
  [[ $before == "$after" ]] || die "the cluster left something behind: $(diff <(echo "$before") <(echo "$after"))"
}

"$CLUSTER_DIR/tools.sh"
# What a crash left goes first: it would be taken for what this run leaves.
[[ $running == yes || ! -e $STATE ]] || "$CLUSTER_DIR/down.sh"
before=$("$CLUSTER_DIR/traces.sh")
trap finish EXIT
"$CLUSTER_DIR/up.sh"
"$CLUSTER_DIR/images.sh" tests
export CALLPLANE_STATE=$STATE CALLPLANE_CACHE=$CACHE KUBECONFIG=$KUBECONFIG_FILE PATH=$BIN:$PATH
# The demo wants a cluster without callplane.
if [[ $running == no ]]; then
  REGISTRY=localhost/callplane TAG=$(cat "$STATE/tag") "$REPO_DIR/e2e/demo/test.sh"
else
  say "the demo is NOT tested: that takes a new cluster, and this one is in use"
fi
"$CLUSTER_DIR/install.sh" --set postgresql.enabled=true
say "running: $*"
(cd "$REPO_DIR" && "$@")
