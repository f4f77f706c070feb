// A path between pages and a media node that can be narrow, lose packets, and come from elsewhere all of a sudden, as
// paths through somebody else's network do.
//
// Pages are given its address in the place of the node's. Datagrams are passed on as they are: DTLS and SRTP are
// between the page and the node, and each page keeps a port of its own towards the node, as behind a NAT.

import { createSocket } from 'node:dgram';
import { once } from 'node:events';

/** What waits for a narrow path at most, in milliseconds; what comes then is lost, as in a router's queue. */
const QUEUE_MS = 300;

/**
 * A port towards the node. `early` counts what the node sent there before the page had sent a connectivity check from it.
 * @typedef {{socket: import('node:dgram').Socket, port: number, isChecked: boolean, early: number}} Port
 */

export class Path {
  /** Of what goes to pages, in bits per second of UDP payload. */
  rate = Infinity;
  /** Every so manieth RTP packet of pages is lost; 0: none. */
  losesEach = 0;
  /** What was lost so far: by `losesEach`, and because the path was too narrow. */
  lost = 0;
  dropped = 0;
  /** @type {Map<number, Promise<Port>>} by the page's port */
  #ports = new Map();
  /** @type {Port[]} those that were before */
  #left = [];
  #sent = 0;
  /** When a narrow path will have sent what waits for it. */
  #free = 0;
  #closed = false;

  /** @param {import('node:dgram').Socket} front @param {string} host @param {number} target the node's port on this host */
  constructor(front, host, target) {
    this.front = front;
    this.host = host;
    this.target = target;
    front.on('message', (packet, { port }) => void this.#toNode(packet, port));
  }

  /** A path to a port of this machine. @param {string} host @param {number} target */
  static async to(host, target) {
    const front = createSocket('udp4');
    front.bind(0, host);
    await once(front, 'listening');
    return new Path(front, host, target);
  }

  /** Where pages reach it. @returns {{ip: string, port: number}} */
  get via() {
    return { ip: this.host, port: this.front.address().port };
  }

  /** From now on everything comes from other ports, and what is sent to those of before is lost. */
  async move() {
    const pages = [...this.#ports.keys()];
    for (const left of await Promise.all(this.#ports.values())) {
      this.#left.push(left);
      left.socket.close();
    }
    for (const page of pages) this.#ports.set(page, this.#open(page));
    await Promise.all(this.#ports.values());
  }

  /** The ports towards the node, and what came to them unasked. */
  async ports() {
    const all = await Promise.all(this.#ports.values());
    return { now: all.map(({ port }) => port), before: this.#left.map(({ port }) => port), early: all.reduce((sum, { early }) => sum + early, 0) };
  }

  async close() {
    this.#closed = true;
    this.front.close();
    for (const { socket } of await Promise.all(this.#ports.values())) socket.close();
  }

  /** @param {number} page @returns {Promise<Port>} */
  async #open(page) {
    const socket = createSocket('udp4');
    socket.bind(0, this.host);
    await once(socket, 'listening');
    const port = { socket, port: socket.address().port, isChecked: false, early: 0 };
    socket.on('message', (packet) => {
      if (!port.isChecked) port.early += 1;
      this.#toPage(packet, page);
    });
    return port;
  }

  /** @param {Buffer} packet @param {number} page its port */
  async #toNode(packet, page) {
    if (isMedia(packet) && this.losesEach > 0 && (this.#sent += 1) % this.losesEach === 0) {
      this.lost += 1;
      return;
    }
    if (!this.#ports.has(page)) this.#ports.set(page, this.#open(page));
    const port = await this.#ports.get(page);
    if (!port || this.#closed) return;
    if (isCheck(packet)) port.isChecked = true;
    // A socket that was closed meanwhile was moved away from.
    try {
      port.socket.send(packet, this.target, this.host);
    } catch (error) {
      if (/** @type {any} */ (error).code !== 'ERR_SOCKET_DGRAM_NOT_RUNNING') throw error;
    }
  }

  /** @param {Buffer} packet @param {number} page */
  #toPage(packet, page) {
    const now = performance.now();
    const wait = Math.max(0, this.#free - now);
    if (wait > QUEUE_MS) {
      this.dropped += 1;
      return;
    }
    this.#free = now + wait + (packet.length * 8000) / this.rate;
    const send = () => {
      if (!this.#closed) this.front.send(packet, page, this.host);
    };
    if (wait < 1) send();
    else setTimeout(send, wait);
  }
}

/** RTP, and not RTCP (RFC 7983, RFC 5761). @param {Buffer} packet */
function isMedia(packet) {
  const [first = 0, second = 0] = packet;
  return first >= 128 && first < 192 && !(second >= 192 && second < 224);
}

/** A binding request (RFC 8489). @param {Buffer} packet */
const isCheck = (packet) => packet.length >= 20 && packet.readUInt16BE(0) === 1;
