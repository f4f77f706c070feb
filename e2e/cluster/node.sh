#!/usr/bin/env bash
# node.sh kill|boot: the second node loses power, and comes back with its disk as it was.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$CLUSTER_DIR/machines.sh"
machine=2
name=$(node_name "$machine")

last_heard() { kube --namespace kube-node-lease get lease "$name" --output 'jsonpath={.spec.renewTime}'; }
heard_since() {
  keep_kubelet "$machine"
  [[ $(last_heard) != "$1" ]]
}

case ${1:-} in
  kill)
    end_machine "$machine"
    say "node $name: without power"
    ;;
  boot)
    ! machine_init "$machine" >/dev/null || die "node $name is running"
    before=$(last_heard)
    boot "$machine"
    connect "$machine"
    connect_each_other
    start_containerd "$machine"
    start_node "$machine"
    # Until its kubelet speaks again, the API server shows the node as it last was.
    wait_for 60 "kubelet of $name" heard_since "$before"
    wait_for 180 "node $name" kube wait --for=condition=Ready "node/$name" --timeout=1s
    say "node $name: Ready"
    ;;
  *) die "usage: node.sh kill|boot" ;;
esac
