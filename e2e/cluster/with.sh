#!/usr/bin/env bash
# with.sh COMMAND...: runs a command against a cluster that has callplane installed. A cluster that
# is up stays up, with callplane brought up to date; one that had to be started is taken down again, whatever the command's outcome.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
(($#)) || die "usage: with.sh COMMAND..."

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
  [[ $running == yes ]] || "$CLUSTER_DIR/down.sh"
}

"$CLUSTER_DIR/tools.sh"
trap finish EXIT
"$CLUSTER_DIR/up.sh"
"$CLUSTER_DIR/images.sh" tests
export CALLPLANE_STATE=$STATE CALLPLANE_CACHE=$CACHE KUBECONFIG=$KUBECONFIG_FILE PATH=$BIN:$PATH
"$CLUSTER_DIR/install.sh"
say "running: $*"
(cd "$REPO_DIR" && "$@")
