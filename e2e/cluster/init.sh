#!/usr/bin/env bash
# init.sh FOLDER MOUNTPOINT...: the first process of a machine. It sets up what every process in it
# sees, then waits and reaps. Started in namespaces of its own; killing it ends the machine.
set -euo pipefail
dir=$1
shift

mount -t tmpfs tmpfs /run
mkdir -p /run/lock /run/netns /run/callplane
for path in "$@"; do
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
