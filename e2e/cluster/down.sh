#!/usr/bin/env bash
# Takes the cluster down and leaves no trace of it: what it made, it removes, and nothing else.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$CLUSTER_DIR/machines.sh"
[[ $EUID == 0 ]] || die "the cluster was made by root, and only root can remove it"
[[ -n ${CALLPLANE_LOCKED:-} ]] || lock

for machine in "${MACHINES[@]}"; do end_machine "$machine"; done

# What all clusters on this machine share goes with the last of them.
if ! ip -oneline link show type veth | grep --quiet " callplane"; then
  [[ ! -s $STATE/sysctls ]] || sysctl --quiet --load="$STATE/sysctls"
  for path in "${MOUNTPOINTS[@]}"; do
    if [[ -e $path/$MARK ]]; then rm "$path/$MARK" && rmdir "$path"; fi
  done
fi
rm -rf "$STATE"
say "cluster: down"
