#!/usr/bin/env bash
# run.sh [NAME]: runs the tests that need a cluster and `helm test`, or those whose name contains NAME, one after the other.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# `cargo test` of these alone would select, and compile, the dependencies anew (see the Makefile).
read -ra selection <<<"${WORKSPACE:?is set by the Makefile}"
mapfile -t tests < <(cargo build "${selection[@]}" --bins --tests --quiet --message-format=json |
  sed -n 's#.*"manifest_path":"[^"]*/e2e/Cargo.toml".*"executable":"\([^"]*\)".*#\1#p' | sort)
((${#tests[@]} == 3)) || { echo "the tests did not build: ${tests[*]:-none}" >&2; exit 1; }
status=0
wanted=${1:-}

# The chart's own test, as people run it on theirs. What it said stays in the log of its pod.
if [[ "helm test" == *"$wanted"* ]]; then
  echo "running helm test"
  helm test callplane --namespace callplane-system --timeout 180s >/dev/null || {
    echo "helm test failed: this installation carries no call" >&2
    status=1
  }
  kubectl --namespace callplane-system logs callplane-test || true
fi

# group PROGRAM PREFIX OPTION...: runs those of a program's tests whose names begin and go on as they should.
group() {
  local program=$1 prefix=$2 names
  mapfile -t names < <("$program" --list | sed -n "s/^\($prefix.*\): test\$/\1/p" | grep --fixed-strings -- "$wanted")
  ((${#names[@]})) || return 0
  found=$((found + ${#names[@]}))
  echo "running ${#names[@]} tests of ${program##*/}, ${prefix:-all}"
  "$program" --exact "${@:3}" "${names[@]}" || status=1
}

found=0
for test in "${tests[@]}"; do
  case ${test##*/} in
    scenarios-*)
      # What one says between the lines of another is nothing to read: it comes at the end.
      group "$test" side_by_side:: --test-threads=8 --show-output
      group "$test" alone:: --test-threads=1 --nocapture
      ;;
    *) group "$test" '' --test-threads=1 --nocapture ;;
  esac
done
((found)) || [[ "helm test" == *"$wanted"* ]] || { echo "no test's name contains '$wanted'" >&2; status=1; }
exit "$status"
