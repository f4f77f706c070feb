#!/usr/bin/env bash
# Takes the cluster down and leaves no trace of it: what it made, it removes, and nothing else.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$CLUSTER_DIR/machines.sh"
[[ $EUID == 0 ]] || die "the cluster was made by root, and only root can remove it"
[[ -n ${CALLPLANE_LOCKED:-} ]] || lock

for machine in "${MACHINES[@]}"; do end_machine "$machine"; done
[[ ! -s $STATE/sysctls ]] || sysctl --quiet --load="$STATE/sysctls"
if [[ -s $STATE/mountpoints ]]; then
  sort --reverse "$STATE/mountpoints" | xargs rmdir --ignore-fail-on-non-empty
fi
rm -rf "$STATE"
say "cluster: down"
