# shellcheck shell=bash
# Certificates and kubeconfigs of the cluster, made anew for each cluster. Sourced by up.sh.

PKI=$STATE/pki

# certificate NAME SUBJECT [SUBJECT_ALT_NAMES]: a key and a certificate signed by the cluster's CA.
certificate() {
  local name=$1 subject=$2 names=${3:-}
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "$subject" \
    -keyout "$PKI/$name.key" -out "$PKI/$name.csr" 2>/dev/null
  openssl x509 -req -in "$PKI/$name.csr" -CA "$PKI/ca.crt" -CAkey "$PKI/ca.key" -days 3650 \
    -out "$PKI/$name.crt" -extfile <(
      echo "keyUsage=digitalSignature"
      echo "extendedKeyUsage=serverAuth,clientAuth"
      [[ -z $names ]] || echo "subjectAltName=$names"
    ) 2>/dev/null
  rm "$PKI/$name.csr"
}

# kubeconfig NAME FILE: one file, with the certificate of that name in it.
kubeconfig() {
  cat >"$2" <<END
apiVersion: v1
kind: Config
clusters:
  - name: callplane
    cluster:
      server: https://$(node_ip 1):6443
      certificate-authority-data: $(base64 -w0 "$PKI/ca.crt")
users:
  - name: $1
    user:
      client-certificate-data: $(base64 -w0 "$PKI/$1.crt")
      client-key-data: $(base64 -w0 "$PKI/$1.key")
contexts:
  - name: callplane
    context: {cluster: callplane, user: $1}
current-context: callplane
END
}

make_pki() {
  local machine
  (
    umask 077
    mkdir -p "$PKI"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
      -subj "/CN=callplane-e2e" -keyout "$PKI/ca.key" -out "$PKI/ca.crt" 2>/dev/null
    openssl ecparam -name prime256v1 -genkey -noout -out "$PKI/service-accounts.key"
    openssl ec -in "$PKI/service-accounts.key" -pubout -out "$PKI/service-accounts.pub" 2>/dev/null
    certificate kube-apiserver /CN=kube-apiserver \
      "IP:$(node_ip 1),IP:${SERVICE_CIDR%.0/16}.1,IP:127.0.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
    certificate kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client
    certificate admin /O=system:masters/CN=admin
    certificate kube-controller-manager /CN=system:kube-controller-manager
    certificate kube-scheduler /CN=system:kube-scheduler
    certificate kube-proxy /CN=system:kube-proxy
    for name in kube-controller-manager kube-scheduler kube-proxy; do
      kubeconfig "$name" "$PKI/$name.kubeconfig"
    done
    for machine in "${MACHINES[@]}"; do
      certificate "$(node_name "$machine")" "/O=system:nodes/CN=system:node:$(node_name "$machine")"
      kubeconfig "$(node_name "$machine")" "$PKI/$(node_name "$machine").kubeconfig"
    done
    kubeconfig admin "$KUBECONFIG_FILE"
  )
}
