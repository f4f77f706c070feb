#!/usr/bin/env bash
# images.sh [project|demo|tests|system|bases]: builds the images and gives them to both machines' containerd. What is
# the same as last time is neither built nor imported again. `system` is what the cluster itself
# needs (pause, CoreDNS); `project` (the default) is the operator, the media node, the gateway, Redis, coturn and
# PostgreSQL; `demo` the same without PostgreSQL, which the demo does not use; `tests` the same around the programs that
# the other tests ran, with debug assertions. `bases` is what all these are built on, which needs no cluster.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=overlay
CONTEXTS=$CACHE/images
mkdir -p "$CONTEXTS"
buildah_() { buildah --root "$CACHE/buildah" --runroot "$CACHE/buildah-run" "$@"; }

# image NAME CONTAINERFILE FILE... [-- BUILD_ARGUMENT...]: an image whose context is the given files and directories.
image() {
  local name=$1 containerfile=$2 key reference=localhost/callplane/$1:dev files=()
  shift 2
  while (($#)) && [[ $1 != -- ]]; do
    files+=("$1")
    shift
  done
  [[ ${1:-} != -- ]] || shift
  key=$({
    cat "$containerfile"
    [[ ${#files[@]} == 0 ]] || find "${files[@]}" -type f -print0 | sort -z | xargs -0 cat
    echo "$@"
  } | sha256sum | cut -c1-16)
  local archive=$CONTEXTS/$name-$key.tar
  if [[ ! -e $archive ]]; then
    say "building image $reference"
    rm -rf "${CONTEXTS:?}/$name" "$CONTEXTS/$name"-*.tar*
    mkdir "$CONTEXTS/$name"
    ((!${#files[@]})) || cp -r "${files[@]}" "$CONTEXTS/$name/"
    {
      buildah_ bud --pull=false --layers=false --file "$containerfile" --tag "$reference" "$@" "$CONTEXTS/$name" &&
        buildah_ push "$reference" "docker-archive:$archive.new:$reference"
    } >"$CACHE/$name-image.log" 2>&1 || die "image $reference did not build (see $CACHE/$name-image.log)"
    buildah_ rmi --prune >/dev/null 2>&1 || true
    mv "$archive.new" "$archive"
    rm -rf "${CONTEXTS:?}/$name"
  else
    say "image $reference: cached"
  fi
  local machine
  for machine in "${MACHINES[@]}"; do
    import "$machine" "$name" "$key" "$archive" &
    imports+=($!)
  done
}

# The machines take images in while the next are built.
imports=()
imported() {
  local import
  for import in "${imports[@]}"; do wait "$import"; done
}

# Gives machine N the image, unless it has been given this very one.
import() {
  local machine=$1 name=$2 key=$3 archive=$4 imported
  imported=$(machine_dir "$machine")/images/$name
  [[ $(cat "$imported" 2>/dev/null) != "$key" ]] || return 0
  wait_for 20 "containerd of machine $machine" on "$machine" ctr version
  on "$machine" ctr --namespace k8s.io images import - <"$archive" >/dev/null
  mkdir -p "${imported%/*}"
  echo "$key" >"$imported"
  say "imported image $name into $(node_name "$machine")"
}

# base TAG PACKAGE... [-- DPKG_OPTION...]: a base of the project's images: as much of Debian as a dynamically linked program needs (and a
# shell, for the Containerfiles), and these packages, from Debian's archive, since no registry need be reachable.
BASE=localhost/callplane/base
base() {
  local reference=$BASE:$1 context=$CONTEXTS/base packages names=(base-files libc6 libgcc-s1 dash) options=() option
  shift
  while (($#)) && [[ $1 != -- ]]; do
    names+=("$1")
    shift
  done
  for option in "${@:2}"; do options+=(--dpkgopt="$option"); done
  buildah_ inspect --type image "$reference" >/dev/null 2>&1 && return 0
  say "building image $reference (about 10 s)"
  packages=$(IFS=,; echo "${names[*]}")
  rm -rf "$context"
  mkdir "$context"
  printf 'FROM scratch\nADD base.tar /\n' >"$context/Containerfile"
  # shellcheck disable=SC2016  # $1 is mmdebstrap's
  {
    mmdebstrap --mode=root --format=tar --variant=extract --include="$packages" \
      --dpkgopt='path-exclude=/usr/share/*' "${options[@]}" --customize-hook='ln -sf dash "$1/bin/sh"' \
      bookworm "$context/base.tar" &&
      buildah_ bud --tag "$reference" "$context"
  } >"$CACHE/base-image.log" 2>&1 || die "image $reference did not build (see $CACHE/base-image.log)"
  rm -rf "$context"
}

project() {
  local target=${CARGO_TARGET_DIR:-$CACHE/target} programs=$CONTEXTS/programs name
  mkdir -p "$programs"
  if [[ $1 == tests ]]; then
    # What the other tests ran already: a second build, for release, would take longer than all scenarios.
    make --no-print-directory --silent -C "$REPO_DIR" programs CARGO_TARGET_DIR="$target"
    target=$target/debug
  else
    say "building the operator, the media node and the gateway (cold: about 10 min on 2 cores)"
    (cd "$REPO_DIR" && CARGO_TARGET_DIR=$target cargo build --release --locked --quiet \
      -p callplane-operator -p callplane-media-node -p callplane-gateway)
    target=$target/release
  fi
  lock_images
  for name in operator media-node gateway; do
    strip --strip-debug -o "$programs/callplane-$name" "$target/callplane-$name"
  done
  bases "$1"
  for name in operator media-node; do
    image "$name" "$REPO_DIR/images/$name.Containerfile" "$programs/callplane-$name" -- \
      --build-arg "BASE=$BASE:bookworm" --build-arg "BUILDER=$BASE:bookworm"
  done
  web_app
  image gateway "$REPO_DIR/images/gateway.Containerfile" "$programs/callplane-gateway" "$CONTEXTS/web-app/clients" -- \
    --build-arg "BASE=$BASE:bookworm" --build-arg "BUILDER=$BASE:bookworm" --build-arg "NODE=$BASE:bookworm"
  local programs_of_debian=(redis coturn)
  [[ $1 == demo ]] || programs_of_debian+=(postgresql)
  for name in "${programs_of_debian[@]}"; do
    image "$name" "$REPO_DIR/images/$name.Containerfile" -- --build-arg "BASE=$BASE:$name"
  done
  imported
  tag_project
}

bases() {
  base bookworm
  base redis redis-server coreutils
  base coturn coturn libcap2-bin coreutils sed
  # It reads some of its share, and the time zones. The compiler for its queries is left out: the image switches it off.
  [[ ${1:-} == demo ]] || base postgresql postgresql-15 coreutils -- 'path-include=/usr/share/postgresql/*' \
    'path-include=/usr/share/zoneinfo/*' 'path-exclude=/usr/lib/*/libLLVM*' 'path-exclude=/usr/lib/llvm*' \
    'path-exclude=/usr/lib/postgresql/*/lib/bitcode/*'
}

# The web app, where the gateway's Containerfile looks for it.
web_app() {
  make --no-print-directory --silent -C "$REPO_DIR" web >"$CACHE/web-app.log" 2>&1 ||
    die "the web app did not build (see $CACHE/web-app.log)"
  rm -rf "$CONTEXTS/web-app"
  mkdir -p "$CONTEXTS/web-app/clients/web"
  cp -r "$REPO_DIR/clients/web/dist" "$CONTEXTS/web-app/clients/web/"
}

# A tag that changes with what the images hold, so that an upgrade is an upgrade: the same tag again
# would leave the old pods alone.
tag_project() {
  local machine name tag folder names=(operator media-node gateway redis coturn)
  folder=$(machine_dir 1)/images
  [[ ! -e $folder/postgresql ]] || names+=(postgresql)
  tag=dev-$(cd "$folder" && cat "${names[@]}" | sha256sum | cut -c1-8)
  [[ $(cat "$STATE/tag" 2>/dev/null) != "$tag" ]] || return 0
  for machine in "${MACHINES[@]}"; do
    for name in "${names[@]}"; do
      on "$machine" ctr --namespace k8s.io images tag --force \
        "localhost/callplane/$name:dev" "localhost/callplane/$name:$tag" >/dev/null
    done
  done
  echo "$tag" >"$STATE/tag"
}

# One at a time, but not while cargo builds: up.sh needs the cluster's own images, and soon.
lock_images() {
  exec 7<"$CONTEXTS"
  flock 7
}

case ${1:-project} in
  project | demo | tests) project "${1:-project}" ;;
  system)
    lock_images
    image pause "$REPO_DIR/images/pause.Containerfile" "$BIN/pause"
    image coredns "$REPO_DIR/images/coredns.Containerfile" "$BIN/coredns"
    imported
    ;;
  bases)
    lock_images
    bases
    ;;
  *) die "usage: images.sh [project|demo|tests|system|bases]" ;;
esac
