#!/usr/bin/env bash
# apiserver.sh stop|start: takes the API server away and brings it back as it was.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
case ${1:-} in
  stop)
    stop_daemon 1 kube-apiserver 3
    say "API server: stopped"
    ;;
  start)
    daemon_pid 1 kube-apiserver >/dev/null || restart_daemon 1 kube-apiserver
    wait_for 60 "API server" kube get --raw /readyz
    say "API server: ready"
    ;;
  *) die "usage: apiserver.sh stop|start" ;;
esac
