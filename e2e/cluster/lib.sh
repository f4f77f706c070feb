# shellcheck shell=bash disable=SC2034
# What the cluster's scripts share: where things are, how a "machine" is entered, how daemons run in it.
#
# Each of the two nodes is a machine of its own as far as the kernel can make it one: its own
# process, mount and network namespaces under one init process. So nothing of the cluster can
# collide with what the host runs (ports, iptables chains, mounts), a node dies as real ones do
# (its init is killed, and everything in it is gone at once), and nothing can be left behind.
#
#   host ──callplane77-1── machine 1: 10.77.0.1, pods 10.78.1.0/24 (control plane and first node)
#    10.77.0.254                 │
#     └──callplane77-2── machine 2: 10.77.0.2, pods 10.78.2.0/24 (second node)
#
# Services are 10.79.0.0/16. The host reaches all three ranges, and pods reach the host. A second
# cluster can run beside the first with CALLPLANE_STATE and CALLPLANE_NET (say, 87) of its own.

set -euo pipefail

CLUSTER_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
REPO_DIR=$(cd "$CLUSTER_DIR/../.." && pwd)
STATE=${CALLPLANE_STATE:-/var/lib/callplane-e2e}
CACHE=${CALLPLANE_CACHE:-$HOME/.cache/callplane}
BIN=$CACHE/bin
export KUBECONFIG_FILE=$STATE/kubeconfig

KUBERNETES_VERSION=v1.35.4
HELM_VERSION=v4.3.1
CARGO_DENY_VERSION=0.20.2
GO_MINIMUM=1.26
NODE_MINIMUM=20
# What the cluster takes on disk, and what the caches do: when they are empty, and for one run more. Measured: 2, 15.
STATE_GB=3
CACHE_GB=18
CACHE_MORE_GB=5
# Raise it when a change here makes a running cluster unfit for reuse.
CLUSTER_REVISION=1

MACHINES=(1 2)
NET=${CALLPLANE_NET:-77}
HOST_IP=10.$NET.0.254
POD_CIDR=10.$((NET + 1)).0.0/16
SERVICE_CIDR=10.$((NET + 2)).0.0/16
DNS_IP=10.$((NET + 2)).0.10

node_name() { echo "callplane-$1"; }
node_ip() { echo "10.$NET.0.$1"; }
pod_cidr() { echo "10.$((NET + 1)).$1.0/24"; }
machine_dir() { echo "$STATE/machines/$1"; }
# What the host sees of machine N: a link and a cgroup.
machine_link() { echo "callplane$NET-$1"; }
machine_cgroup() { echo "callplane-$NET-$1"; }

# What container software keeps at fixed paths. Each machine has its own, mounted there. A folder
# that the host lacks is made, and marked.
MOUNTPOINTS=(/var/lib/kubelet /var/lib/cni /var/log/pods /var/log/containers)
MARK=.made-by-callplane
# The kubelet sets these, and they are not a namespace's own: down.sh puts them back.
KERNEL_SETTINGS=(vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys
  kernel.keys.root_maxbytes)

# Progress: one line a step, with the seconds since the script (or the make target) began.
START=${CALLPLANE_START:-$EPOCHSECONDS}
export CALLPLANE_START=$START
say() { printf '[%4ds] %s\n' $((EPOCHSECONDS - START)) "$*"; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# A pid means something only together with the time its process began: pids are reused.
process_start() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }
process_state() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d" " -f1; }

# Prints the host's pid of machine N's init, or fails if the machine is not running.
machine_init() {
  local file pid start
  file=$(machine_dir "$1")/init.pid
  [[ -s $file ]] || return 1
  read -r pid start <"$file"
  [[ $(process_start "$pid") == "$start" && $(process_state "$pid") != Z ]] || return 1
  echo "$pid"
}

# Runs a command in machine N.
on() {
  local machine=$1 init
  shift
  init=$(machine_init "$machine") || die "machine $machine is not running"
  nsenter --target "$init" --mount --net --pid -- "$@"
}

# Starts a daemon in machine N and records its command line and its pid (as seen in the machine).
# The pid file is in the machine's own /run, so it cannot outlive the machine.
start_daemon() {
  local machine=$1 name=$2 dir
  shift 2
  dir=$(machine_dir "$machine")
  mkdir -p "$dir/daemons" "$STATE/logs"
  printf '%s\0' "$@" >"$dir/daemons/$name"
  restart_daemon "$machine" "$name"
}

restart_daemon() {
  local machine=$1 name=$2 dir
  dir=$(machine_dir "$machine")
  # shellcheck disable=SC2016  # expands in the machine
  on "$machine" bash -c '
    mapfile -d "" -t command <"$1"
    setsid "${command[@]}" </dev/null >>"$2" 2>&1 &
    echo "$! $(cut -d" " -f22 "/proc/$!/stat")" >"/run/callplane/$3.pid"' \
    bash "$dir/daemons/$name" "$STATE/logs/$(node_name "$machine").$name.log" "$name" 9>&-
}

# Whether a daemon runs: its pid, if it is still the process that was started.
daemon_pid() {
  # shellcheck disable=SC2016
  on "$1" bash -c '
    read -r pid start <"/run/callplane/$1.pid" &&
      [[ $(cut -d" " -f22 "/proc/$pid/stat") == "$start" ]] && echo "$pid"' bash "$2" 2>/dev/null
}

# Stops a daemon: TERM, and KILL if it is still there after some seconds.
stop_daemon() {
  local machine=$1 name=$2 seconds=$3 pid deadline=$((EPOCHSECONDS + $3))
  pid=$(daemon_pid "$machine" "$name") || return 0
  on "$machine" kill -TERM "$pid"
  while daemon_pid "$machine" "$name" >/dev/null; do
    ((EPOCHSECONDS < deadline)) || on "$machine" kill -KILL "$pid" || true
    sleep 0.1
  done
}

kube() { "$BIN/kubectl" --kubeconfig "$KUBECONFIG_FILE" "$@"; }

# Waits until a command succeeds; on time-out says what was waited for and where to look.
wait_for() {
  local seconds=$1 what=$2 deadline
  shift 2
  deadline=$((EPOCHSECONDS + seconds))
  until "$@" >/dev/null 2>&1; do
    ((EPOCHSECONDS < deadline)) || die "$what: not within $seconds s; logs are in $STATE/logs"
    sleep 0.2
  done
}

# Only one script at a time changes the cluster. The lock is on the state's parent directory, which
# leaves no file behind. Daemons must not inherit it (9>&-).
lock() {
  mkdir -p "$(dirname "$STATE")"
  exec 9<"$(dirname "$STATE")"
  flock --wait 600 9 || die "another script has been changing the cluster for ten minutes"
}
