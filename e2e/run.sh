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

# The chart's own test, as people run it on theirs. What it said stays in the log of its pod.
if [[ "helm test" == *"${1:-}"* ]]; then
  echo "running helm test"
  helm test callplane --namespace callplane-system --timeout 180s >/dev/null || {
    echo "helm test failed: this installation carries no call" >&2
    status=1
  }
  kubectl --namespace callplane-system logs callplane-test || true
fi

for test in "${tests[@]}"; do
  echo "running ${test##*/}"
  CARGO_MANIFEST_DIR=$PWD "$test" --test-threads=1 --nocapture "$@" || status=1
done
exit "$status"
