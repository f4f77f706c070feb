#!/usr/bin/env bash
# demo.sh up|down: a call in browsers on Kubernetes, from nothing.
#
# CLUSTER=local    a cluster of our own on this machine (root; no Docker, no registry)
# CLUSTER=kind     a kind cluster named callplane (Docker, kind, helm, kubectl)
# CLUSTER=current  the cluster of your kubeconfig's current context. Images come from REGISTRY, to
#                  which they are pushed if Docker is there (else they must be there, with the tag
#                  TAG or dev). Only the release's own objects, the namespace callplane-system and
#                  the samples are touched.
source "$(dirname "${BASH_SOURCE[0]}")/../cluster/lib.sh"

CLUSTER=${CLUSTER:-local}
NAMESPACE=callplane-system
IMAGES=(operator media-node gateway)
repository=localhost/callplane
image=() # What install.sh is told: registry and tag.
export PATH=$BIN:$PATH
cd "$REPO_DIR"

# What outlives this script: the server of the page, and the screenshots.
DEMO=$CACHE/demo
PAGE_PORT=8090

need() {
  local program
  for program in "$@"; do
    command -v "$program" >/dev/null || die "CLUSTER=$CLUSTER needs $program, which is not installed"
  done
}

docker_build() {
  local name
  for name in "${IMAGES[@]}"; do
    say "building image $repository/$name:dev"
    docker build --quiet --file "images/$name.Containerfile" --tag "$repository/$name:dev" . >/dev/null
  done
}

# A tag that changes with what the images hold, so that an upgrade is an upgrade.
tag_by_content() {
  local name tag
  tag=dev-$(docker image inspect --format '{{.Id}}' "$repository/operator:dev" "$repository/media-node:dev" "$repository/gateway:dev" | sha256sum | cut -c1-8)
  for name in "${IMAGES[@]}"; do docker tag "$repository/$name:dev" "$repository/$name:$tag"; done
  image=("$repository" "$tag")
}

cluster_local() {
  "$CLUSTER_DIR/tools.sh"
  "$CLUSTER_DIR/up.sh"
  "$CLUSTER_DIR/images.sh"
  export KUBECONFIG=$KUBECONFIG_FILE
}

cluster_kind() {
  need docker kind helm kubectl node npm
  export KUBECONFIG=$CACHE/kind.kubeconfig
  mkdir -p "$CACHE"
  if kind get clusters 2>/dev/null | grep --quiet --line-regexp callplane; then
    say "kind: cluster callplane is already up"
    kind export kubeconfig --name callplane --kubeconfig "$KUBECONFIG" 2>/dev/null
  else
    say "kind: creating cluster callplane"
    kind create cluster --name callplane --kubeconfig "$KUBECONFIG" --wait 120s
  fi
  docker_build
  tag_by_content
  kind load docker-image --name callplane "$repository/operator:${image[1]}" "$repository/media-node:${image[1]}" "$repository/gateway:${image[1]}"
}

cluster_current() {
  need helm kubectl node npm
  say "cluster: context $(kubectl config current-context)"
  [[ -n ${REGISTRY:-} ]] || die "CLUSTER=current needs REGISTRY=<where its nodes can pull $repository images from>"
  repository=$REGISTRY
  if command -v docker >/dev/null; then
    docker_build
    tag_by_content
    local name
    for name in "${IMAGES[@]}"; do docker push --quiet "$repository/$name:${image[1]}"; done
  else
    image=("$repository" "${TAG:-dev}")
    say "no Docker here: taking for granted that $repository has the images, with tag ${image[1]}"
  fi
}

# Serves the call page to this machine until `down`, and sets `page_url`. Only what runs since the time on record is ours.
page_up() {
  page_down
  mkdir -p "$DEMO"
  setsid node e2e/browser/server.mjs --port "$PAGE_PORT" >"$DEMO/page.log" 2>&1 </dev/null 9>&- &
  echo "$! $(process_start $!)" >"$DEMO/page.pid"
  page_url=
  while [[ -z $page_url ]]; do
    kill -0 $! 2>/dev/null || die "the page cannot be served: $(tail --lines=1 "$DEMO/page.log")"
    sleep 0.2
    page_url=$(grep --only-matching '^http://.*' "$DEMO/page.log" || true)
  done
}

page_down() {
  local pid start
  [[ -s $DEMO/page.pid ]] || return 0
  read -r pid start <"$DEMO/page.pid"
  if [[ $(process_start "$pid") == "$start" ]]; then kill "$pid"; fi
  rm "$DEMO/page.pid"
}

up() {
  "$CLUSTER_DIR/install.sh" "${image[@]}"
  say "applying manifests/samples: a CallRoom, that is, a call"
  kubectl apply --filename manifests/samples/
  kubectl wait --for=condition=Ready callroom/demo --namespace default --timeout=60s
  kubectl get callrooms,medianodes,mediapools --all-namespaces

  say "joining the call from browsers"
  make --no-print-directory --silent e2e/browser/node_modules/.package-lock.json >/dev/null
  node e2e/browser/demo.mjs --out "$DEMO/screenshots"
  page_up

  say "done. Next:"
  cat <<END

  $page_url   # join the same call by hand
  export KUBECONFIG=${KUBECONFIG:-$HOME/.kube/config} PATH=$BIN:\$PATH
  kubectl get callrooms,medianodes,mediapools -A     # what there is
  kubectl describe callroom demo                     # what happened to the call
  make test                                          # the same, with failures
  make demo-down                                     # remove it all
END
}

down() {
  page_down
  case $CLUSTER in
    local) "$CLUSTER_DIR/down.sh" ;;
    kind)
      need kind
      kind delete cluster --name callplane
      ;;
    current)
      need helm kubectl
      kubectl delete --filename manifests/samples/ --ignore-not-found
      helm uninstall callplane --namespace "$NAMESPACE" --ignore-not-found --wait
      ;;
  esac
}

case $CLUSTER in
  local | kind | current) ;;
  *) die "CLUSTER is local, kind or current, not '$CLUSTER'" ;;
esac
case ${1:-} in
  up)
    "cluster_$CLUSTER"
    up
    ;;
  down) down ;;
  *) die "usage: demo.sh up|down" ;;
esac
