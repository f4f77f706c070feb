#!/usr/bin/env bash
# Takes the cluster down and leaves no trace of it: what it made, it removes, and nothing else.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
[[ $EUID == 0 ]] || die "the cluster was made by root, and only root can remove it"
[[ -n ${CALLPLANE_LOCKED:-} ]] || lock

# Ends what is left of machine N. Its init takes every process, mount, link and firewall rule in
# the machine's namespaces with it.
end() {
  local file pid start
  for file in "$(machine_dir "$1")"/{unshare,init}.pid; do
    [[ -s $file ]] || continue
    read -r pid start <"$file"
    [[ $(process_start "$pid") == "$start" ]] || continue
    kill -KILL "$pid" 2>/dev/null || true
    while [[ $(process_start "$pid") == "$start" && $(process_state "$pid") != Z ]]; do sleep 0.05; done
  done
}

# Removes the cgroups of machine N in every hierarchy, the deepest first.
remove_cgroups() {
  local hierarchy directory tries
  # shellcheck disable=SC2013  # mount points of cgroups have no blanks
  for hierarchy in $(awk '$3 ~ /^cgroup2?$/ {print $2}' /proc/mounts); do
    [[ -d $hierarchy/$(node_name "$1") ]] || continue
    for tries in {1..50}; do
      while read -r directory; do rmdir "$directory" 2>/dev/null || true; done \
        < <(find "$hierarchy/$(node_name "$1")" -depth -type d 2>/dev/null)
      [[ -d $hierarchy/$(node_name "$1") ]] || break
      ((tries < 50)) || die "processes are left in $hierarchy/$(node_name "$1")"
      sleep 0.1
    done
  done
}

for machine in "${MACHINES[@]}"; do end "$machine"; done
for machine in "${MACHINES[@]}"; do
  remove_cgroups "$machine"
  # The link goes with the machine's network namespace, which the kernel frees a little later.
  ip link delete "callplane$machine" 2>/dev/null || true
done
[[ ! -s $STATE/sysctls ]] || sysctl --quiet --load="$STATE/sysctls"
if [[ -s $STATE/mountpoints ]]; then
  sort --reverse "$STATE/mountpoints" | xargs rmdir --ignore-fail-on-non-empty
fi
rm -rf "$STATE"
say "cluster: down"
