# shellcheck shell=bash
# How a machine is made and ended, linked to the others, and made a Kubernetes node. Sourced by
# the scripts that do so.

# Cgroup hierarchies of this machine: one with version 2, many with version 1.
hierarchies() { awk '$3 ~ /^cgroup2?$/ && $2 !~ /unified/ {print $2}' /proc/mounts; }

make_cgroup() {
  local hierarchy file
  for hierarchy in $(hierarchies); do
    mkdir -p "$hierarchy/$1"
    # Version 1: a new cpuset is empty, and no process may enter it before it is filled.
    for file in cpuset.cpus cpuset.mems; do
      [[ ! -e $hierarchy/cpuset.sched_load_balance ]] || cat "$hierarchy/$file" >"$hierarchy/$1/$file"
    done
    # Version 2: controllers are passed on by name.
    if [[ -e $hierarchy/cgroup.subtree_control ]]; then
      for controller in $(<"$hierarchy/cgroup.controllers"); do
        echo "+$controller" >"$hierarchy/cgroup.subtree_control" 2>/dev/null || true
      done
    fi
  done
}

boot() {
  local machine=$1 dir pid path
  dir=$(machine_dir "$machine")
  mkdir -p "$dir"
  rm -f "$dir/booted"
  for path in "${MOUNTPOINTS[@]}"; do
    [[ -d $path ]] || { mkdir -p "$path" && touch "$path/$MARK"; }
  done
  make_cgroup "$(machine_cgroup "$machine")"
  setsid unshare --mount --net --pid --fork --kill-child --mount-proc \
    bash "$CLUSTER_DIR/init.sh" "$dir" "${MOUNTPOINTS[@]}" </dev/null >>"$STATE/logs/$(node_name "$machine").init.log" 2>&1 9>&- &
  pid=$!
  echo "$pid $(process_start "$pid")" >"$dir/unshare.pid"
  wait_for 10 "machine $machine" test -e "$dir/booted"
  pid=$(pgrep --parent "$pid")
  echo "$pid $(process_start "$pid")" >"$dir/init.pid"
}

# A direct link from the host to each machine and between the machines: no bridge and no forwarding
# on the host, so its firewall has no say in what pods say to each other.
connect() {
  local machine=$1 init ip link
  link=$(machine_link "$machine")
  init=$(machine_init "$machine")
  ip=$(node_ip "$machine")
  ip link add "$link" type veth peer name host netns "$init"
  ip address add "$HOST_IP/32" dev "$link"
  ip link set "$link" up
  on "$machine" ip address add "$ip/32" dev host
  on "$machine" ip link set host up
  on "$machine" ip route add "$HOST_IP" dev host
  on "$machine" ip route add default via "$HOST_IP" dev host src "$ip"
  ip route add "$ip" dev "$link" src "$HOST_IP"
  ip route add "$(pod_cidr "$machine")" via "$ip" dev "$link" src "$HOST_IP"
  [[ $machine != 1 ]] || ip route add "$SERVICE_CIDR" via "$ip" dev "$link" src "$HOST_IP"
}

# Services need no route between machines: each has its own kube-proxy.
connect_each_other() {
  on 1 ip link delete node2 2>/dev/null || true
  ip link add node2 netns "$(machine_init 1)" type veth peer name node1 netns "$(machine_init 2)"
  local machine other
  for machine in 1 2; do
    other=$((3 - machine))
    on "$machine" ip link set "node$other" up
    on "$machine" ip route add "$(node_ip "$other")" dev "node$other" src "$(node_ip "$machine")"
    on "$machine" ip route add "$(pod_cidr "$other")" via "$(node_ip "$other")" dev "node$other" \
      onlink src "$(node_ip "$machine")"
  done
}

start_containerd() {
  local machine=$1 dir
  dir=$(machine_dir "$machine")
  mkdir -p "$dir/cni"
  cat >"$dir/cni/10-callplane.conflist" <<END
{
  "cniVersion": "1.0.0",
  "name": "callplane",
  "plugins": [
    {
      "type": "bridge", "bridge": "pods", "isDefaultGateway": true, "hairpinMode": true,
      "ipam": {"type": "host-local", "ranges": [[{"subnet": "$(pod_cidr "$machine")"}]]}
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
END
  # restrict_oom_score_adj: without CAP_SYS_RESOURCE (in a container, say) no sandbox starts otherwise.
  cat >"$dir/containerd.toml" <<END
version = 2
root = "$dir/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.tracing"]
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "localhost/callplane/pause:dev"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "$dir/cni"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
END
  start_daemon "$machine" containerd containerd --config "$dir/containerd.toml"
}

start_node() {
  local machine=$1 dir name ip
  dir=$(machine_dir "$machine")
  name=$(node_name "$machine")
  ip=$(node_ip "$machine")
  cat >"$dir/kubelet.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {x509: {clientCAFile: $STATE/pki/ca.crt}}
cgroupDriver: cgroupfs
cgroupRoot: /$(machine_cgroup "$machine")
failCgroupV1: false
failSwapOn: false
clusterDomain: cluster.local
clusterDNS: [$DNS_IP]
resolvConf: $STATE/resolv.conf
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
oomScoreAdj: 0
maxPods: 200
# A Secret that changed is in the pods within it, and not after a minute.
syncFrequency: 10s
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, nodefs.inodesFree: 1%, imagefs.available: 1%}
END
  start_daemon "$machine" kubelet "$BIN/kubelet" --config "$dir/kubelet.yaml" \
    --kubeconfig "$STATE/pki/$name.kubeconfig" --hostname-override "$name" --node-ip "$ip" \
    --node-labels "topology.kubernetes.io/region=local,topology.kubernetes.io/zone=local-$machine"
  start_daemon "$machine" kube-proxy "$BIN/kube-proxy" --kubeconfig "$STATE/pki/kube-proxy.kubeconfig" \
    --hostname-override "$name" --proxy-mode iptables --cluster-cidr "$POD_CIDR" --oom-score-adj 0 \
    --conntrack-max-per-core 0 --conntrack-tcp-timeout-established 0 --conntrack-tcp-timeout-close-wait 0
}

# As systemd would: the kubelet ends when it comes before containerd has read its disk.
keep_kubelet() { daemon_pid "$1" kubelet >/dev/null || restart_daemon "$1" kubelet; }

# Removes the cgroups of machine N in every hierarchy, the deepest first.
remove_cgroups() {
  local hierarchy directory tries cgroup
  cgroup=$(machine_cgroup "$1")
  # shellcheck disable=SC2013  # mount points of cgroups have no blanks
  for hierarchy in $(awk '$3 ~ /^cgroup2?$/ {print $2}' /proc/mounts); do
    [[ -d $hierarchy/$cgroup ]] || continue
    for tries in {1..50}; do
      while read -r directory; do rmdir "$directory" 2>/dev/null || true; done \
        < <(find "$hierarchy/$cgroup" -depth -type d 2>/dev/null)
      [[ -d $hierarchy/$cgroup ]] || break
      ((tries < 50)) || die "processes are left in $hierarchy/$cgroup"
      sleep 0.1
    done
  done
}

# Ends what there is of machine N. Its init takes every process, mount, link and firewall rule in
# the machine's namespaces with it.
end_machine() {
  local file pid start
  for file in "$(machine_dir "$1")"/{unshare,init}.pid; do
    [[ -s $file ]] || continue
    read -r pid start <"$file"
    [[ $(process_start "$pid") == "$start" ]] || continue
    kill -KILL "$pid" 2>/dev/null || true
    while [[ $(process_start "$pid") == "$start" && $(process_state "$pid") != Z ]]; do sleep 0.05; done
  done
  remove_cgroups "$1"
  # The kernel frees the network namespace, and the link with it, a little later.
  ip link delete "$(machine_link "$1")" 2>/dev/null || true
}
