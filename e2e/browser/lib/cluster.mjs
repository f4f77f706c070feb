// Where calls are when Kubernetes says so: the CallRoom's route names a MediaNode, whose status says where its API is.
//
// Talks to the API server through `kubectl proxy` on a Unix socket in a directory that only this user
// can enter: so every way of authentication that the user's kubeconfig knows works here, too.

import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Problem } from './problem.mjs';
import { parseCallId } from './call-id.mjs';
import { apiOf, currentRoute, routeOfEpoch } from './route.mjs';
import { signingKey } from './token.mjs';

const GROUP = '/apis/callplane.io/v1alpha1';
const KEYS = 'callplane-join-keys';
const ANSWER_TIMEOUT_MS = 5000;
/** How long a signing key is used before the Secret is read again: keys are rotated. */
const KEY_LIFETIME_MS = 60_000;

/** @typedef {import('./route.mjs').Serving} Serving */

export class Cluster {
  /** @type {Map<string, Serving & {node: string}>} what was last known, by call and epoch: calls go on while the API server is away */
  #known = new Map();
  /** @type {Set<string>} what is known, but to be asked again */
  #doubted = new Set();
  /** @type {{signer: import('./token.mjs').SigningKey, readAt: number} | undefined} */
  #keys;

  /**
   * @param {string} socket
   * @param {() => Promise<void>} stop
   * @param {string} namespace
   */
  constructor(socket, stop, namespace) {
    this.socket = socket;
    this.stop = stop;
    this.namespace = namespace;
  }

  /**
   * @param {{kubectl?: string[], kubeconfig?: string, namespace?: string}} options
   */
  static async connect({ kubectl = ['kubectl'], kubeconfig, namespace = 'callplane-system' }) {
    const directory = await mkdtemp(join(tmpdir(), 'callplane-browser-'));
    const socket = join(directory, 'kubernetes.sock');
    const [program = 'kubectl', ...first] = kubectl;
    const proxy = spawn(program, [
      ...first, 'proxy', `--unix-socket=${socket}`,
      ...(kubeconfig ? [`--kubeconfig=${kubeconfig}`] : []),
      `--accept-paths=^${GROUP}/,^/api/v1/namespaces/${namespace}/secrets/${KEYS}$`,
      '--reject-methods=^(POST|PUT|PATCH|DELETE)$',
    ], { stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    await new Promise((resolve, reject) => {
      const fail = (/** @type {string} */ why) => reject(new Error(`kubectl proxy ${why}: ${said.trim()}`));
      const listen = (/** @type {Buffer} */ text) => {
        said += text;
        if (said.includes('Starting to serve')) resolve(undefined);
      };
      proxy.stdout.on('data', listen);
      proxy.stderr.on('data', listen);
      proxy.on('error', (error) => fail(error.message));
      proxy.on('exit', (code) => fail(`ended with ${code}`));
      setTimeout(() => fail('did not start within 60 s'), 60_000).unref();
    }).catch(async (error) => {
      proxy.kill();
      await rm(directory, { recursive: true, force: true });
      throw error;
    });
    const stop = async () => {
      proxy.kill();
      await rm(directory, { recursive: true, force: true });
    };
    // However this process ends, the proxy ends with it.
    process.once('exit', () => proxy.kill());
    return new Cluster(socket, stop, namespace);
  }

  describe() {
    return 'the media nodes that Kubernetes names';
  }

  /** @param {string} callId @returns {Promise<Serving>} */
  async serving(callId) {
    const room = await this.#room(callId);
    return { ...(await this.#resolve(callId, currentRoute(room))), roomUid: room?.metadata?.uid };
  }

  /** @param {string} callId @param {number} epoch @returns {Promise<Serving>} */
  async servingEpoch(callId, epoch) {
    const key = `${callId}#${epoch}`;
    const known = this.#known.get(key);
    if (known && !this.#doubted.has(key)) return known;
    try {
      const route = routeOfEpoch(await this.#room(callId), epoch);
      if (!route) throw new Problem(409, 'stale-epoch', `epoch ${epoch} of ${callId} is served nowhere`);
      const serving = await this.#resolve(callId, route);
      this.#doubted.delete(key);
      return serving;
    } catch (error) {
      // The node did not answer, and now the API server does not, either: what was known is the best guess.
      if (known && error instanceof Problem && error.code === 'kubernetes-unavailable') return known;
      throw error;
    }
  }

  /** Called when the node did not answer: the call may have moved. @param {string} callId @param {number} epoch */
  forget(callId, epoch) {
    this.#doubted.add(`${callId}#${epoch}`);
  }

  /** Signs join tokens; the Secret is read again from time to time, and an old key does while it cannot be. */
  async signingKey() {
    const now = Date.now();
    if (this.#keys && now - this.#keys.readAt < KEY_LIFETIME_MS) return this.#keys.signer;
    try {
      const secret = await this.#get(`/api/v1/namespaces/${this.namespace}/secrets/${KEYS}`);
      const field = (/** @type {string} */ name) => {
        const value = secret.data?.[name];
        if (!value) throw new Problem(503, 'no-signing-key', `Secret ${this.namespace}/${KEYS} has no ${name}`);
        return Buffer.from(value, 'base64').toString('utf8');
      };
      this.#keys = { signer: signingKey(field('private.pem'), field('kid').trim()), readAt: now };
    } catch (error) {
      if (!this.#keys) throw error;
    }
    return this.#keys.signer;
  }

  async close() {
    await this.stop();
  }

  /** @param {string} callId @returns {Promise<any>} */
  async #room(callId) {
    const id = parseCallId(callId);
    if (!id) throw new Problem(400, 'invalid-room', `a room is <namespace>.<name> of a CallRoom, not "${callId}"`);
    return this.#get(`${GROUP}/namespaces/${id.namespace}/callrooms/${id.name}`);
  }

  /** @param {string} callId @param {import('./route.mjs').Route} route @returns {Promise<Serving>} */
  async #resolve(callId, { epoch, node }) {
    const key = `${callId}#${epoch}`;
    const known = this.#known.get(key);
    // A room that was deleted and made again counts its epochs from 1 once more, maybe elsewhere.
    if (known?.node === node) return known;
    const object = await this.#get(`${GROUP}/namespaces/${this.namespace}/medianodes/${node}`);
    const serving = { epoch, node, api: apiOf(object) };
    this.#known.set(key, serving);
    return serving;
  }

  /** @param {string} path @returns {Promise<any>} */
  #get(path) {
    return new Promise((resolve, reject) => {
      const away = (/** @type {string} */ why) => reject(new Problem(503, 'kubernetes-unavailable', `the Kubernetes API server does not answer: ${why}`));
      const asked = request({ socketPath: this.socket, path, headers: { accept: 'application/json' } }, (answer) => {
        let text = '';
        answer.setEncoding('utf8');
        answer.on('data', (part) => (text += part));
        answer.on('error', (error) => away(error.message));
        answer.on('end', () => {
          if (answer.statusCode === 200) return resolve(JSON.parse(text));
          if (answer.statusCode === 404) return reject(new Problem(404, 'not-found', `Kubernetes has no ${path.split('/').slice(-2).join(' ')} (${path})`));
          away(`${answer.statusCode} ${text.slice(0, 200).trim()}`);
        });
      });
      asked.setTimeout(ANSWER_TIMEOUT_MS, () => asked.destroy(new Error(`no answer within ${ANSWER_TIMEOUT_MS} ms`)));
      asked.on('error', (error) => away(error.message));
      asked.end();
    });
  }
}
