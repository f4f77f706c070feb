#!/usr/bin/env bash
# install.sh [REGISTRY TAG]: installs the chart, or brings it up to date, and waits until it works.
# With arguments: in the cluster that kubectl talks to. Without: in the e2e cluster, with the images
# that images.sh gave it.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
export PATH=$BIN:$PATH
(($#)) || export KUBECONFIG=$KUBECONFIG_FILE
registry=${1:-localhost/callplane}
tag=${2:-$(cat "$STATE/tag")}
namespace=callplane-system

say "installing the chart into namespace $namespace (images $registry/*:$tag)"
helm upgrade --install callplane "$REPO_DIR/charts/callplane" --namespace "$namespace" --create-namespace \
  --set "image.registry=$registry" --set "image.tag=$tag" --wait --timeout 180s >/dev/null ||
  die "helm failed; see: kubectl -n $namespace get pods,events"
replicas=$(kubectl --namespace "$namespace" get mediapool default --output 'jsonpath={.spec.replicas}')
kubectl --namespace "$namespace" wait mediapool/default --timeout=60s \
  --for="jsonpath={.status.readyReplicas}=$replicas" >/dev/null ||
  die "the media nodes did not become ready; see: kubectl -n $namespace describe mediapools,medianodes,pods"
say "callplane: installed, $replicas media nodes ready"
