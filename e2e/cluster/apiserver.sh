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
    # Stopping, it withdrew its address from the Service that pods reach it by. kube-proxy looks again after up to a minute
    # (client-go's back-off, with jitter); a new one does at once, and it is not what is on trial.
    for machine in "${MACHINES[@]}"; do
      machine_init "$machine" >/dev/null || continue
      stop_daemon "$machine" kube-proxy 3
      restart_daemon "$machine" kube-proxy
    done
    say "API server: ready"
    ;;
  *) die "usage: apiserver.sh stop|start" ;;
esac
