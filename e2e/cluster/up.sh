#!/usr/bin/env bash
# Starts the cluster, or finds it running and healthy and leaves it alone. What is found half dead
# (a killed session, a crash) is taken down first.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$CLUSTER_DIR/pki.sh"
source "$CLUSTER_DIR/machines.sh"
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

start_apiserver() {
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
}

# Both give up when they find no API server, so they come after it. Without leader election: one
# replica each, which should outlive an API server that is away.
start_controllers() {
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
for key in "${KERNEL_SETTINGS[@]}"; do
  echo "$key=$(sysctl -n "$key")" >>"$STATE/sysctls"
done
if command -v modprobe >/dev/null; then modprobe --all --quiet overlay br_netfilter veth || true; fi
make_pki
printf 'nameserver %s\n' "$HOST_IP" >"$STATE/resolv.conf"
for machine in "${MACHINES[@]}"; do
  boot "$machine"
  connect "$machine"
done
connect_each_other
for machine in "${MACHINES[@]}"; do start_containerd "$machine"; done
start_apiserver
"$CLUSTER_DIR/images.sh" system
wait_for 120 "API server" kube get --raw /readyz
start_controllers
for machine in "${MACHINES[@]}"; do start_node "$machine"; done
sed "s/DNS_IP/$DNS_IP/" "$CLUSTER_DIR/coredns.yaml" | kube apply -f - >/dev/null
node_ready() {
  keep_kubelet "$1"
  kube wait --for=condition=Ready "node/$(node_name "$1")" --timeout=1s
}
for machine in "${MACHINES[@]}"; do wait_for 120 "node $(node_name "$machine")" node_ready "$machine"; done
kube -n kube-system rollout status deployment/coredns --timeout=120s >/dev/null ||
  die "CoreDNS did not become ready; logs are in $STATE/logs"
echo "$IDENTITY" >"$STATE/identity"
say "cluster: up, two nodes Ready (KUBECONFIG=$KUBECONFIG_FILE)"
