// What WebRTC statistics say, per participant and second.

/** @typedef {{timestamp: number, type: string, id: string, [field: string]: any}} Stat */
/** @typedef {{forEach(visit: (stat: any) => void): void}} Report  An RTCStatsReport. */

/** Counters of a received stream that add up over all the streams of a participant. */
const COUNTERS = /** @type {const} */ ([
  'framesDecoded', 'framesDropped', 'keyFramesDecoded', 'freezeCount', 'totalFreezesDuration', 'packetsReceived', 'packetsLost',
  'nackCount', 'pliCount', 'totalSamplesReceived', 'concealedSamples', 'totalAudioEnergy', 'totalSamplesDuration',
]);

/** Rates are over this long, in milliseconds: one second is too coarse for what is asked once a second. */
const RATE_WINDOW_MS = 1900;

/**
 * The streams that a connection receives, by the id of their track.
 * @param {Report} report
 * @returns {Map<string, Stat>}
 */
export function inboundByTrack(report) {
  /** @type {Map<string, Stat>} */
  const codecs = new Map();
  /** @type {Map<string, Stat>} */
  const inbound = new Map();
  report.forEach((stat) => {
    if (stat.type === 'codec') codecs.set(stat.id, stat);
    if (stat.type === 'inbound-rtp' && stat.trackIdentifier) inbound.set(stat.trackIdentifier, stat);
  });
  return new Map([...inbound].map(([track, stat]) => [track, { ...stat, codec: codecs.get(stat.codecId)?.mimeType }]));
}

/**
 * How a connection is: states, the path in use, what protects it.
 * @param {Report} report
 */
export function connectionOf(report) {
  /** @type {Map<string, Stat>} */
  const byId = new Map();
  report.forEach((stat) => byId.set(stat.id, stat));
  const transport = [...byId.values()].find(({ type }) => type === 'transport');
  const pair = byId.get(transport?.selectedCandidatePairId);
  const address = (/** @type {Stat | undefined} */ c) => c && `${c.address ?? '?'}:${c.port}/${c.protocol}`;
  return {
    iceState: transport?.iceState,
    dtlsState: transport?.dtlsState,
    dtlsCipher: transport?.dtlsCipher,
    srtpCipher: transport?.srtpCipher,
    local: address(byId.get(pair?.localCandidateId)),
    remote: address(byId.get(pair?.remoteCandidateId)),
    roundTripMs: pair?.currentRoundTripTime === undefined ? undefined : Math.round(pair.currentRoundTripTime * 10_000) / 10,
    availableOutgoingBitrate: pair?.availableOutgoingBitrate,
    bytesSent: transport?.bytesSent,
    bytesReceived: transport?.bytesReceived,
  };
}

/**
 * What a connection sends, by kind.
 * @param {Report} report
 */
export function outboundByKind(report) {
  /** @type {Map<string, Stat>} */
  const codecs = new Map();
  /** @type {Stat[]} */
  const streams = [];
  report.forEach((stat) => {
    if (stat.type === 'codec') codecs.set(stat.id, stat);
    if (stat.type === 'outbound-rtp') streams.push(stat);
  });
  return Object.fromEntries(streams.map((stat) => [stat.kind, {
    codec: codecs.get(stat.codecId)?.mimeType,
    width: stat.frameWidth,
    height: stat.frameHeight,
    fps: stat.framesPerSecond,
    framesEncoded: stat.framesEncoded,
    bytesSent: stat.bytesSent,
    packetsSent: stat.packetsSent,
    retransmittedPackets: stat.retransmittedPacketsSent,
    nackCount: stat.nackCount,
    pliCount: stat.pliCount,
    limitedBy: stat.qualityLimitationReason,
  }]));
}

/** What was received of one kind (audio or video) from one participant, over all streams that carried it. */
export class Received {
  /** @type {Map<string, Stat>} */
  #last = new Map();
  /** @type {{at: number, total: Record<string, number>}[]} */
  #history = [];
  /** @type {Record<string, number>} */
  total = Object.fromEntries(COUNTERS.map((name) => [name, 0]));
  /** @type {Stat | undefined} */
  latest;

  /**
   * A stream begins at zero when the participant is consumed anew (another route, a reconnect); the totals go on.
   * @param {number} at milliseconds
   * @param {Stat} stat an inbound-rtp
   */
  observe(at, stat) {
    const stream = `${stat.trackIdentifier}/${stat.ssrc}`;
    const before = this.#last.get(stream);
    for (const name of COUNTERS) this.total[name] = (this.total[name] ?? 0) + ((stat[name] ?? 0) - (before?.[name] ?? 0));
    this.#last.set(stream, stat);
    this.latest = stat;
    this.#remember(at);
  }

  /** Nothing is received now. @param {number} at milliseconds */
  rest(at) {
    if (this.latest) this.#remember(at);
  }

  /** @param {number} at */
  #remember(at) {
    this.#history.push({ at, total: { ...this.total } });
    while (this.#history.length > 2 && at - (this.#history[1]?.at ?? at) >= RATE_WINDOW_MS) this.#history.shift();
  }

  /** Growth of a counter per second, lately. @param {typeof COUNTERS[number]} name */
  rate(name) {
    const { seconds, grown } = this.#lately(name);
    return seconds > 0 ? grown / seconds : 0;
  }

  /** Root mean square of the sound lately, 0 to 1; works as long as the element that plays it is not muted. */
  level() {
    const energy = this.#lately('totalAudioEnergy').grown;
    const duration = this.#lately('totalSamplesDuration').grown;
    return duration > 0 ? Math.sqrt(Math.max(0, energy) / duration) : 0;
  }

  /** @param {string} name */
  #lately(name) {
    const [first, last] = [this.#history[0], this.#history.at(-1)];
    if (!first || !last) return { seconds: 0, grown: 0 };
    return { seconds: (last.at - first.at) / 1000, grown: (last.total[name] ?? 0) - (first.total[name] ?? 0) };
  }

  video() {
    const { total, latest } = this;
    return {
      codec: latest?.codec,
      width: latest?.frameWidth ?? 0,
      height: latest?.frameHeight ?? 0,
      fps: round(this.rate('framesDecoded'), 1),
      framesDecoded: total.framesDecoded ?? 0,
      keyFramesDecoded: total.keyFramesDecoded ?? 0,
      framesDropped: total.framesDropped ?? 0,
      freezeCount: total.freezeCount ?? 0,
      freezeSeconds: round(total.totalFreezesDuration ?? 0, 3),
      packetsReceived: total.packetsReceived ?? 0,
      packetsLost: total.packetsLost ?? 0,
      nackCount: total.nackCount ?? 0,
      pliCount: total.pliCount ?? 0,
      decoder: latest?.decoderImplementation,
    };
  }

  audio() {
    const { total, latest } = this;
    return {
      codec: latest?.codec,
      level: round(this.level(), 5),
      samples: total.totalSamplesReceived ?? 0,
      realSamples: (total.totalSamplesReceived ?? 0) - (total.concealedSamples ?? 0),
      concealedSamples: total.concealedSamples ?? 0,
      packetsReceived: total.packetsReceived ?? 0,
      packetsLost: total.packetsLost ?? 0,
      jitterMs: round((latest?.jitter ?? 0) * 1000, 1),
    };
  }
}

/** @param {number} value @param {number} digits */
function round(value, digits) {
  return Number(value.toFixed(digits));
}
