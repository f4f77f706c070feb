#!/usr/bin/env bash
# preflight.sh [cluster|lint]: says in one line what this machine lacks, before anything is built or
# changed. What can be installed, tools.sh installs; this is about what cannot.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# at_least WANTED FOUND: whether that version is no older.
at_least() { printf '%s\n' "$1" "$2" | sort --version-sort --check=quiet; }

command -v cargo >/dev/null || die "Rust is missing: install rustup (https://rustup.rs), then run this again"
# rustup gets the version that rust-toolchain.toml names; without it, what is there has to do.
if ! command -v rustup >/dev/null; then
  wanted=$(sed -n 's/^channel = "\(.*\)"/\1/p' "$REPO_DIR/rust-toolchain.toml")
  cargo=$(cargo --version | cut --delimiter=' ' --fields=2)
  at_least "$wanted" "$cargo" ||
    die "Rust $cargo is too old: install rustup (https://rustup.rs), which gets $wanted, then run this again"
fi
command -v go >/dev/null || die "Go is missing: install Go $GO_MINIMUM or later (https://go.dev/dl), then run this again"
go=$(go env GOVERSION)
at_least "go$GO_MINIMUM" "$go" ||
  die "$go is too old: install Go $GO_MINIMUM or later (https://go.dev/dl), then run this again"
type node npm >/dev/null 2>&1 ||
  die "Node.js is missing: install Node.js $NODE_MINIMUM or later with npm (https://nodejs.org), then run this again"
node=$(node --version)
at_least "v$NODE_MINIMUM" "$node" ||
  die "Node.js $node is too old: install Node.js $NODE_MINIMUM or later (https://nodejs.org), then run this again"

command -v cc >/dev/null || die "a C compiler is missing: apt-get install build-essential, then run this again"

[[ ${1:-cluster} == cluster ]] || exit 0

[[ $(uname -s) == Linux ]] || die "the cluster runs on Linux; this is $(uname -s)"
case $(uname -m) in
  x86_64 | aarch64) ;;
  *) die "the cluster runs on x86_64 and aarch64; this is $(uname -m)" ;;
esac
[[ $EUID == 0 ]] || die "the cluster needs root (namespaces, mounts, containerd): run this as root, or use CLUSTER=kind"

# Builds need most of it, once.
mkdir -p "$STATE" "$CACHE"
needed=$CACHE_GB
[[ ! -d $CACHE/target ]] || needed=$CACHE_MORE_GB
declare -A gigabytes=()
for pair in "$STATE=$STATE_GB" "$CACHE=$needed"; do
  mount=$(df --output=target "${pair%=*}" | tail -n 1)
  gigabytes[$mount]=$((${gigabytes[$mount]:-0} + ${pair#*=}))
done
rmdir --ignore-fail-on-non-empty "$STATE" "$CACHE"
for mount in "${!gigabytes[@]}"; do
  free=$(df --output=avail --block-size=1G "$mount" | tail -n 1)
  ((free >= ${gigabytes[$mount]})) ||
    die "${gigabytes[$mount]} GB are needed in $mount, and $((free)) are free: make room, or set CALLPLANE_STATE and CALLPLANE_CACHE"
done

# The addresses must not be somebody else's, where there is a tool to ask. (Ports cannot be: the machines have their own.)
command -v ip >/dev/null || exit 0
for machine in "${MACHINES[@]}"; do
  if machine_init "$machine" >/dev/null; then exit 0; fi
done
for range in "10.$NET.0.0/24" "$POD_CIDR" "$SERVICE_CIDR"; do
  for tries in {1..50}; do
    taken=$(ip -oneline route show root "$range")
    # The kernel takes a moment to remove the links of a machine that was just killed.
    [[ $taken == *" dev callplane"* && $tries -lt 50 ]] || break
    sleep 0.1
  done
  [[ -z $taken ]] || die "the cluster's addresses $range are taken on this machine: ${taken%%$'\n'*}"
done
