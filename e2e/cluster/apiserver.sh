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
    # Kubernetes' own programs look again after up to a minute (client-go's back-off, with jitter), and until kube-proxy
    # has, pods do not reach what has withdrawn its address. New ones look at once, and they are not what is on trial.
    for machine in "${MACHINES[@]}"; do
      machine_init "$machine" >/dev/null || continue
      for daemon in kube-proxy kube-controller-manager kube-scheduler; do
        daemon_pid "$machine" "$daemon" >/dev/null || continue
        stop_daemon "$machine" "$daemon" 3
        restart_daemon "$machine" "$daemon"
      done
    done
    say "API server: ready"
    ;;
  *) die "usage: apiserver.sh stop|start" ;;
esac
