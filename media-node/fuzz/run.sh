#!/usr/bin/env bash
# run.sh SECONDS [TARGET...]: runs libFuzzer on each target (default: all) for that long and prints how many inputs
# were tried. Interesting inputs are kept in the cache and are where the next run begins.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
seconds=${1:?usage: run.sh SECONDS [TARGET...]}
shift
[[ $seconds =~ ^[1-9][0-9]*$ ]] || { echo "seconds must be a positive number, not '$seconds'" >&2; exit 2; }
cache=${CALLPLANE_CACHE:-$HOME/.cache/callplane}/fuzz

# Optimised a little, with the overflow checks of a debug build.
export RUSTC_WORKSPACE_WRAPPER=$here/rustc.sh CARGO_PROFILE_DEV_OPT_LEVEL=1
fuzzer=$(cargo build --quiet --locked -p callplane-fuzz --message-format=json |
  sed -n 's/.*"executable":"\([^"]*callplane-fuzz\)".*/\1/p')
[[ -x $fuzzer ]] || { echo "the fuzzer did not build" >&2; exit 1; }

targets=("$@")
((${#targets[@]})) || mapfile -t targets < <(cd "$here/seeds" && printf '%s\n' *)
for target in "${targets[@]}"; do
  [[ -d $here/seeds/$target ]] || { echo "no target '$target': there are $(cd "$here/seeds" && echo *)" >&2; exit 2; }
done

# fuzz TARGET: -timeout, because an input that takes this long is a finding, too.
fuzz() {
  local target=$1 log=$cache/$1.log tried paths
  mkdir -p "$cache/$target"
  if ! FUZZ_TARGET=$target "$fuzzer" -max_total_time="$seconds" -max_len=4096 -len_control=0 -timeout=20 \
    -rss_limit_mb=1024 -print_final_stats=1 -artifact_prefix="$cache/$target-" \
    "$cache/$target" "$here/seeds/$target" >"$log" 2>&1; then
    grep -m 3 -E 'panicked|^[a-z].*(assertion|index out|attempt to)|ERROR' "$log" >&2 || tail -n 5 "$log" >&2
    echo "fuzz: $target failed; the input is $(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1), all it said is in $log" >&2
    echo "again: FUZZ_TARGET=$target $fuzzer FILE" >&2
    return 1
  fi
  tried=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  paths=$(sed -n 's/.*DONE *cov: \([0-9]*\).*/\1/p' "$log" | tail -n 1)
  printf 'fuzz: %-11s %9d inputs in %d s, %s edges, nothing found\n' "$target" "$tried" "$seconds" "$paths"
}
export -f fuzz
export here seconds cache fuzzer
# One on each core.
# shellcheck disable=SC2016  # expands in the shell that is started
printf '%s\0' "${targets[@]}" | xargs --null --max-args=1 --max-procs="$(nproc)" bash -euo pipefail -c 'fuzz "$1"' bash
