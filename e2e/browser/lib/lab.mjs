// callplane without a cluster: etcd and an API server, operator, gateway and media nodes as processes of this machine.
//
// Nobody runs pods here. A pod that the operator makes is answered as a kubelet would: with a media node, and with a
// status that says so. Everything listens on loopback, on free ports, and ends by its process id.

import { execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { Agent, request } from 'node:https';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createHash, randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const NAMESPACE = 'callplane-system';
const API_KEY = randomBytes(32).toString('hex');
/** Half of a busy machine may be others’. */
const READY_MS = 180_000;
/** An address that is nobody's (RFC 5737): the API server refuses to advertise a loopback address. */
const ADVERTISED = '192.0.2.1';
const MEDIA = '127.0.0.1';
const POLL_MS = 150;
/** How much of what a program says is shown when it fails. */
const SHOWN = 4000;
const repository = fileURLToPath(new URL('../../../', import.meta.url));
const programs = ['operator', 'gateway', 'media-node'];

/** Where the programs are: `$CALLPLANE_GATEWAY` and the like, or in `$CALLPLANE_BIN`, else where cargo puts debug builds. @param {string} name */
function program(name) {
  const named = process.env[`CALLPLANE_${name.toUpperCase().replace('-', '_')}`];
  if (named) return named;
  const directory = process.env.CALLPLANE_BIN ?? join(process.env.CARGO_TARGET_DIR ?? join(repository, 'target'), 'debug');
  return join(directory, `callplane-${name}`);
}

/** Where `make cluster-up` puts etcd and the API server. @param {string} name */
function tool(name) {
  return join(process.env.CALLPLANE_CACHE ?? join(process.env.HOME ?? '/root', '.cache/callplane'), 'bin', name);
}

/** What is missing for a lab, if anything. @returns {string | undefined} */
export function missing() {
  const paths = [tool('etcd'), tool('kube-apiserver'), ...programs.map(program)];
  return paths.find((path) => !existsSync(path));
}

async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(undefined)));
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Whether anything listens there. @param {number} port @returns {Promise<boolean>} */
function isOpen(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    const done = (/** @type {boolean} */ is) => {
      socket.destroy();
      resolve(is);
    };
    socket.once('connect', () => done(true)).once('error', () => done(false));
  });
}

/** A program that runs until it is told to end. */
class Program {
  said = '';

  /** @param {string} path @param {string[]} args @param {{env?: Record<string, string>, cwd: string}} options */
  constructor(path, args, { env = {}, cwd }) {
    this.path = path;
    this.child = spawn(path, args, { cwd, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    /** @type {Promise<number | null>} */
    this.ended = new Promise((resolve) => this.child.once('exit', resolve));
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => (this.said = (this.said + text).slice(-200_000)));
    }
  }

  get hasEnded() {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }

  /** @param {NodeJS.Signals} [signal] */
  async end(signal = 'SIGKILL') {
    if (!this.hasEnded) this.child.kill(signal);
    await this.ended;
  }

  /** @param {string} what @param {() => Promise<boolean>} is */
  async until(what, is) {
    const late = Date.now() + READY_MS;
    while (!(await is().catch(() => false))) {
      if (this.hasEnded) throw new Error(`${this.path} has ended: ${this.said.slice(-SHOWN)}`);
      if (Date.now() > late) throw new Error(`${what}: not within ${READY_MS / 1000} s: ${this.said.slice(-SHOWN)}`);
      await sleep(POLL_MS);
    }
  }
}

/**
 * One of the gateways.
 * @typedef {{port: number, admin: number, url: string, program: Program | undefined}} Replica
 */

export class Lab {
  /** @type {Program[]} */
  #programs = [];
  /** @type {Replica[]} */
  replicas = [];
  redisPort = 0;
  /** @type {Program | undefined} */
  redis;
  /** @type {Program | undefined} */
  operator;
  #operatorPort = 0;
  /** @type {Map<string, Program>} media nodes by pod */
  nodes = new Map();
  kubePort = 0;
  #closed = false;
  #agent = new Agent({ keepAlive: true, rejectUnauthorized: false });
  #token = randomBytes(16).toString('hex');

  /** @param {string} directory @param {{webRoot?: string, nodes: number, gateways: number, arguments: string[]}} options */
  constructor(directory, options) {
    this.directory = directory;
    this.options = options;
  }

  /**
   * Several gateways share a Redis. `args` are more flags of theirs.
   * @param {{webRoot?: string, nodes?: number, gateways?: number, args?: string[]}} [options]
   */
  static async start({ webRoot, nodes = 1, gateways = 1, args = [] } = {}) {
    const absent = missing();
    if (absent) throw new Error(`${absent} is missing: \`make client-browser\` builds it`);
    const lab = new Lab(await mkdtemp(join(tmpdir(), 'callplane-lab-')), { webRoot, nodes, gateways, arguments: args });
    try {
      await lab.#boot();
    } catch (error) {
      await lab.stop();
      throw error;
    }
    return lab;
  }

  get url() {
    return this.#replica(0).url;
  }

  /** What a backend bears. */
  get apiKey() {
    return API_KEY;
  }

  /** @param {number} at @returns {Replica} */
  #replica(at) {
    const replica = this.replicas[at];
    if (!replica) throw new Error(`there is no gateway ${at}`);
    return replica;
  }

  async stop() {
    this.#closed = true;
    await Promise.all([...this.nodes.values()].map((node) => node.end()));
    for (const one of [...this.#programs].reverse()) await one.end();
    this.#agent.destroy();
    await rm(this.directory, { recursive: true, force: true, maxRetries: 3 });
  }

  /**
   * Asks the API server.
   * @param {string} method
   * @param {string} path
   * @param {object} [body]
   * @param {string} [type]
   * @returns {Promise<any>}
   */
  kube(method, path, body, type = 'application/json') {
    return new Promise((resolve, reject) => {
      const asked = request({
        host: '127.0.0.1', port: this.kubePort, method, path, agent: this.#agent,
        headers: { authorization: `Bearer ${this.#token}`, ...(body === undefined ? {} : { 'content-type': type }) },
      }, (answer) => {
        let text = '';
        answer.setEncoding('utf8').on('data', (part) => (text += part)).on('end', () => {
          if ((answer.statusCode ?? 500) < 300) resolve(text.startsWith('{') ? JSON.parse(text) : text);
          else reject(Object.assign(new Error(`${method} ${path}: ${answer.statusCode} ${text.slice(0, 600)}`), { status: answer.statusCode }));
        });
      });
      asked.on('error', reject);
      asked.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  /** The gateway, as a backend asks it. @param {string} method @param {string} path @param {object} [body] @returns {Promise<any>} */
  async rest(method, path, body) {
    const answer = await fetch(this.url + path, {
      method,
      headers: { authorization: `Bearer ${API_KEY}`, ...(body ? { 'content-type': 'application/json' } : {}) },
      ...(body ? { body: JSON.stringify(body) } : {}),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return text ? JSON.parse(text) : undefined;
  }

  /**
   * A call, as `kubectl apply` makes it. @param {string} name @param {object} [topology] @param {number} [maxParticipants]
   * @returns {Promise<string>} the call id
   */
  async room(name, topology = { mode: 'Auto', stabilizationSeconds: 2 }, maxParticipants = 6) {
    const room = { apiVersion: 'callplane.io/v1alpha1', kind: 'CallRoom', metadata: { name, namespace: 'default' }, spec: { maxParticipants, topology } };
    await this.kube('POST', '/apis/callplane.io/v1alpha1/namespaces/default/callrooms', room);
    return `default.${name}`;
  }

  /** @param {string} name @returns {Promise<any>} */
  status(name) {
    return this.kube('GET', `/apis/callplane.io/v1alpha1/namespaces/default/callrooms/${name}`).then(({ status }) => status);
  }

  /** A join token of this user. @param {string} roomId @param {string} userId @param {string} [role] @returns {Promise<string>} */
  async token(roomId, userId, role = 'participant') {
    const { token } = await this.rest('POST', `/v1/rooms/${roomId}/join`, { userId, displayName: userId, role });
    return token;
  }

  /** A gateway that ends and comes back on the same port. @param {NodeJS.Signals} [signal] */
  async restartGateway(signal = 'SIGKILL', at = 0) {
    await this.endGateway(signal, at);
    await this.startGateway(at);
  }

  /** @param {NodeJS.Signals} [signal] */
  async endGateway(signal = 'SIGKILL', at = 0) {
    await this.#replica(at).program?.end(signal);
  }

  /** It leads once the claim of the one before has run out. */
  startOperator() {
    const args = ['--namespace', NAMESPACE, '--admin-listen', `127.0.0.1:${this.#operatorPort}`];
    this.operator = this.#run(program('operator'), args, { KUBECONFIG: join(this.directory, 'kubeconfig') });
    return this.operator;
  }

  async endOperator() {
    await this.operator?.end();
  }

  /** What a gateway says under `/readyz` or `/metrics`. @param {string} path */
  async admin(path, at = 0) {
    const answer = await fetch(`http://127.0.0.1:${this.#replica(at).admin}${path}`);
    return { status: answer.status, text: await answer.text() };
  }

  /** A figure of a gateway's, by the beginning of its line in `/metrics`. @param {string} name */
  async metric(name, at = 0) {
    const { text } = await this.admin('/metrics', at);
    const line = text.split('\n').find((one) => one.startsWith(name));
    return Number(line?.split(' ').at(-1) ?? NaN);
  }

  /** The key that join tokens are signed with, as PEM. @returns {Promise<string>} */
  joinKey() {
    return readFile(join(this.directory, 'private', 'private.pem'), 'utf8');
  }

  /** Gives the gateways a Redis, as the chart does: they start again with it. */
  async useRedis() {
    this.redisPort = await freePort();
    await this.startRedis();
    for (const at of this.replicas.keys()) await this.restartGateway('SIGTERM', at);
  }

  async startRedis() {
    const port = String(this.redisPort);
    this.redis = this.#run('redis-server', ['--port', port, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', this.directory]);
    await this.redis.until('Redis', () => isOpen(this.redisPort));
  }

  async endRedis() {
    await this.redis?.end();
  }

  async #boot() {
    const [etcd, peer, kube, operatorPort] = await Promise.all([freePort(), freePort(), freePort(), freePort()]);
    this.kubePort = kube;
    this.#operatorPort = operatorPort;
    for (let at = 0; at < this.options.gateways; at += 1) {
      const [port, adminPort] = await Promise.all([freePort(), freePort()]);
      this.replicas.push({ port, admin: adminPort, url: `http://localhost:${port}`, program: undefined });
    }
    if (this.options.gateways > 1) {
      this.redisPort = await freePort();
      await this.startRedis();
    }
    const path = (/** @type {string} */ name) => join(this.directory, name);
    await promisify(execFile)('openssl', ['ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', path('accounts.key')]);
    await writeFile(path('tokens.csv'), `${this.#token},lab,lab,system:masters\n`);
    await writeFile(path('kubeconfig'), JSON.stringify({
      apiVersion: 'v1', kind: 'Config', 'current-context': 'lab',
      clusters: [{ name: 'lab', cluster: { server: `https://127.0.0.1:${kube}`, 'insecure-skip-tls-verify': true } }],
      users: [{ name: 'lab', user: { token: this.#token } }],
      contexts: [{ name: 'lab', context: { cluster: 'lab', user: 'lab', namespace: NAMESPACE } }],
    }));
    this.#run(tool('etcd'), [
      `--data-dir=${path('etcd')}`, '--unsafe-no-fsync', '--log-level=error',
      `--listen-client-urls=http://127.0.0.1:${etcd}`, `--advertise-client-urls=http://127.0.0.1:${etcd}`,
      `--listen-peer-urls=http://127.0.0.1:${peer}`, `--initial-advertise-peer-urls=http://127.0.0.1:${peer}`,
      `--initial-cluster=default=http://127.0.0.1:${peer}`,
    ]);
    const server = this.#run(tool('kube-apiserver'), [
      `--etcd-servers=http://127.0.0.1:${etcd}`, '--bind-address=127.0.0.1', `--secure-port=${kube}`, `--advertise-address=${ADVERTISED}`,
      '--endpoint-reconciler-type=none', `--cert-dir=${path('certificates')}`, '--service-cluster-ip-range=10.0.0.0/24',
      `--token-auth-file=${path('tokens.csv')}`, '--authorization-mode=RBAC', '--service-account-issuer=https://callplane-lab',
      `--service-account-key-file=${path('accounts.key')}`, `--service-account-signing-key-file=${path('accounts.key')}`,
      // There are no service accounts to give to pods.
      '--disable-admission-plugins=ServiceAccount',
    ]);
    const namespace = (/** @type {string} */ name) => this.kube('POST', '/api/v1/namespaces', { metadata: { name } })
      .catch((error) => error.status === 409 || Promise.reject(error));
    await server.until('the API server', async () => Boolean(await namespace(NAMESPACE)) && Boolean(await namespace('default')));
    await this.#define();
    const operator = this.startOperator();
    await this.kube('POST', `/apis/callplane.io/v1alpha1/namespaces/${NAMESPACE}/mediapools`, {
      apiVersion: 'callplane.io/v1alpha1', kind: 'MediaPool', metadata: { name: 'default', namespace: NAMESPACE },
      spec: { replicas: this.options.nodes, reachability: { mode: 'Pod' }, template: { image: 'none' } },
    });
    const secret = (/** @type {string} */ name) => this.kube('GET', `/api/v1/namespaces/${NAMESPACE}/secrets/${name}`);
    await operator.until('the join keys', async () => Boolean(await secret('callplane-join-keys')) && Boolean(await secret('callplane-join-public')));
    for (const [name, directory] of [['callplane-join-keys', 'private'], ['callplane-join-public', 'public']]) {
      await mkdir(path(directory ?? ''));
      const { data } = await secret(name ?? '');
      for (const [file, text] of Object.entries(data)) await writeFile(path(`${directory}/${file}`), Buffer.from(String(text), 'base64'));
    }
    await mkdir(path('api-keys'));
    await writeFile(path('api-keys/lab'), createHash('sha256').update(API_KEY).digest('hex'));
    void this.#keepPods();
    await Promise.all([
      ...this.replicas.map((_, at) => this.startGateway(at)),
      operator.until('media nodes', async () => {
        const { items } = await this.kube('GET', `/apis/callplane.io/v1alpha1/namespaces/${NAMESPACE}/medianodes`);
        const isReady = (/** @type {any} */ node) => node.status?.conditions?.some((/** @type {any} */ { type, status }) => type === 'Ready' && status === 'True');
        return items.filter(isReady).length >= this.options.nodes;
      }),
    ]);
  }

  async #define() {
    // The operator's own: what it writes is what the API server knows.
    const env = { ...process.env, KUBECONFIG: join(this.directory, 'kubeconfig') };
    await promisify(execFile)(program('operator'), ['apply-crds'], { env });
    const server = /** @type {Program} */ (this.#programs.at(-1));
    await server.until('the definitions', async () => {
      const { items } = await this.kube('GET', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions');
      return items.every((/** @type {any} */ { status }) => status?.conditions?.some((/** @type {any} */ c) => c.type === 'Established' && c.status === 'True'));
    });
  }

  async startGateway(at = 0) {
    const path = (/** @type {string} */ name) => join(this.directory, name);
    const replica = this.#replica(at);
    const { port, admin } = replica;
    const gateway = this.#run(program('gateway'), [
      '--namespace', NAMESPACE, '--listen', `127.0.0.1:${port}`, '--admin-listen', `127.0.0.1:${admin}`,
      '--join-keys', path('private'), '--api-keys', path('api-keys'), '--shutdown-delay', '0s',
      // All participants have one address here.
      '--rate-per-address', '2000:10000', ...(this.options.webRoot ? ['--web-root', this.options.webRoot] : []),
      ...(this.redisPort ? ['--redis-url', `redis://127.0.0.1:${this.redisPort}`] : []), ...this.options.arguments,
    ], { KUBECONFIG: path('kubeconfig') });
    replica.program = gateway;
    await gateway.until('the gateway', async () => (await fetch(`http://127.0.0.1:${admin}/readyz`)).ok);
  }

  /** As a kubelet: what is to run runs, what is to end ends, and the API server hears of it. */
  async #keepPods() {
    const pods = `/api/v1/namespaces/${NAMESPACE}/pods`;
    while (!this.#closed) {
      const { items } = await this.kube('GET', pods).catch(() => ({ items: [] }));
      for (const pod of items) {
        const { name, deletionTimestamp } = pod.metadata;
        if (deletionTimestamp) {
          await this.nodes.get(name)?.end('SIGTERM');
          await this.kube('DELETE', `${pods}/${name}`, { gracePeriodSeconds: 0 }).catch(() => {});
        } else if (!this.nodes.has(name)) {
          await this.#startNode(name);
          await this.#tell(name, { phase: 'Running', ready: true });
          void this.nodes.get(name)?.ended.then(() => !this.#closed && this.#tell(name, { phase: 'Failed', ready: false }).catch(() => {}));
        }
      }
      await sleep(POLL_MS);
    }
  }

  /** @param {string} name */
  async #startNode(name) {
    // It reports the ports that it was given.
    const [api, admin] = await Promise.all([freePort(), freePort()]);
    const node = this.#run(program('media-node'), [
      '--api-listen', `127.0.0.1:${api}`, '--admin-listen', `127.0.0.1:${admin}`, '--rtc-listen', `${MEDIA}:0`, '--announce', MEDIA, '--workers', '1',
      '--public-keys', join(this.directory, 'public'), '--rate-per-address', '0', '--namespace', NAMESPACE, '--node-name', name, '--pod-ip', '127.0.0.1',
    ], { KUBECONFIG: join(this.directory, 'kubeconfig') });
    this.nodes.set(name, node);
  }

  /** @param {string} name @param {{phase: string, ready: boolean}} status */
  #tell(name, { phase, ready }) {
    const state = ready ? { running: { startedAt: new Date().toISOString() } } : { terminated: { exitCode: 137, reason: 'Killed' } };
    return this.kube('PATCH', `/api/v1/namespaces/${NAMESPACE}/pods/${name}/status`, {
      status: {
        phase, podIP: '127.0.0.1', podIPs: [{ ip: '127.0.0.1' }],
        conditions: [{ type: 'Ready', status: ready ? 'True' : 'False' }],
        containerStatuses: [{ name: 'media-node', ready, restartCount: 0, image: 'none', imageID: 'none', state }],
      },
    }, 'application/merge-patch+json');
  }

  /** @param {string} path @param {string[]} args @param {Record<string, string>} [env] */
  #run(path, args, env) {
    const one = new Program(path, args, { cwd: this.directory, ...(env ? { env } : {}) });
    this.#programs.push(one);
    return one;
  }
}
