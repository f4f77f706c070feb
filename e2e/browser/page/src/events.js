// The events of a call, over a WebSocket that comes back by itself.

import { Backoff, sleep } from './backoff.js';

/** Version of the event protocol; the token travels as a second subprotocol, since browsers cannot set headers here. */
const PROTOCOL = 'callplane.v1';
/** A connection that lived this long was a good one: the next attempt after it is at once. */
const GOOD_AFTER_MS = 5000;

/**
 * @typedef {{type: string, data: any}} Event
 * @typedef {{
 *   token(first: boolean): Promise<string>,
 *   onEvent(event: Event): void,
 *   onState(state: 'open' | 'down', detail: string): void,
 * }} Listener
 */

export class EventStream {
  #stopped = new AbortController();
  /** @type {WebSocket | undefined} */
  #socket;
  reconnects = 0;

  /** @param {string} callId @param {Listener} listener */
  constructor(callId, listener) {
    this.url = new URL(`/api/rooms/${encodeURIComponent(callId)}/events`, location.href);
    this.url.protocol = this.url.protocol.replace('http', 'ws');
    this.url.hash = '';
    this.listener = listener;
    void this.#run();
  }

  close() {
    this.#stopped.abort();
    this.#socket?.close(1000, 'left');
  }

  async #run() {
    const { signal } = this.#stopped;
    const backoff = new Backoff({ limitMs: 1000 });
    for (let first = true; !signal.aborted; first = false) {
      const began = performance.now();
      let why;
      try {
        const token = await this.listener.token(first);
        if (signal.aborted) return;
        why = await this.#connection(token);
      } catch (error) {
        why = error instanceof Error ? error.message : String(error);
      }
      if (signal.aborted) return;
      if (performance.now() - began > GOOD_AFTER_MS) backoff.reset();
      this.listener.onState('down', why);
      await sleep(backoff.next(), signal);
      this.reconnects += 1;
    }
  }

  /** Resolves with the reason when the connection has ended. @param {string} token @returns {Promise<string>} */
  #connection(token) {
    return new Promise((resolve) => {
      const socket = new WebSocket(this.url, [PROTOCOL, `bearer.${token}`]);
      this.#socket = socket;
      socket.onopen = () => this.listener.onState('open', '');
      socket.onclose = ({ code, reason }) => resolve(reason || `closed (${code})`);
      socket.onmessage = ({ data }) => {
        if (typeof data !== 'string' || this.#stopped.signal.aborted) return;
        this.listener.onEvent(JSON.parse(data));
      };
    });
  }
}
