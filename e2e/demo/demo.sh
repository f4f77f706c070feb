#!/usr/bin/env bash
# demo.sh up|down: a call in browsers on Kubernetes, from nothing.
#
# CLUSTER=local    a cluster of our own on this machine (root; no Docker, no registry)
# CLUSTER=kind     a kind cluster named callplane (Docker, kind, helm, kubectl)
# CLUSTER=current  the cluster of your kubeconfig's current context. Images come from REGISTRY: with
#                  TAG they are there already, otherwise Docker builds and pushes them. Two namespaces
#                  are made, callplane-system and callplane-demo, and nothing is touched outside of
#                  them but what the chart has for whole clusters; where there is something of that
#                  kind already, nothing is touched at all. Definitions that are there stay as they are.
#
# LAN=192.168.1.5  an address of this machine: with it, phones in that network can join the second call.
source "$(dirname "${BASH_SOURCE[0]}")/../cluster/lib.sh"
source "$(dirname "${BASH_SOURCE[0]}")/lan.sh"

CLUSTER=${CLUSTER:-local}
NAMESPACE=callplane-system
ROOMS=default # Where the demo's rooms are.
[[ $CLUSTER != current ]] || ROOMS=callplane-demo
CRDS=(callrooms.callplane.io medianodes.callplane.io mediapools.callplane.io)
IMAGES=(operator media-node gateway redis coturn)
repository=localhost/callplane
image=() # What install.sh is told: registry and tag.
export PATH=$BIN:$PATH
cd "$REPO_DIR"

# What outlives this script: the servers of the pages, the API key, and the screenshots.
DEMO=$CACHE/demo
PAGE_PORT=${PAGE_PORT:-8090}
GATEWAY_PORT=${GATEWAY_PORT:-8080}

need() {
  local program
  for program in "$@"; do
    command -v "$program" >/dev/null || die "CLUSTER=$CLUSTER needs $program, which is not installed"
  done
}

need_browser() {
  [[ -x ${CHROMIUM:-/usr/bin/chromium} ]] || die "the demo needs Chromium: install it, or set CHROMIUM to it"
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
  local built=("${IMAGES[@]/#/$repository/}")
  tag=dev-$(docker image inspect --format '{{.Id}}' "${built[@]/%/:dev}" | sha256sum | cut -c1-8)
  for name in "${IMAGES[@]}"; do docker tag "$repository/$name:dev" "$repository/$name:$tag"; done
  image=("$repository" "$tag")
}

cluster_local() {
  "$CLUSTER_DIR/tools.sh"
  "$CLUSTER_DIR/up.sh"
  "$CLUSTER_DIR/images.sh" demo
  export KUBECONFIG=$KUBECONFIG_FILE
}

cluster_kind() {
  need docker kind helm kubectl node npm curl
  need_browser
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
  local built=("${IMAGES[@]/#/$repository/}")
  kind load docker-image --name callplane "${built[@]/%/:${image[1]}}"
}

cluster_current() {
  need helm kubectl node npm curl
  need_browser
  [[ -n ${REGISTRY:-} ]] || die "CLUSTER=current needs REGISTRY=<where its nodes can pull $repository images from>"
  say "cluster: context $(kubectl config current-context)"
  own_cluster
  repository=$REGISTRY
  if [[ -z ${TAG:-} ]]; then
    need docker
    docker_build
    tag_by_content
    local name
    for name in "${IMAGES[@]}"; do docker push --quiet "$repository/$name:${image[1]}"; done
  else
    image=("$repository" "$TAG")
    say "taking for granted that $repository has the images, with tag $TAG"
  fi
  image+=(--set "gateway.roomsNamespace=$ROOMS")
  [[ $(mark "$NAMESPACE") == made ]] || image+=(--set crds.upgrade=false)
}

# mark NAMESPACE: what the demo wrote on it; nothing on what somebody else made.
mark() { kubectl get namespace "$1" --ignore-not-found --output 'jsonpath={.metadata.labels.callplane\.io/demo}'; }

there() { [[ -n $(kubectl get "$@" --ignore-not-found --output name) ]]; }

# In a cluster of somebody's, the demo's namespaces are the demo's own, or it does not begin. The mark says whether the
# demo brought the definitions, too: whoever brought them takes them away.
own_cluster() {
  local namespace with=made
  for namespace in "$NAMESPACE" "$ROOMS"; do
    if there namespace "$namespace" && [[ -z $(mark "$namespace") ]]; then
      die "namespace $namespace is there already, and not by this demo: CLUSTER=current leaves it alone"
    fi
  done
  if ! there namespace "$NAMESPACE" && there clusterrole callplane-operator; then
    die "callplane is installed in this cluster already: CLUSTER=current leaves it alone"
  fi
  if there crd "${CRDS[@]}"; then with=found; fi
  for namespace in "$NAMESPACE" "$ROOMS"; do
    there namespace "$namespace" || kubectl create --filename - <<END
apiVersion: v1
kind: Namespace
metadata:
  name: $namespace
  labels:
    callplane.io/demo: $with
    # Media nodes use ports of the machine, and coturn its network.
    pod-security.kubernetes.io/enforce: privileged
END
  done
}

# Rooms first, while somebody is there who ends them.
disown_cluster() {
  local with
  [[ -z $(mark "$ROOMS") ]] || kubectl delete namespace "$ROOMS"
  with=$(mark "$NAMESPACE")
  if [[ -z $with ]]; then
    say "namespace $NAMESPACE is not this demo's, or not there: nothing to remove"
    return 0
  fi
  helm uninstall callplane --namespace "$NAMESPACE" --ignore-not-found --wait
  kubectl delete namespace "$NAMESPACE"
  [[ $with == made ]] || return 0
  if [[ -z $(kubectl get callrooms --all-namespaces --ignore-not-found --output name 2>/dev/null) ]]; then
    kubectl delete crd "${CRDS[@]}" --ignore-not-found
  else
    say "there are CallRooms of others: their definitions stay"
  fi
}

# keep NAME COMMAND...: runs a server until `down`. Only what runs since the time on record is ours.
keep() {
  local name=$1
  shift
  end "$name"
  setsid "$@" >"$DEMO/$name.log" 2>&1 </dev/null 9>&- &
  echo "$! $(process_start $!)" >"$DEMO/$name.pid"
}

end() {
  local pid start file=$DEMO/$1.pid
  [[ -s $file ]] || return 0
  read -r pid start <"$file"
  if [[ $(process_start "$pid") == "$start" ]]; then kill -- "-$pid" 2>/dev/null || kill "$pid"; fi
  rm "$file"
}

# Ports of this machine that the demo is reached at, free but for an earlier demo's.
own_ports() {
  local name port tries
  end page
  end gateway
  for name in PAGE_PORT GATEWAY_PORT; do
    port=${!name}
    # What has just been ended takes a moment.
    for tries in {1..30}; do
      (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || continue 2
      ((tries == 30)) || sleep 0.1
    done
    die "port $port is in use: set $name to another one"
  done
}

# said NAME PATTERN: waits until a server has said so, and prints that.
said() {
  local pid
  read -r pid _ <"$DEMO/$1.pid"
  until grep --only-matching "$2" "$DEMO/$1.log"; do
    kill -0 "$pid" 2>/dev/null || die "$1 ended: $(tail --lines=1 "$DEMO/$1.log")"
    sleep 0.2
  done
}

# A backend's API key. It is there before the gateway is, which then need not look for it.
api_key() {
  mkdir -p "$DEMO"
  [[ -s $DEMO/api-key ]] || (umask 077 && head -c 32 /dev/urandom | base64 | tr -d '\n' >"$DEMO/api-key")
  kubectl create namespace "$NAMESPACE" --dry-run=client --output yaml | kubectl apply --filename - >/dev/null 2>&1
  kubectl create secret generic callplane-api-keys --namespace "$NAMESPACE" --dry-run=client --output yaml \
    --from-literal="demo=$(sha256sum <"$DEMO/api-key" | cut -c1-64)" | kubectl apply --filename - >/dev/null
}

# rest METHOD PATH BODY: asks the gateway as the backend; tried again while it does not know the key yet.
rest() {
  curl --silent --show-error --fail --retry 45 --retry-delay 2 --retry-all-errors --max-time 30 --request "$1" \
    --header "authorization: Bearer $(cat "$DEMO/api-key")" --header 'content-type: application/json' --data "$3" \
    "http://127.0.0.1:$GATEWAY_PORT$2" 2>"$DEMO/rest.log" || die "$1 $2: $(tail --lines=1 "$DEMO/rest.log")"
}

# Whoever comes back after a day finds a room that has ended: it makes way for a new one of its name.
without_ended() {
  [[ $(kubectl get callroom "$1" --namespace "$ROOMS" --ignore-not-found --output 'jsonpath={.status.phase}') != Ended ]] ||
    kubectl delete callroom "$1" --namespace "$ROOMS" --wait
}

# A room made by REST, and the link to it.
talk_up() {
  local room=$ROOMS.talk
  keep gateway kubectl --namespace "$NAMESPACE" port-forward service/callplane-gateway "$GATEWAY_PORT:80"
  said gateway '^Forwarding from 127.*' >/dev/null
  without_ended talk
  kubectl get callroom talk --namespace "$ROOMS" >/dev/null 2>&1 ||
    rest POST /v1/rooms '{"hostId": "demo", "name": "talk", "settings": {"topology": {"stabilizationSeconds": 10}}}' >/dev/null
  talk_url=http://localhost:$GATEWAY_PORT/join/$room#$(rest POST "/v1/rooms/$room/links" '{"role": "participant"}' |
    node --print 'JSON.parse(require("fs").readFileSync(0, "utf8")).linkToken')
}

up() {
  local sample lan
  api_key
  mapfile -t lan < <(lan_options)
  "$CLUSTER_DIR/install.sh" "${image[@]}" "${lan[@]}"
  say "applying manifests/samples: a CallRoom, that is, a call"
  without_ended demo
  for sample in manifests/samples/*.yaml; do
    sed "s/^  namespace: default$/  namespace: $ROOMS/" "$sample" | kubectl apply --filename -
  done
  kubectl wait --for=condition=Ready callroom/demo --namespace "$ROOMS" --timeout=120s
  kubectl get callrooms,medianodes,mediapools --all-namespaces

  say "joining the call from browsers"
  make --no-print-directory --silent e2e/browser/node_modules/.package-lock.json >/dev/null
  node e2e/browser/demo.mjs --room "$ROOMS.demo" --connect-timeout 60 --min-fps 12 --max-first-frame 60000 --out "$DEMO/screenshots"
  keep page node e2e/browser/server.mjs --port "$PAGE_PORT"
  page_url=$(said page '^http://[^#]*')#room=$ROOMS.demo

  say "making a room by REST: a call that begins peer to peer"
  talk_up
  node e2e/browser/talk.mjs "$talk_url" "$DEMO/screenshots"
  lan_up

  say "done. Next:"
  cat <<END

  $page_url   # the first call, with plain mediasoup-client
  $talk_url
                                # the second one: open it in two tabs, then in a third
$(lan_next "$talk_url")
  export KUBECONFIG=${KUBECONFIG:-$HOME/.kube/config} PATH=$BIN:\$PATH
  kubectl get callrooms,medianodes,mediapools -A        # what there is
  kubectl describe callroom demo -n $ROOMS             # what happened to the call
  make demo-down CLUSTER=$CLUSTER                       # remove it all
END
}

down() {
  end page
  end gateway
  lan_down
  case $CLUSTER in
    local) "$CLUSTER_DIR/down.sh" ;;
    kind)
      need kind
      kind delete cluster --name callplane
      ;;
    current)
      need helm kubectl
      disown_cluster
      ;;
  esac
  rm -rf "$DEMO" "$CACHE/kind.kubeconfig"
}

case $CLUSTER in
  local | kind | current) ;;
  *) die "CLUSTER is local, kind or current, not '$CLUSTER'" ;;
esac
case ${1:-} in
  up)
    own_ports
    lan_check
    "cluster_$CLUSTER"
    up
    ;;
  down) down ;;
  *) die "usage: demo.sh up|down" ;;
esac
