// A participant with plain `socket.io-client`, as docs/signalling.md has one: nothing of ours between it and the gateway.

import { io } from 'socket.io-client';

/** How long anything may take, on whatever machine runs the tests. */
export const LATE_MS = 90_000;

/** @typedef {{name: string, data: any}} Came */

export class Client {
  /** @type {Came[]} what came and was not asked for yet */
  events = [];
  /** @type {any} the last `call:joined` */
  joined;
  /** @type {string | undefined} place of the last event */
  seq;
  /** @type {Set<() => void>} */
  #waiting = new Set();

  /** @param {string} url @param {Partial<import('socket.io-client').ManagerOptions>} [options] */
  constructor(url, options = {}) {
    this.socket = io(url, { forceNew: true, reconnection: false, transports: ['websocket'], ...options });
    this.socket.onAny((name, data) => this.#came(name, data));
    this.socket.on('connect', () => this.#came('connect', {}));
    this.socket.on('connect_error', (error) => this.#came('connect_error', { message: error.message }));
    this.socket.on('disconnect', (reason) => this.#came('disconnect', { reason }));
  }

  /** Connected, and in no call. @param {string} url @param {Partial<import('socket.io-client').ManagerOptions>} [options] */
  static async connect(url, options) {
    const client = new Client(url, options);
    await client.expect('connect');
    return client;
  }

  /** In a call. @param {string} url @param {string} roomId @param {string} token @param {object} [more] */
  static async join(url, roomId, token, more) {
    const client = await Client.connect(url);
    const answer = await client.join(roomId, token, more);
    if (answer.error) throw new Error(JSON.stringify(answer.error));
    return client;
  }

  /** @param {string} roomId @param {string} token @param {object} [more] */
  async join(roomId, token, more = {}) {
    const answer = await this.ask('join-room', { roomId, token, ...more });
    if (!answer.error) {
      this.joined = answer;
      this.seq = answer.seq;
    }
    return answer;
  }

  /** What is to be given to `join-room` to come back. */
  get resume() {
    return { session: this.joined.session, seq: this.seq };
  }

  /** @param {string} name @param {any} data */
  #came(name, data) {
    if (data?.seq && name !== 'call:joined') this.seq = data.seq;
    this.events.push({ name, data });
    for (const wake of this.#waiting) wake();
  }

  /** @param {string} event @param {any} [data] @returns {Promise<any>} the acknowledgement */
  ask(event, data = {}) {
    return this.socket.timeout(LATE_MS).emitWithAck(event, data);
  }

  /** The code and status of what an event is refused with. @param {string} event @param {any} [data] */
  async refusal(event, data = {}) {
    const { error } = await this.ask(event, data);
    return error && `${error.code} ${error.status}${error.field ? ` ${error.field}` : ''}`;
  }

  /**
   * The first event of this name that came and was not asked for yet, now or later.
   * @param {string} name
   * @param {(data: any) => boolean} [is]
   * @returns {Promise<any>}
   */
  async expect(name, is = () => true, withinMs = LATE_MS) {
    const until = Date.now() + withinMs;
    for (;;) {
      const at = this.events.findIndex((event) => event.name === name && is(event.data));
      if (at >= 0) return this.events.splice(at, 1)[0]?.data;
      const left = until - Date.now();
      if (left <= 0) throw new Error(`${name} did not come within ${withinMs / 1000} s: ${JSON.stringify(this.events).slice(0, 3000)}`);
      await new Promise((resolve) => {
        const done = () => {
          clearTimeout(timer);
          this.#waiting.delete(done);
          resolve(undefined);
        };
        const timer = setTimeout(done, left);
        this.#waiting.add(done);
      });
    }
  }

  /** Whether none of these came until now, of what happened before this is asked. @param {...string} names */
  async heardNothingOf(...names) {
    // Events and answers of a socket keep their order.
    await this.ask('no-such-event');
    return !this.events.some(({ name }) => names.includes(name));
  }

  close() {
    this.socket.disconnect();
  }
}

/**
 * Asks until the answer will do.
 * @template T
 * @param {string} what
 * @param {() => T | Promise<T>} ask
 * @param {(answer: T) => boolean} isGood
 * @returns {Promise<T>}
 */
export async function until(what, ask, isGood, withinMs = LATE_MS) {
  const late = Date.now() + withinMs;
  for (;;) {
    const answer = await ask();
    if (isGood(answer)) return answer;
    if (Date.now() > late) throw new Error(`not within ${withinMs / 1000} s: ${what}: ${JSON.stringify(answer)?.slice(0, 3000)}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
