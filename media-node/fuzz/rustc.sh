#!/bin/sh
# Cargo's RUSTC_WORKSPACE_WRAPPER: the project's own crates are built so that libFuzzer sees which paths an
# input took. What they depend on is not rebuilt. The flags are those of cargo-fuzz, which wants nightly.
exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
  -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing
