#!/usr/bin/env bash
# test.sh: everything about the chart that can be told without a cluster. UPDATE=1 rewrites the golden files.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PATH=${CALLPLANE_CACHE:-$HOME/.cache/callplane}/bin:$PATH
chart=$root/charts/callplane
cases=$chart/tests/cases
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
passed=0 failed=0

command -v helm >/dev/null || { echo "charts/test.sh needs helm" >&2; exit 2; }

# check NAME COMMAND...: one test; what the command says is shown only when it fails.
check() {
  local name=$1
  shift
  if "$@" >"$scratch/output" 2>&1; then
    passed=$((passed + 1))
    echo "ok      $name"
  else
    failed=$((failed + 1))
    echo "FAILED  $name"
    sed 's/^/        /' "$scratch/output"
  fi
}

render() { helm template callplane "$chart" --namespace calls "$@"; }

golden() {
  local file=$cases/$1.golden.yaml
  render --values "$cases/$1.values.yaml" >"$scratch/rendered" || return
  [[ -z ${UPDATE:-} ]] || cp "$scratch/rendered" "$file"
  diff -u "$file" "$scratch/rendered" || { echo "if that is meant: UPDATE=1 charts/test.sh"; return 1; }
}

# refused WORD ARGUMENT...: rendering fails, and the message says WORD.
refused() {
  local word=$1
  shift
  if render "$@" >"$scratch/rendered" 2>"$scratch/refusal"; then
    echo "was accepted"
    return 1
  fi
  grep --fixed-strings -- "$word" "$scratch/refusal" || {
    echo "the message does not say: $word"
    cat "$scratch/refusal"
    return 1
  }
}

# Every document of the file is YAML and an object of some kind. Helm is the parser, so that none other is needed.
parses() {
  mkdir -p "$scratch/parser/templates"
  printf 'apiVersion: v2\nname: parser\nversion: 0.0.0\n' >"$scratch/parser/Chart.yaml"
  cp "$1" "$scratch/parser/file.yaml"
  cat >"$scratch/parser/templates/parse.yaml" <<'END'
{{- range splitList "\n---\n" (.Files.Get "file.yaml") }}
{{- $document := fromYaml . }}
{{- if $document.Error }}{{ fail $document.Error }}{{ end }}
{{- if $document }}
kind: {{ required "an object has no kind" $document.kind }}
name: {{ required "an object has no name" $document.metadata.name }}
---
{{- end }}
{{- end }}
END
  helm template parser "$scratch/parser"
}

# No object of the release says its namespace in words: any namespace will do.
any_namespace() {
  ! render | grep --line-number --extended-regexp 'callplane-system' || return 1
  local other
  other=$(helm template other "$chart" --namespace elsewhere --include-crds --set gateway.roomsNamespace=)
  # Where rooms are made by REST is a value of its own.
  ! grep --extended-regexp '^ *namespace: ' <<<"$other" | grep --invert-match ': elsewhere$' || return 1
  grep --quiet "system:serviceaccount:elsewhere:callplane-operator" <<<"$other" || return 1
  grep --quiet "system:serviceaccount:elsewhere:callplane-gateway" <<<"$other" || return 1
  grep --quiet "system:serviceaccount:elsewhere:callplane-media-node" <<<"$other"
}

# Rights are never given by wildcard, and secrets only by name.
narrow_rights() {
  local rendered
  rendered=$(render)
  awk '/^kind: /{kind = $2} (kind == "Role" || kind == "ClusterRole") && /\*/ && !/^ *#/ {print; bad = 1} END {exit bad}' \
    <<<"$rendered" || return 1
  # Without a name they are made, and rooms' are written (a policy says which), but never read.
  awk '/^kind: /{kind = $2} kind ~ /Role$/ && /resources: \[secrets\]/ {getline next_line; if (next_line !~ /resourceNames:|verbs: \[create(, patch, delete)?\]$/) {print next_line; bad = 1}} END {exit bad}' \
    <<<"$rendered"
}

# Every pod of the chart meets the restricted pod security standard.
restricted_pods() {
  render --set postgresql.enabled=true >"$scratch/rendered"
  local pods wanted count
  pods=$(grep --count --extended-regexp '^ *containers:$' "$scratch/rendered")
  for wanted in 'runAsNonRoot: true' 'type: RuntimeDefault' 'readOnlyRootFilesystem: true' \
    'allowPrivilegeEscalation: false' 'drop: \[ALL\]'; do
    count=$(grep --count "$wanted" "$scratch/rendered")
    [[ $count == "$pods" ]] || { echo "$wanted: $count times in $pods pods"; return 1; }
  done
}

# coturn is on the machine's network, and nothing else of the chart is.
one_on_the_host() {
  local hosts
  hosts=$(render | awk '/^  name: /{name = $2} /hostNetwork: true/{print name}')
  [[ $hosts == callplane-coturn ]] || { echo "on the host network: $hosts"; return 1; }
}

# Nothing that is secret is in what the chart makes: passwords and shared secrets are the operator's.
no_secrets() {
  ! render --set postgresql.enabled=true | grep --line-number --extended-regexp '^kind: Secret$|requirepass [^ ]|password=|static-auth-secret'
}

same_crds() { diff --recursive --exclude '*.toml' --exclude src --exclude tests "$root/crds" "$chart/crds"; }

check "lint: default values" helm lint --quiet --strict "$chart"
for values in "$cases"/*.values.yaml; do
  name=$(basename "$values" .values.yaml)
  check "lint: $name" helm lint --quiet --strict "$chart" --values "$values"
  check "golden: $name" golden "$name"
done

check "refused: operator.replica" refused "'replica'" --set operator.replica=3
check "refused: gateway.replica" refused "'replica'" --set gateway.replica=3
check "refused: an origin with a path" refused "/gateway/corsOrigins/0" --set "gateway.corsOrigins={https://app.example/x}"
check "refused: an issuer without an audience" refused "/gateway/oidc" --set gateway.oidc.issuer=https://login.example
check "refused: an issuer without TLS" refused "/gateway/oidc/issuer" --set gateway.oidc.issuer=http://login.example
check "refused: a demand on tokens that is none" refused "/gateway/oidc/require/0" --set gateway.oidc.issuer=https://login.example --set gateway.oidc.audience=a --set "gateway.oidc.require={scope}"
check "refused: SQLite for two" refused "SQLite is for one replica" --set records.sqlite.enabled=true
check "refused: two databases" refused "one database" --set records.sqlite.enabled=true,records.postgresSecret=x,gateway.replicas=1
check "refused: PostgreSQL here and elsewhere" refused "one database" --set postgresql.enabled=true,records.postgresSecret=x
check "refused: PostgreSQL and SQLite" refused "one database" --set postgresql.enabled=true,records.sqlite.enabled=true,gateway.replicas=1
check "refused: PostgreSQL for nobody" refused "set gateway.enabled as well" --set postgresql.enabled=true,gateway.enabled=false
check "refused: postgresql.replicas" refused "'replicas'" --set postgresql.replicas=2
check "refused: a volume of no size" refused "/postgresql/storage" --set postgresql.storage=large
check "refused: records.sqlite.size" refused "'size'" --set records.sqlite.size=1Gi
check "refused: a top-level key that there is not" refused "'operators'" --set operators.replicas=3
check "refused: defaultPool.reachability.port" refused "'port'" --set defaultPool.reachability.port=1
check "refused: defaultPool.reachability.ports.first" refused "'first'" --set defaultPool.reachability.ports.first=1
check "refused: defaultPool.template.worker" refused "'worker'" --set defaultPool.template.worker=2
check "refused: defaultPool.capacity.room" refused "'room'" --set defaultPool.capacity.room=2
check "refused: image.repository" refused "'repository'" --set image.repository=x
check "refused: policies.breakGlassGroup" refused "'breakGlassGroup'" --set policies.breakGlassGroup=x
check "refused: networkPolicies.enable" refused "'enable'" --set networkPolicies.enable=true
check "refused: metrics.serviceMonitor.enable" refused "'enable'" --set metrics.serviceMonitor.enable=true
check "refused: crds.install" refused "'install'" --set crds.install=true
check "refused: rbac.create" refused "'create'" --set rbac.create=true
check "refused: a mode that there is not" refused "/defaultPool/reachability/mode" --set defaultPool.reachability.mode=NodePort
check "refused: no operator at all" refused "/operator/replicas" --set operator.replicas=0
check "refused: 1001 media nodes" refused "/defaultPool/replicas" --set defaultPool.replicas=1001
check "refused: a privileged port" refused "/defaultPool/reachability/ports/from" --set defaultPool.reachability.ports.from=80
check "refused: a number in words" refused "/operator/replicas" --set-string operator.replicas=2
check "refused: a group that would end the expression" refused "/policies/breakGlassGroups/0" --set "policies.breakGlassGroups={x' || true || '}"
check "refused: a registry that ends in a slash" refused "/image/registry" --set image.registry=example/
check "refused: Kubernetes 1.30" refused "kubeVersion" --kube-version 1.30.0

check "refused: a rotation of the join keys in words" refused "/joinKeys/rotation" --set joinKeys.rotation=monthly
check "refused: no lead" refused "/joinKeys/lead" --set-string joinKeys.lead=0
check "refused: joinKeys.overlap" refused "'overlap'" --set joinKeys.overlap=1h
check "refused: turn.port" refused "'port'" --set turn.port=1
check "refused: redis.replicas" refused "'replicas'" --set redis.replicas=2
check "refused: coturn without Redis" refused "redis.enabled" --set redis.enabled=false
check "refused: TURN here and elsewhere" refused "turn.external.urls" --set "turn.external.urls={turn:x}"
check "refused: a STUN server for TURN" refused "/turn/external/urls/0" --set turn.enabled=false --set "turn.external.urls={stun:x}"
check "refused: a certificate for no name" refused "turn.host" --set turn.tls.secretName=x
check "refused: a secret of nobody" refused "turn.external.urls" --set turn.enabled=false --set turn.external.secretName=x
check "refused: Redis here and elsewhere" refused "redis.external.secretName" --set redis.external.secretName=x
check "refused: a peer in CIDR" refused "/turn/allowedPeers/0" --set "turn.allowedPeers={10.0.0.0/8}"
check "refused: a range that coturn takes for everything" refused "/turn/deniedPeers/0" --set "turn.deniedPeers={::-::1}"
check "refused: a rotation in words" refused "/turn/rotation" --set turn.rotation=daily

check "any namespace and release name will do" any_namespace
check "rights are narrow" narrow_rights
check "pods are restricted" restricted_pods
check "coturn alone is on the host network" one_on_the_host
check "nothing secret is rendered" no_secrets
check "the chart's CRDs are the project's" same_crds
check "README.md lists the values" "$root/charts/readme.sh" --check
check "manifests/install.yaml is the chart" "$root/manifests/generate.sh" --check
while IFS= read -r file; do
  check "parses: ${file#"$root"/}" parses "$file"
done < <(find "$root/manifests" "$root/crds" "$chart/crds" "$cases" -name '*.yaml' ! -name '*.values.yaml' | sort)

echo "$passed passed, $failed failed"
((failed == 0))
