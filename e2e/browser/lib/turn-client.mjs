// A TURN client that asks for a relay and for permissions, over UDP, TCP and TLS (RFC 8656), to hear what is refused.

import { createHash, createHmac, randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { connect as connectTcp, isIPv4 } from 'node:net';
import { connect as connectTls } from 'node:tls';

const COOKIE = 0x2112a442;
const METHOD = { allocate: 0x003, createPermission: 0x008 };
const ATTRIBUTE = { username: 0x0006, integrity: 0x0008, errorCode: 0x0009, peer: 0x0012, realm: 0x0014, nonce: 0x0015, transport: 0x0019 };
const UDP = 17;
const ANSWER_MS = 5000;
/** A datagram may be lost: asked so often. */
const ATTEMPTS = 4;

/** @typedef {{username: string, credential: string}} Credential */

/** What `use-auth-secret` servers take for `secret` until `ends`, in seconds since 1970. @param {string} secret @param {number} ends @returns {Credential} */
export function mint(secret, ends, id = 'e2e') {
  const username = `${ends}:${id}`;
  return { username, credential: createHmac('sha1', secret).update(username).digest('base64') };
}

/** @param {number} type @param {Buffer} value */
function attribute(type, value) {
  const head = Buffer.alloc(4);
  head.writeUInt16BE(type, 0);
  head.writeUInt16BE(value.length, 2);
  return Buffer.concat([head, value, Buffer.alloc((4 - (value.length % 4)) % 4)]);
}

/** @param {number} method @param {Buffer[]} attributes @param {Buffer} [key] signs the message */
function request(method, attributes, key) {
  const body = Buffer.concat(attributes);
  const head = Buffer.alloc(20);
  head.writeUInt16BE(method, 0);
  // With the integrity that follows: it is over a header that counts it.
  head.writeUInt16BE(body.length + (key ? 24 : 0), 2);
  head.writeUInt32BE(COOKIE, 4);
  randomBytes(12).copy(head, 8);
  const message = Buffer.concat([head, body]);
  return key ? Buffer.concat([message, attribute(ATTRIBUTE.integrity, createHmac('sha1', key).update(message).digest())]) : message;
}

/** @param {Buffer} message */
function parse(message) {
  /** @type {Map<number, Buffer>} */
  const attributes = new Map();
  for (let at = 20; at + 4 <= message.length;) {
    const length = message.readUInt16BE(at + 2);
    attributes.set(message.readUInt16BE(at), message.subarray(at + 4, at + 4 + length));
    at += 4 + length + ((4 - (length % 4)) % 4);
  }
  const error = attributes.get(ATTRIBUTE.errorCode);
  const isError = (message.readUInt16BE(0) & 0x0110) === 0x0110;
  return { id: message.toString('hex', 8, 20), code: isError && error ? (error[2] ?? 0) * 100 + (error[3] ?? 0) : 0, attributes };
}

/** @param {string} ip an IPv4 address */
function peer(ip) {
  if (!isIPv4(ip)) throw new Error(`${ip} is no IPv4 address`);
  const value = Buffer.alloc(8);
  value[1] = 1;
  value.writeUInt16BE(9 ^ (COOKIE >>> 16), 2);
  value.writeUInt32BE((Buffer.from(ip.split('.').map(Number)).readUInt32BE(0) ^ COOKIE) >>> 0, 4);
  return attribute(ATTRIBUTE.peer, value);
}

export class TurnClient {
  /** @type {Map<string, (message: ReturnType<typeof parse>) => void>} by transaction */
  #waiting = new Map();
  #realm = '';
  #nonce = '';
  /** @type {(data: Buffer) => void} */
  #send = () => {};
  /** @type {() => void} */
  close = () => {};

  /** @param {Credential} credential */
  constructor(credential) {
    this.credential = credential;
  }

  /** @param {{way: 'udp' | 'tcp' | 'tls', host: string, port: number}} server @param {Credential} credential */
  static async to({ way, host, port }, credential) {
    const client = new TurnClient(credential);
    if (way === 'udp') {
      const socket = createSocket('udp4');
      await new Promise((resolve) => socket.connect(port, host, () => resolve(undefined)));
      socket.on('message', (data) => client.#hear(data));
      // A port that nobody listens on says so; the answer that does not come is what is told.
      socket.on('error', () => {});
      client.#send = (data) => socket.send(data);
      client.close = () => socket.close();
      return client;
    }
    const socket = way === 'tls' ? connectTls({ host, port, rejectUnauthorized: false }) : connectTcp({ host, port });
    await new Promise((resolve, reject) => {
      socket.once(way === 'tls' ? 'secureConnect' : 'connect', resolve);
      socket.once('error', reject);
    });
    socket.on('error', () => {});
    let rest = Buffer.alloc(0);
    socket.on('data', (data) => {
      rest = Buffer.concat([rest, data]);
      while (rest.length >= 20 && rest.length >= 20 + rest.readUInt16BE(2)) {
        const length = 20 + rest.readUInt16BE(2);
        client.#hear(rest.subarray(0, length));
        rest = rest.subarray(length);
      }
    });
    client.#send = (data) => void socket.write(data);
    client.close = () => socket.destroy();
    return client;
  }

  /** 0, or the code of the refusal. */
  allocate() {
    return this.#ask(METHOD.allocate, [attribute(ATTRIBUTE.transport, Buffer.from([UDP, 0, 0, 0]))]);
  }

  /** 0, or the code of the refusal. @param {string} ip */
  permit(ip) {
    return this.#ask(METHOD.createPermission, [peer(ip)]);
  }

  /** @param {number} method @param {Buffer[]} what @returns {Promise<number>} */
  async #ask(method, what) {
    // The first answer names the realm and a nonce, and a later one maybe another nonce.
    for (let attempt = 0; attempt < 3; attempt += 1) {
      const answer = await this.#once(method, what);
      const nonce = answer.attributes.get(ATTRIBUTE.nonce)?.toString();
      const asksAnew = answer.code === 438 || (answer.code === 401 && !this.#nonce);
      if (!asksAnew || !nonce) return answer.code;
      this.#nonce = nonce;
      this.#realm = answer.attributes.get(ATTRIBUTE.realm)?.toString() ?? '';
    }
    throw new Error('the server asks for another nonce again and again');
  }

  /** @param {number} method @param {Buffer[]} what */
  async #once(method, what) {
    const { username, credential } = this.credential;
    const key = this.#nonce ? createHash('md5').update(`${username}:${this.#realm}:${credential}`).digest() : undefined;
    const login = [[ATTRIBUTE.username, username], [ATTRIBUTE.realm, this.#realm], [ATTRIBUTE.nonce, this.#nonce]];
    const attributes = key ? login.map(([type, text]) => attribute(Number(type), Buffer.from(String(text)))) : [];
    const message = request(method, [...what, ...attributes], key);
    const id = message.toString('hex', 8, 20);
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      /** @type {ReturnType<typeof parse> | undefined} */
      const answer = await new Promise((resolve) => {
        const late = setTimeout(() => resolve(undefined), ANSWER_MS);
        this.#waiting.set(id, (heard) => {
          clearTimeout(late);
          resolve(heard);
        });
        this.#send(message);
      });
      this.#waiting.delete(id);
      if (answer) return answer;
    }
    throw new Error(`the TURN server does not answer within ${(ATTEMPTS * ANSWER_MS) / 1000} s`);
  }

  /** @param {Buffer} data */
  #hear(data) {
    if (data.length < 20) return;
    const message = parse(data);
    this.#waiting.get(message.id)?.(message);
  }
}
