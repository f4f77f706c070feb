// SDP as far as the load's clients need it: the generator speaks no SDP, and takes from the answers of the
// scripts where to connect and which streams come.

const TRANSPORT_CC = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

const head = ({ ufrag, password, fingerprint }, mids) => [
  "v=0",
  "o=- 1 1 IN IP4 127.0.0.1",
  "s=-",
  "t=0 0",
  ...(mids.length ? [`a=group:BUNDLE ${mids.join(" ")}`] : []),
  `a=ice-ufrag:${ufrag}`,
  `a=ice-pwd:${password}`,
  `a=fingerprint:sha-256 ${fingerprint}`,
];
const section = (kind, types, mid, direction) => [
  `m=${kind} 9 UDP/TLS/RTP/SAVPF ${types.join(" ")}`,
  "c=IN IP4 127.0.0.1",
  `a=mid:${mid}`,
  `a=${direction}`,
  // Not for all sections at once: LiveKit looks for it here alone, and would be the DTLS client too.
  "a=setup:active",
  "a=rtcp-mux",
  "a=rtcp-rsize",
  "a=candidate:1 1 udp 2130706431 127.0.0.1 9 typ host",
];
// Without data channels there is no SCTP, which the clients do not speak.
const refused = ({ protocol, types, mid }) => [
  `m=application 0 ${protocol} ${types.join(" ")}`,
  "c=IN IP4 127.0.0.1",
  `a=mid:${mid}`,
  "a=inactive",
  // It may be the only section of the first offer, which decides.
  "a=setup:active",
];
const text = (lines) => `${lines.join("\r\n")}\r\n`;

/** The offer of a client that publishes `request.tracks`; `names` has the tracks' names in it. */
export function offer(request, names) {
  const { opus, vp8, rtx } = request.payloadTypes;
  const lines = head(request, request.tracks.map(({ mid }) => mid));
  request.tracks.forEach((track, at) => {
    const video = track.kind === "video";
    lines.push(...section(track.kind, video ? [vp8, rtx] : [opus], track.mid, "sendonly"));
    lines.push(...request.extensions.map(([uri, id]) => `a=extmap:${id} ${uri}`));
    if (video) {
      const feedback = ["goog-remb", "transport-cc", "ccm fir", "nack", "nack pli"];
      lines.push(`a=rtpmap:${vp8} VP8/90000`, ...feedback.map((kind) => `a=rtcp-fb:${vp8} ${kind}`));
      lines.push(`a=rtpmap:${rtx} rtx/90000`, `a=fmtp:${rtx} apt=${vp8}`);
      lines.push(`a=ssrc-group:FID ${track.ssrc} ${track.rtx}`);
    } else {
      lines.push(`a=rtpmap:${opus} opus/48000/2`, `a=rtcp-fb:${opus} transport-cc`);
    }
    lines.push(`a=msid:load ${names[at]}`, `a=ssrc:${track.ssrc} cname:load`);
    if (video) lines.push(`a=ssrc:${track.rtx} cname:load`);
  });
  return text(lines);
}

/** Says yes to all media that is offered. */
export function answer(request, sections) {
  const media = sections.filter(({ kind }) => kind !== "application");
  const lines = head(request, media.map(({ mid }) => mid));
  for (const offered of sections) {
    const { kind, types, mid, kept } = offered;
    if (kind === "application") lines.push(...refused(offered));
    else lines.push(...section(kind, types, mid, "recvonly"), ...kept);
  }
  return text(lines);
}

/** Where a candidate is, if it is one of UDP on this machine's IPv4. */
export function address(candidate) {
  const [, ip, port] = candidate.match(/candidate:\S+ 1 udp \d+ (\d+\.\d+\.\d+\.\d+) (\d+) typ host/i) ?? [];
  return ip && `${ip}:${port}`;
}

/** What a server says: its media sections, where to connect, and with which credentials. */
export function parse(sdp) {
  const [first, ...rest] = sdp.split(/^m=/m);
  const find = (text, pattern) => text.match(pattern)?.[1];
  const all = (text, pattern) => [...text.matchAll(pattern)].map((match) => match[0].trim());
  const sections = rest.map((text) => {
    const [kind, , protocol, ...types] = text.split("\r\n")[0].split(" ");
    return {
      kind,
      protocol,
      types,
      mid: find(text, /^a=mid:(\S+)/m),
      track: find(text, /^a=msid:\S+ (\S+)/m),
      kept: all(text, /^a=(rtpmap|rtcp-fb|fmtp|extmap):.*$/gm),
      ssrc: Number(find(text, /^a=ssrc:(\d+)/m)),
      rtx: Number(find(text, /^a=ssrc-group:FID \d+ (\d+)/m)) || undefined,
      transportCc: Number(find(text, new RegExp(`^a=extmap:(\\d+) ${TRANSPORT_CC}`, "m"))) || undefined,
    };
  });
  const credentials = rest[0] + first;
  const [ufrag, password] = [find(credentials, /^a=ice-ufrag:(\S+)/m), find(credentials, /^a=ice-pwd:(\S+)/m)];
  return { sections, connect: { address: address(sdp), ufrag, password } };
}
