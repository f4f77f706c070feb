// What a Service does for connections, in a process: each goes to one of several ports, with or without
// `sessionAffinity: ClientIP`.

import { Agent } from 'node:http';
import { connect, createServer } from 'node:net';

export class Balancer {
  /** @type {Map<string, number[]>} by address of a client: which of the ports its connections went to, one after the other */
  went = new Map();
  #next = 0;
  /** @type {Set<import('node:net').Socket>} */
  #open = new Set();

  /** @param {number[]} ports @param {boolean} isSticky */
  constructor(ports, isSticky) {
    this.ports = ports;
    this.isSticky = isSticky;
    this.server = createServer((client) => this.#carry(client));
  }

  /** @param {number[]} ports @param {{affinity: 'ClientIP' | 'None'}} options */
  static async start(ports, { affinity }) {
    const balancer = new Balancer(ports, affinity === 'ClientIP');
    await new Promise((resolve) => balancer.server.listen(0, '127.0.0.1', () => resolve(undefined)));
    return balancer;
  }

  get url() {
    const { port } = /** @type {import('node:net').AddressInfo} */ (this.server.address());
    return `http://127.0.0.1:${port}`;
  }

  stop() {
    for (const socket of this.#open) socket.destroy();
    return new Promise((resolve) => this.server.close(() => resolve(undefined)));
  }

  /** @param {import('node:net').Socket} client */
  #carry(client) {
    const address = client.remoteAddress ?? '';
    const before = this.went.get(address) ?? [];
    const at = this.isSticky && before[0] !== undefined ? before[0] : this.#next++ % this.ports.length;
    this.went.set(address, [...before, at]);
    const replica = connect(this.ports[at] ?? 0, '127.0.0.1');
    for (const [one, other] of /** @type {[import('node:net').Socket, import('node:net').Socket][]} */ ([[client, replica], [replica, client]])) {
      this.#open.add(one);
      one.on('error', () => other.destroy()).on('close', () => this.#open.delete(one));
      one.pipe(other);
    }
  }
}

/**
 * How a `socket.io-client` polls from an address of its own, each request on a connection of its own. All of 127.0.0.0/8 is this
 * machine's.
 * @param {string} localAddress
 */
export function pollingFrom(localAddress) {
  // In Node.js it is an agent, which the types do not know.
  const agent = /** @type {any} */ (new Agent({ keepAlive: false, localAddress }));
  return /** @type {Partial<import('socket.io-client').ManagerOptions>} */ ({ transports: ['polling'], agent });
}
