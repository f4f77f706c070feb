#!/usr/bin/env bash
# with.sh COMMAND...: runs a command against a cluster that has the project's images. A cluster that
# is up stays up; one that had to be started is taken down again, whatever the command's outcome.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
(($#)) || die "usage: with.sh COMMAND..."

running=yes
for machine in "${MACHINES[@]}"; do machine_init "$machine" >/dev/null || running=no; done
"$CLUSTER_DIR/tools.sh"
[[ $running == yes ]] || trap '"$CLUSTER_DIR/down.sh"' EXIT
"$CLUSTER_DIR/up.sh"
"$CLUSTER_DIR/images.sh"
export CALLPLANE_STATE=$STATE CALLPLANE_CACHE=$CACHE KUBECONFIG=$KUBECONFIG_FILE PATH=$BIN:$PATH
say "running: $*"
(cd "$REPO_DIR" && "$@")
