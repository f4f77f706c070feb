# shellcheck shell=bash disable=SC2034
# What the peers' build scripts share. Nothing is installed on the system: Debian packages are unpacked
# into the cache, and run with a library path.

set -euo pipefail
PEERS_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${CALLPLANE_CACHE:-$HOME/.cache/callplane}
PEERS=$CACHE/peers

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

need() {
  local program
  for program in "$@"; do
    command -v "$program" >/dev/null || die "$program is needed"
  done
}

# unpack FOLDER PACKAGE...: Debian packages, at the version this Debian has, into a folder.
unpack() {
  local folder=$1 package
  shift
  need apt-get dpkg
  mkdir -p "$folder/packages"
  (cd "$folder/packages" && apt-get download "$@" 2>&1)
  for package in "$folder"/packages/*.deb; do
    dpkg -x "$package" "$folder"
  done
  rm -r "$folder/packages"
}

# unpack_source FOLDER SOURCE VERSION: the original source of a Debian package, from the mirror in use.
unpack_source() {
  local folder=$1 apt=$1/apt mirror
  need apt-get apt-cache
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
  mirror=$(apt-cache policy "$2-dev" | awk '$2 ~ /^http/ {sub("/", " ", $3); print $2, $3; exit}')
  echo "deb-src $mirror" >"$apt/sources.list"
  local options=(-o "Dir::Etc::sourcelist=$PWD/$apt/sources.list" -o Dir::Etc::sourceparts=-
    -o "Dir::State::lists=$PWD/$apt/lists" -o "Dir::Cache=$PWD/$apt/cache")
  apt-get "${options[@]}" update
  (cd "$apt" && apt-get "${options[@]}" source --download-only "$2")
  tar --extract --file "$apt/$2_$3.orig.tar.gz" --directory "$folder" --strip-components 1
  rm -r "$apt"
}
