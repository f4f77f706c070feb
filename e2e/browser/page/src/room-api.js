// The media node's HTTP API, for one call.

/**
 * @typedef {import('mediasoup-client').types.TransportOptions} TransportOptions
 * @typedef {import('mediasoup-client').types.RtpCapabilities} RtpCapabilities
 * @typedef {import('mediasoup-client').types.RtpParameters} RtpParameters
 * @typedef {import('mediasoup-client').types.DtlsParameters} DtlsParameters
 * @typedef {import('mediasoup-client').types.MediaKind} MediaKind
 *
 * @typedef {{id: string, name?: string, role?: string, joinedAt?: string}} Participant
 * @typedef {{id: string, participantId: string, kind: MediaKind, type?: string, paused?: boolean, appData?: Record<string, unknown>}} ProducerInfo
 * @typedef {{id: string, epoch: number, routerRtpCapabilities: RtpCapabilities, participants: Participant[], producers: ProducerInfo[]}} Room
 * @typedef {{id: string, producerId: string, participantId: string, kind: MediaKind, type: string, rtpParameters: RtpParameters, producerPaused: boolean}} ConsumerInfo
 */

const TIMEOUT_MS = 8000;

/** An answer that is not a success. `code` is stable, `detail` is for people. */
export class ApiError extends Error {
  /** @param {string} what @param {number} status @param {string} code @param {string} detail */
  constructor(what, status, code, detail) {
    super(`${what}: ${detail} (${status} ${code})`);
    this.status = status;
    this.code = code;
  }
}

export class RoomApi {
  /**
   * @param {string} callId
   * @param {() => Promise<string>} token
   */
  constructor(callId, token) {
    this.base = `/api/rooms/${encodeURIComponent(callId)}`;
    this.token = token;
  }

  /** @returns {Promise<Room>} */
  room() {
    return this.#ask('GET', '');
  }

  /** @param {'send' | 'recv'} direction @returns {Promise<TransportOptions>} */
  createTransport(direction) {
    return this.#ask('POST', '/transports', { direction });
  }

  /** @param {string} transport @param {DtlsParameters} dtlsParameters @returns {Promise<void>} */
  connect(transport, dtlsParameters) {
    return this.#ask('POST', `/transports/${transport}/connect`, { dtlsParameters });
  }

  /** @param {string} transport @param {{kind: MediaKind, rtpParameters: RtpParameters, appData: object}} track @returns {Promise<{id: string}>} */
  produce(transport, { kind, rtpParameters, appData }) {
    return this.#ask('POST', `/transports/${transport}/produce`, { kind, rtpParameters, appData });
  }

  /** @param {string} transportId @param {string} producerId @param {RtpCapabilities} rtpCapabilities @returns {Promise<ConsumerInfo>} */
  consume(transportId, producerId, rtpCapabilities) {
    return this.#ask('POST', '/consume', { transportId, producerId, rtpCapabilities });
  }

  /** @param {string} consumer @returns {Promise<void>} */
  resume(consumer) {
    return this.#ask('POST', `/consumers/${consumer}/resume`);
  }

  /** @param {string} consumer @param {{spatialLayer: number, temporalLayer?: number}} layers @returns {Promise<void>} */
  preferLayers(consumer, layers) {
    return this.#ask('POST', `/consumers/${consumer}/preferred-layers`, layers);
  }

  /** @param {string} producer @returns {Promise<void>} */
  unpublish(producer) {
    return this.#ask('DELETE', `/producers/${producer}`);
  }

  /** @param {string} producer @param {boolean} paused @returns {Promise<void>} */
  pause(producer, paused) {
    return this.#ask('POST', `/producers/${producer}/${paused ? 'pause' : 'resume'}`);
  }

  /** @param {string} user @returns {Promise<void>} */
  leave(user) {
    return this.#ask('POST', `/participants/${encodeURIComponent(user)}/leave`, undefined, true);
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {object} [body]
   * @param {boolean} [keepalive] the request outlives the page
   * @returns {Promise<any>}
   */
  async #ask(method, path, body, keepalive = false) {
    const what = `${method} ${path.replace(/[0-9a-f-]{16,}/g, '…') || 'room'}`;
    const answer = await fetch(this.base + path, {
      method,
      headers: {
        authorization: `Bearer ${await this.token()}`,
        ...(body ? { 'content-type': 'application/json' } : {}),
      },
      ...(body ? { body: JSON.stringify(body) } : {}),
      keepalive,
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    const text = await answer.text();
    const json = text && /json/.test(answer.headers.get('content-type') ?? '') ? JSON.parse(text) : undefined;
    if (!answer.ok) throw new ApiError(what, answer.status, json?.code ?? 'unknown', json?.detail ?? (text.slice(0, 200) || answer.statusText));
    return json;
  }
}
