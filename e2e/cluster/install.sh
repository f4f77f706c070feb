#!/usr/bin/env bash
# install.sh [REGISTRY TAG] [HELM_OPTION...]: installs the chart, or brings it up to date, and waits until it works.
# With a registry: in the cluster that kubectl talks to. Without: in the e2e cluster, with the images
# that images.sh gave it.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
export PATH=$BIN:$PATH
if (($# < 2)) || [[ $1 == --* ]]; then
  export KUBECONFIG=$KUBECONFIG_FILE
  set -- localhost/callplane "$(cat "$STATE/tag")" "$@"
fi
registry=$1
tag=$2
namespace=callplane-system
more=("${@:3}")

# Media nodes announce their machines' addresses, and coturn relays to private ones only where they are named.
mapfile -t machines < <(kubectl get nodes \
  --output 'jsonpath={range .items[*].status.addresses[?(@.type=="InternalIP")]}{.address}{"\n"}{end}' 2>/dev/null)
((!${#machines[@]})) || more+=(--set "turn.allowedPeers={$(IFS=,; echo "${machines[*]}")}")

say "installing the chart into namespace $namespace (images $registry/*:$tag)"
helm upgrade --install callplane "$REPO_DIR/charts/callplane" --namespace "$namespace" --create-namespace \
  --set "image.registry=$registry" --set "image.tag=$tag" \
  "${more[@]}" --wait --timeout 300s >/dev/null ||
  die "helm failed; see: kubectl -n $namespace get pods,events"
replicas=$(kubectl --namespace "$namespace" get mediapool default --output 'jsonpath={.spec.replicas}')
kubectl --namespace "$namespace" wait mediapool/default --timeout=180s \
  --for="jsonpath={.status.readyReplicas}=$replicas" >/dev/null ||
  die "the media nodes did not become ready; see: kubectl -n $namespace describe mediapools,medianodes,pods"
say "callplane: installed, $replicas media nodes ready"
