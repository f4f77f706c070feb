#!/usr/bin/env bash
# Starts the cluster, or finds it running and healthy and leaves it alone. What is found half dead
# (a killed session, a crash) is taken down first.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$CLUSTER_DIR/pki.sh"
"$CLUSTER_DIR/preflight.sh"
lock

# Anything in here that changes asks for a new cluster.
IDENTITY=$CLUSTER_REVISION-$({ cat "$CACHE"/stamps/{kube,coredns} || true; } 2>/dev/null | sha256sum | cut -c1-12)

healthy() {
  local machine
  [[ $(cat "$STATE/identity" 2>/dev/null) == "$IDENTITY" ]] || return 1
  for machine in "${MACHINES[@]}"; do machine_init "$machine" >/dev/null || return 1; done
  [[ $(kube get --raw /readyz --request-timeout=5s 2>/dev/null) == ok ]] || return 1
  kube wait --for=condition=Ready node --all --timeout=20s >/dev/null 2>&1 || return 1
  kube -n kube-system rollout status deployment/coredns --timeout=20s >/dev/null 2>&1
}

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
  for path in /var/lib/kubelet /var/lib/cni /var/log/pods /var/log/containers; do
    [[ -d $path ]] || { mkdir -p "$path" && echo "$path" >>"$STATE/mountpoints"; }
  done
  make_cgroup "$(node_name "$machine")"
  setsid unshare --mount --net --pid --fork --kill-child --mount-proc \
    bash "$CLUSTER_DIR/init.sh" "$dir" </dev/null >>"$STATE/logs/$(node_name "$machine").init.log" 2>&1 9>&- &
  pid=$!
  echo "$pid $(process_start "$pid")" >"$dir/unshare.pid"
  wait_for 10 "machine $machine" test -e "$dir/booted"
  pid=$(pgrep --parent "$pid")
  echo "$pid $(process_start "$pid")" >"$dir/init.pid"
}

# A direct link from the host to each machine and between the machines: no bridge and no forwarding
# on the host, so its firewall has no say in what pods say to each other.
connect() {
  local machine=$1 init ip link=callplane$1
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
  printf 'nameserver %s\n' "$HOST_IP" >"$STATE/resolv.conf"
  cat >"$dir/kubelet.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {x509: {clientCAFile: $PKI/ca.crt}}
cgroupDriver: cgroupfs
cgroupRoot: /$name
failCgroupV1: false
failSwapOn: false
clusterDomain: cluster.local
clusterDNS: [$DNS_IP]
resolvConf: $STATE/resolv.conf
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
oomScoreAdj: 0
maxPods: 200
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, nodefs.inodesFree: 1%, imagefs.available: 1%}
END
  start_daemon "$machine" kubelet "$BIN/kubelet" --config "$dir/kubelet.yaml" \
    --kubeconfig "$PKI/$name.kubeconfig" --hostname-override "$name" --node-ip "$ip" \
    --node-labels "topology.kubernetes.io/region=local,topology.kubernetes.io/zone=local-$machine"
  start_daemon "$machine" kube-proxy "$BIN/kube-proxy" --kubeconfig "$PKI/kube-proxy.kubeconfig" \
    --hostname-override "$name" --proxy-mode iptables --cluster-cidr "$POD_CIDR" --oom-score-adj 0 \
    --conntrack-max-per-core 0 --conntrack-tcp-timeout-established 0 --conntrack-tcp-timeout-close-wait 0
}

start_control_plane() {
  local ip
  ip=$(node_ip 1)
  # The data is as short-lived as the cluster: no fsync.
  start_daemon 1 etcd "$BIN/etcd" --data-dir "$STATE/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380
  start_daemon 1 kube-apiserver "$BIN/kube-apiserver" --advertise-address "$ip" \
    --etcd-servers http://127.0.0.1:2379 --service-cluster-ip-range "$SERVICE_CIDR" \
    --client-ca-file "$PKI/ca.crt" \
    --tls-cert-file "$PKI/kube-apiserver.crt" --tls-private-key-file "$PKI/kube-apiserver.key" \
    --kubelet-client-certificate "$PKI/kubelet-client.crt" --kubelet-client-key "$PKI/kubelet-client.key" \
    --kubelet-preferred-address-types InternalIP \
    --service-account-issuer https://kubernetes.default.svc.cluster.local \
    --service-account-key-file "$PKI/service-accounts.pub" \
    --service-account-signing-key-file "$PKI/service-accounts.key" \
    --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction --allow-privileged
  # Without leader election: one replica each, which should outlive an API server that is away.
  start_daemon 1 kube-controller-manager "$BIN/kube-controller-manager" --leader-elect=false \
    --kubeconfig "$PKI/kube-controller-manager.kubeconfig" --use-service-account-credentials \
    --service-account-private-key-file "$PKI/service-accounts.key" --root-ca-file "$PKI/ca.crt"
  start_daemon 1 kube-scheduler "$BIN/kube-scheduler" --leader-elect=false \
    --kubeconfig "$PKI/kube-scheduler.kubeconfig"
}

if healthy; then
  say "cluster: already up (KUBECONFIG=$KUBECONFIG_FILE)"
  exit 0
fi
[[ -x $BIN/kube && -x $BIN/coredns ]] || die "the cluster's programs are not built yet: run $CLUSTER_DIR/tools.sh"
if [[ -e $STATE ]]; then
  say "cluster: taking down what is left of an earlier one"
  CALLPLANE_LOCKED=yes "$CLUSTER_DIR/down.sh" >/dev/null
fi

say "cluster: starting two machines"
mkdir -p "$STATE/logs"
for key in vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys kernel.keys.root_maxbytes; do
  # The kubelet sets these, and they are not a namespace's own: down.sh puts them back.
  echo "$key=$(sysctl -n "$key")" >>"$STATE/sysctls"
done
make_pki
for machine in "${MACHINES[@]}"; do
  boot "$machine"
  connect "$machine"
done
connect_each_other
for machine in "${MACHINES[@]}"; do start_containerd "$machine"; done
start_control_plane
"$CLUSTER_DIR/images.sh" system
wait_for 60 "API server" kube get --raw /readyz
for machine in "${MACHINES[@]}"; do start_node "$machine"; done
kube apply -f "$CLUSTER_DIR/coredns.yaml" >/dev/null
for machine in "${MACHINES[@]}"; do
  wait_for 60 "node $(node_name "$machine")" kube wait --for=condition=Ready "node/$(node_name "$machine")" --timeout=1s
done
kube -n kube-system rollout status deployment/coredns --timeout=60s >/dev/null ||
  die "CoreDNS did not become ready; logs are in $STATE/logs"
echo "$IDENTITY" >"$STATE/identity"
say "cluster: up, two nodes Ready (KUBECONFIG=$KUBECONFIG_FILE)"
