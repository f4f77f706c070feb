#!/usr/bin/env bash
# Everything that can be found wrong without running a test. Stops at the first finding.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
export PATH=$BIN:$PATH
cd "$REPO_DIR"

say "rustfmt"
cargo fmt --all --check
say "clippy"
cargo clippy --workspace --all-targets --locked --quiet -- -D warnings

# The generated files come from these. Meanwhile helm gets built.
say "programs"
make --no-print-directory programs >/dev/null
"$CLUSTER_DIR/tools.sh" lint
say "cargo deny"
if timeout 60 cargo deny --log-level off fetch db >/dev/null 2>&1; then
  cargo deny --log-level error check
else
  say "the advisory database cannot be fetched from here: advisories are NOT checked, the rest is"
  cargo deny --log-level error check bans licenses sources
fi

say "shellcheck"
mapfile -t scripts < <(git ls-files '*.sh' .ci/run)
shellcheck --external-sources "${scripts[@]}"

say "go vet"
(cd "$CLUSTER_DIR/kube" && go vet ./pause && test -z "$(gofmt -l . ../coredns)")

say "browser code"
(cd e2e/browser && npm run --silent lint)
(cd clients/js && npm run --silent lint)
(cd clients/web && npm run --silent lint)

say "helm lint"
helm lint --quiet --strict charts/callplane

# Generated files: generating them again must change nothing.
say "generated files"
generated=(crds manifests charts/callplane docs/openapi.json)
before=$(git status --porcelain -- "${generated[@]}" && git diff -- "${generated[@]}" | sha256sum)
make --no-print-directory crds manifests openapi >/dev/null
after=$(git status --porcelain -- "${generated[@]}" && git diff -- "${generated[@]}" | sha256sum)
if [[ $before != "$after" ]]; then
  git --no-pager diff --stat -- "${generated[@]}"
  die "generated files are out of date: run \`make crds manifests openapi\` and commit what it changes"
fi
say "lint: nothing found"
