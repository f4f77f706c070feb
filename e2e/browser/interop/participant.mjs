// A participant that is no browser, as the node's HTTP API sees it.

import { mintToken } from '../lib/token.mjs';

/** @typedef {{sdp: string, end(): Promise<number>}} Session  An answer, and how to end what it began. */

export class Participant {
  /** @param {import('../lib/standalone.mjs').Standalone} directory @param {string} room @param {string} user */
  constructor({ api, signer, epoch }, room, user) {
    this.api = api;
    this.room = room;
    this.token = mintToken(signer, { callId: room, user, epoch }, Date.now()).token;
  }

  /** @param {string} method @param {string} path below the room's @param {object} [body] @returns {Promise<any>} */
  async ask(method, path, body) {
    const answer = await this.#fetch(method, `/api/rooms/${this.room}${path}`, body && { type: 'application/json', text: JSON.stringify(body) });
    return answer.status === 204 ? undefined : answer.json();
  }

  /** Publishes by WHIP. @param {string} offer */
  whip(offer) {
    return this.#session(`/whip/${this.room}`, offer);
  }

  /** Plays by WHEP. @param {string} offer @param {string} query */
  whep(offer, query) {
    return this.#session(`/whep/${this.room}${query}`, offer);
  }

  /** @param {string} path @param {string} offer @returns {Promise<Session>} */
  async #session(path, offer) {
    const answer = await this.#fetch('POST', path, { type: 'application/sdp', text: offer });
    const location = answer.headers.get('location') ?? '';
    return { sdp: await answer.text(), end: async () => (await this.#fetch('DELETE', location)).status };
  }

  /** @param {string} method @param {string} path @param {{type: string, text: string}} [body] */
  async #fetch(method, path, body) {
    const answer = await fetch(new URL(path, this.api), {
      method,
      headers: { authorization: `Bearer ${this.token}`, ...(body ? { 'content-type': body.type } : {}) },
      ...(body ? { body: body.text } : {}),
    });
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
    return answer;
  }
}

/**
 * The answer to an offer of data channels alone, as of a transport that the node has made: programs that speak SDP
 * can then use mediasoup's data producers and consumers.
 * @param {any} transport what `POST /transports` answered
 * @param {string} mid of the offer
 */
export function dataAnswer({ iceParameters, iceCandidates, dtlsParameters, sctpParameters }, mid) {
  const { algorithm, value } = dtlsParameters.fingerprints.find((/** @type {any} */ print) => print.algorithm === 'sha-256');
  const candidates = iceCandidates.filter((/** @type {any} */ { protocol }) => protocol === 'udp').map((/** @type {any} */ one) => (
    `a=candidate:${one.foundation} 1 udp ${one.priority} ${one.ip} ${one.port} typ host`));
  return [
    'v=0', 'o=- 1 1 IN IP4 0.0.0.0', 's=-', 't=0 0', 'a=ice-lite', `a=group:BUNDLE ${mid}`,
    'm=application 9 UDP/DTLS/SCTP webrtc-datachannel', 'c=IN IP4 0.0.0.0', `a=mid:${mid}`,
    `a=ice-ufrag:${iceParameters.usernameFragment}`, `a=ice-pwd:${iceParameters.password}`, ...candidates, 'a=end-of-candidates',
    `a=fingerprint:${algorithm} ${value}`, 'a=setup:passive',
    `a=sctp-port:${sctpParameters.port}`, `a=max-message-size:${sctpParameters.maxMessageSize}`, '',
  ].join('\r\n');
}

/** What `connect` wants of an offer. @param {string} sdp */
export function dtlsOf(sdp) {
  const [, algorithm, value] = /^a=fingerprint:(\S+) (\S+)/m.exec(sdp) ?? [];
  return { role: 'client', fingerprints: [{ algorithm: algorithm?.toLowerCase(), value }] };
}

/** The `mid` of an offer's only section. @param {string} sdp */
export const midOf = (sdp) => /^a=mid:(\S+)/m.exec(sdp)?.[1] ?? '';

/**
 * The size of a VP8 key frame (RFC 7741 §4, RFC 6386 §9.1), if this RTP payload begins one.
 * @param {Buffer} payload
 * @returns {[number, number] | undefined}
 */
export function vp8KeyFrame(payload) {
  const first = payload[0] ?? 0;
  if ((first & 0x10) === 0 || (first & 0x07) !== 0) return undefined;
  let at = 1;
  if (first & 0x80) {
    const extension = payload[at++] ?? 0;
    if (extension & 0x80) at += (payload[at] ?? 0) & 0x80 ? 2 : 1;
    if (extension & 0x40) at += 1;
    if (extension & 0x30) at += 1;
  }
  const frame = payload.subarray(at);
  if (frame.length < 10 || ((frame[0] ?? 1) & 1) !== 0 || frame.readUIntBE(3, 3) !== 0x9d012a) return undefined;
  return [frame.readUInt16LE(6) & 0x3fff, frame.readUInt16LE(8) & 0x3fff];
}
