# shellcheck shell=bash
# The demo's second call for people on other machines of this network: browsers give a camera to HTTPS alone, and
# addresses of the cluster mean something on this machine only. Sourced by demo.sh. LAN is an address of this machine
# that the others reach; without it nobody but this machine is let in.

LAN_PORT=${LAN_PORT:-8443}
TURN_PORT=3478
FORWARDS=(lan-web lan-turn-udp lan-turn-tcp)

# Before anything is built.
lan_check() {
  lan_down
  [[ -n ${LAN:-} ]] || return 0
  [[ $CLUSTER == local ]] || need socat openssl
  ip -oneline address show scope global to "$LAN" 2>/dev/null | grep --quiet . ||
    die "LAN=$LAN is no address of this machine: it has $(ip -oneline -4 address show scope global | awk '{sub("/.*", "", $4); print $4}' | paste --serial --delimiters=' ')"
}

# What install.sh is told, a word each: media goes by TURN, which is forwarded, so that is what clients hear of.
lan_options() { [[ -z ${LAN:-} ]] || printf '%s\n' --set "turn.host=$LAN"; }

# A certificate that is kept, so that people who have accepted it are not asked again.
lan_certificate() {
  openssl x509 -in "$DEMO/lan.pem" -noout -checkip "$LAN" -checkend 86400 2>/dev/null | grep --quiet 'does match' ||
    (umask 077 && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj '/CN=callplane demo' \
      -addext "subjectAltName=IP:$LAN" -keyout "$DEMO/lan.key" -out "$DEMO/lan.crt" 2>/dev/null &&
      cat "$DEMO/lan.key" "$DEMO/lan.crt" >"$DEMO/lan.pem" && rm "$DEMO/lan.key" "$DEMO/lan.crt")
}

# listens NAME PORT PROTOCOL: waits until a forward is there.
listens() {
  local pid
  read -r pid _ <"$DEMO/$1.pid"
  wait_for 5 "forwarding of $LAN:$2" bash -c "ss --listening --numeric --$3 'sport = :$2' | grep --quiet --fixed-strings '$LAN:$2' || ! kill -0 $pid 2>/dev/null"
  kill -0 "$pid" 2>/dev/null || die "port $2 of $LAN ($3) is not to be had: $(tail --lines=1 "$DEMO/$1.log")"
}

# The gateway by HTTPS, and coturn.
lan_up() {
  [[ -n ${LAN:-} ]] || return 0
  local machine
  machine=$(kubectl --namespace "$NAMESPACE" get pods --selector app.kubernetes.io/component=coturn \
    --field-selector status.phase=Running --output 'jsonpath={.items[0].status.hostIP}')
  [[ -n $machine ]] || die "there is no coturn; see: kubectl -n $NAMESPACE get pods"
  lan_certificate
  keep lan-web socat "OPENSSL-LISTEN:$LAN_PORT,bind=$LAN,fork,reuseaddr,cert=$DEMO/lan.pem,verify=0" "TCP4:127.0.0.1:$GATEWAY_PORT"
  keep lan-turn-udp socat -T 60 "UDP4-LISTEN:$TURN_PORT,bind=$LAN,fork,reuseaddr" "UDP4:$machine:$TURN_PORT"
  keep lan-turn-tcp socat "TCP4-LISTEN:$TURN_PORT,bind=$LAN,fork,reuseaddr" "TCP4:$machine:$TURN_PORT"
  listens lan-web "$LAN_PORT" tcp
  listens lan-turn-udp "$TURN_PORT" udp
  listens lan-turn-tcp "$TURN_PORT" tcp
}

# lan_next URL: what to do on a phone, where that is the link on this machine.
lan_next() {
  [[ -z ${LAN:-} ]] || cat <<END
  https://$LAN:$LAN_PORT/${1#http*://*/}
                                # the same on a phone in this network; it asks whether to trust the demo's own certificate
END
}

lan_down() {
  local forward
  for forward in "${FORWARDS[@]}"; do end "$forward"; done
}
