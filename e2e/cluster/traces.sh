#!/usr/bin/env bash
# traces.sh: what of this machine a cluster changes, a line each. The same before it is started and after it was taken down.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Every one that names the cluster or what is only there for it.
ours() { grep --extended-regexp "callplane|kube|cni-|$STATE|10\.($NET|$((NET + 1))|$((NET + 2)))\." || true; }

cut --delimiter=' ' --fields=2 /proc/mounts | ours | sed 's/^/mount /'
ip -oneline link | cut --delimiter=' ' --fields=2 | ours | sed 's/^/link /'
ip route show table all | ours | sed 's/^/route /'
for tables in iptables-save ip6tables-save; do
  if command -v "$tables" >/dev/null; then "$tables" 2>/dev/null | ours | sed "s/^/$tables /"; fi
done
find /sys/fs/cgroup -maxdepth 2 -type d -name 'callplane*' -printf 'cgroup %p\n'
for path in "${MOUNTPOINTS[@]}" "$STATE"; do
  [[ ! -e $path ]] || echo "folder $path"
done
# Processes by what they run: the cluster's own programs, and what runs in its machines.
for process in /proc/[0-9]*; do
  if grep --quiet "/callplane-$NET-" "$process/cgroup" 2>/dev/null || [[ $(readlink "$process/exe") == "$BIN"/@(kube|coredns) ]]; then
    echo "process $(tr '\0' ' ' <"$process/cmdline" 2>/dev/null | cut -c1-80)"
  fi
done
for key in "${KERNEL_SETTINGS[@]}"; do echo "$key=$(sysctl -n "$key")"; done
