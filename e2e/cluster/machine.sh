#!/usr/bin/env bash
# machine.sh N COMMAND...: runs a command in machine N (its processes, mounts and network), as one
# would over ssh: `machine.sh 2 ctr -n k8s.io tasks ls`, `machine.sh 1 iptables -t nat -S`.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
(($# >= 2)) || die "usage: machine.sh N COMMAND..."
on "$@"
