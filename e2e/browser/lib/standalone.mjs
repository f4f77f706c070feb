// Where calls are when there is no Kubernetes: all on one media node that was started by hand.

import { Problem } from './problem.mjs';
import { mintToken } from './token.mjs';

/** @typedef {import('./token.mjs').SigningKey} SigningKey */
/** @typedef {import('./route.mjs').Serving} Serving */

export class Standalone {
  /**
   * @param {string} api URL of the media node
   * @param {SigningKey} signer
   */
  constructor(api, signer) {
    this.api = api;
    this.signer = signer;
    this.epoch = 1;
  }

  describe() {
    return `the media node at ${this.api}`;
  }

  /**
   * Without an operator nobody else makes the room, and a node that was restarted has forgotten it.
   * @param {string} callId
   * @returns {Promise<Serving>}
   */
  async serving(callId) {
    await this.create(callId);
    return { epoch: this.epoch, api: this.api };
  }

  /** @param {string} _callId @param {number} epoch @returns {Promise<Serving>} */
  async servingEpoch(_callId, epoch) {
    return { epoch, api: this.api };
  }

  forget() {}

  async signingKey() {
    return this.signer;
  }

  close() {}

  /**
   * Makes the room, or gives it other settings.
   * @param {string} callId
   * @param {{maxParticipants?: number, media?: Record<string, unknown>}} [settings] as the API's `create` takes them
   */
  async create(callId, settings = {}) {
    const { token } = mintToken(
      this.signer,
      { callId, user: 'browser-dev-server', epoch: this.epoch, role: 'admin', grants: ['admin'], ttlSeconds: 60 },
      Date.now(),
    );
    let answer;
    try {
      answer = await fetch(`${this.api}/api/rooms/${callId}/create`, {
        method: 'POST',
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
        body: JSON.stringify(settings),
        signal: AbortSignal.timeout(5000),
      });
    } catch (error) {
      const reason = error instanceof Error ? (/** @type {any} */ (error).cause?.message ?? error.message) : error;
      throw new Problem(502, 'node-unreachable', `no media node answers at ${this.api}: ${reason}`);
    }
    if (!answer.ok && answer.status !== 409) {
      throw new Problem(502, 'node-refused', `the media node refused to make room ${callId}: ${answer.status} ${await answer.text()}`);
    }
  }
}
