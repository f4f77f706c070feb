#!/usr/bin/env bash
# tools.sh [cluster|lint|unit|browser]: gets every program that running the cluster (the default), `make lint`,
# `make unit` or `make interop` needs: Debian packages, and pinned programs built into the cache. A second run finds everything
# and takes a moment. Several may run at a time: who wants what another is building waits for that one thing.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
purpose=${1:-cluster}
case $purpose in
  cluster | lint) "$CLUSTER_DIR/preflight.sh" "$purpose" ;;
  unit | browser) ;;
  *) die "usage: tools.sh [cluster|lint|unit|browser]" ;;
esac

# packages PROBE=PACKAGE...: installs the packages whose program or file is not there.
packages() {
  local missing=() pair
  for pair in "$@"; do
    [[ -e ${pair%=*} ]] || command -v "${pair%=*}" >/dev/null || missing+=("${pair#*=}")
  done
  ((${#missing[@]})) || return 0
  if [[ $EUID != 0 ]] || ! command -v apt-get >/dev/null; then
    die "these Debian packages are missing, and cannot be installed without root and apt-get: ${missing[*]}"
  fi
  say "installing Debian packages: ${missing[*]}"
  exec 8>"$CACHE/apt.lock"
  flock 8
  export DEBIAN_FRONTEND=noninteractive
  # What a package starts must not keep the lock.
  { apt-get update && apt-get install --yes --no-install-recommends "${missing[@]}"; } \
    >"$CACHE/apt.log" 2>&1 8>&- || die "apt-get failed: $(grep -m 1 '^E:' "$CACHE/apt.log") (see $CACHE/apt.log)"
  exec 8>&-
}

# cached NAME KEY ESTIMATE COMMAND...: runs the command unless it succeeded before with this key.
cached() {
  local name=$1 key=$2 estimate=$3 began=$EPOCHSECONDS
  shift 3
  exec 8>"$CACHE/stamps/$name.lock"
  flock --nonblock 8 || { say "$name $key: being built by another run" && flock 8; }
  if [[ $(cat "$CACHE/stamps/$name" 2>/dev/null) == "$key" && -x $BIN/$name ]]; then
    say "$name $key: cached"
    return 0
  fi
  say "building $name $key (cold: about $estimate on 2 cores)"
  rm -f "$CACHE/stamps/$name"
  "$@" >"$CACHE/$name.log" 2>&1 || {
    tail -n 20 "$CACHE/$name.log" >&2
    die "$name did not build (see $CACHE/$name.log)"
  }
  echo "$key" >"$CACHE/stamps/$name"
  say "built $name in $((EPOCHSECONDS - began)) s"
}

build_kube() {
  local name version=k8s.io/component-base/version minor=${KUBERNETES_VERSION#v1.}
  # `set -e` does not hold in a function of whose failure the caller speaks.
  cd "$CLUSTER_DIR/kube" &&
    go build -o "$BIN/kube.new" -ldflags "-s -w -X $version.gitVersion=$KUBERNETES_VERSION \
      -X $version.gitMajor=1 -X $version.gitMinor=${minor%%.*}" . &&
    go build -o "$BIN/pause" -ldflags '-s -w' ./pause &&
    mv "$BIN/kube.new" "$BIN/kube" || return # Not in place: it may be running.
  for name in etcd kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl; do
    ln -sf kube "$BIN/$name"
  done
}

build_coredns() {
  cd "$CLUSTER_DIR/coredns" &&
    go build -o "$BIN/coredns.new" -ldflags '-s -w' . &&
    mv "$BIN/coredns.new" "$BIN/coredns"
}

build_go() { GOBIN=$BIN go install -ldflags '-s -w' "$1"; }

# A tool that runs for seconds need not be optimised for minutes.
build_cargo() {
  CARGO_TARGET_DIR=$CACHE/target-tools CARGO_PROFILE_DEV_DEBUG=false CARGO_INCREMENTAL=0 \
    cargo install --debug --quiet --locked --root "$CACHE" "$1" || return
  rm -rf "$CACHE/target-tools"
}

mkdir -p "$BIN" "$CACHE/stamps"
# Without debugger's data, which the linker would only drop, compiling takes a sixth less.
export CGO_ENABLED=0 GOFLAGS="${GOFLAGS:-} -trimpath -buildvcs=false -gcflags=all=-dwarf=false"

if [[ $purpose == unit ]]; then
  if ! compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; then
    # Tests start servers of their own: the package is to start none.
    if [[ $EUID == 0 ]]; then
      mkdir -p /etc/postgresql-common/createcluster.d
      echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/callplane.conf
    fi
    packages initdb=postgresql
  fi
  packages redis-server=redis-server turnserver=coturn openssl=openssl
  exit 0
fi
if [[ $purpose == browser ]]; then
  # Debian's Python comes without what makes environments.
  python3 -c 'import ensurepip, venv' 2>/dev/null || packages python3-with-venv=python3-venv
  packages chromium=chromium
  exit 0
fi
if [[ $purpose == cluster ]]; then
  packages containerd=containerd runc=runc /usr/lib/cni/portmap=containernetworking-plugins \
    conntrack=conntrack iptables=iptables ip=iproute2 nsenter=util-linux pgrep=procps openssl=openssl \
    buildah=buildah mmdebstrap=mmdebstrap chromium=chromium curl=curl socat=socat \
    /usr/share/keyrings/debian-archive-keyring.gpg=debian-archive-keyring
  sources=$(cat "$CLUSTER_DIR"/kube/{go.mod,go.sum,main.go,pause/main.go} | sha256sum | cut -c1-12)
  cached kube "$KUBERNETES_VERSION-$sources" "7 min" build_kube
  sources=$(cat "$CLUSTER_DIR"/coredns/{go.mod,go.sum,main.go} | sha256sum | cut -c1-12)
  cached coredns "$sources" "2 min" build_coredns
else
  packages shellcheck=shellcheck git=git
  cached cargo-deny "$CARGO_DENY_VERSION" "2 min" build_cargo "cargo-deny@$CARGO_DENY_VERSION"
fi
cached helm "$HELM_VERSION" "4 min" build_go "helm.sh/helm/v4/cmd/helm@$HELM_VERSION"
say "tools for $purpose: in $BIN"
