#!/usr/bin/env bash
# The first process of a machine: sets up what every process in it sees, then waits and reaps.
# Started by up.sh in namespaces of its own; killing it ends the machine.
set -euo pipefail
dir=$1

# What container software keeps at fixed paths, the host's own software may keep there too.
mount -t tmpfs tmpfs /run
mkdir -p /run/lock /run/netns /run/callplane
for path in /var/lib/kubelet /var/lib/cni /var/log/pods /var/log/containers; do
  mkdir -p "$dir$path"
  mount --bind "$dir$path" "$path"
done

ip link set lo up
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables # or a Service's answer from the same node goes astray
for rp_filter in /proc/sys/net/ipv4/conf/{all,default}/rp_filter; do echo 0 >"$rp_filter"; done

touch /run/callplane/booted "$dir/booted"
while :; do
  sleep 1d &
  wait $! # Returns for orphans too, which bash reaps.
done
