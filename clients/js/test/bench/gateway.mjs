#!/usr/bin/env node
// Measures the gateway's signalling, and a plain Socket.IO server on Node under the same load, one after the other.
//
// gateway.mjs [sockets=5000] [rooms=500] [seconds=15] [lines a second=500]

import { fork, spawn } from 'node:child_process';
import { createPublicKey } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Lab } from '../../../../e2e/browser/lib/lab.mjs';
import { mintToken, signingKey } from '../../../../e2e/browser/lib/token.mjs';

const [sockets = 5000, rooms = 500, seconds = 15, rate = 500] = process.argv.slice(2).map(Number);
const BYTES = 120;
/** Files that a process has open besides its sockets, at most. */
const OTHER_FILES = 500;
const REST_MS = 4000;
const IDLE_SECONDS = 8;
const ROOMS_MS = 90_000;
const here = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));

/** The kernel's ticks in a second: USER_HZ, which is 100 wherever Linux runs. */
const TICKS = 100;

/** What the kernel has billed a process, in seconds. @param {number} pid */
async function cpu(pid) {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  const [user, system] = stat.slice(stat.lastIndexOf(')') + 2).split(' ').slice(11, 13).map(Number);
  return ((user ?? 0) + (system ?? 0)) / TICKS;
}

/** Resident memory in KB. @param {number} pid */
async function memory(pid) {
  return Number(/VmRSS:\s+(\d+)/.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1]);
}

async function enoughFiles() {
  const limit = /Max open files\s+(\S+)\s+(\S+)/.exec(await readFile('/proc/self/limits', 'utf8'));
  const [soft, hard] = [limit?.[1], limit?.[2]].map((text) => (text === 'unlimited' ? Infinity : Number(text)));
  const needed = sockets + OTHER_FILES;
  if ((soft ?? 0) >= needed) return;
  throw new Error(`${sockets} sockets need ${needed} open files in a process, and ${soft} are allowed here (up to ${hard}): ulimit -n ${needed}`);
}

/** The clients: a process of their own. */
function clients() {
  const child = fork(here('./load.mjs'));
  return {
    pid: child.pid ?? 0,
    /** @param {string} name @param {object} args @returns {Promise<any>} */
    async do(name, args) {
      child.send({ name, args });
      const [{ answer, error }] = await once(child, 'message');
      if (error) throw new Error(`${name}: ${error}`);
      return answer;
    },
    async end() {
      child.kill();
      await once(child, 'exit');
    },
  };
}

/**
 * @param {string} name
 * @param {{url: string, pid: number}} server
 * @param {{roomId: string, token: string}[]} people
 */
async function measure(name, { url, pid }, people) {
  const load = clients();
  try {
    await sleep(1000);
    const [began, memoryBefore] = [await cpu(pid), await memory(pid)];
    console.error(`${name}: ${people.length} join`);
    const joined = await load.do('join', { url, people });
    await sleep(REST_MS);
    const [afterJoins, memoryJoined] = [await cpu(pid), await memory(pid)];
    await sleep(IDLE_SECONDS * 1000);
    const idle = (await cpu(pid)) - afterJoins;
    console.error(`${name}: they write`);
    const [beforeChat, ofLoad] = [await cpu(pid), await cpu(load.pid)];
    const chat = await load.do('chat', { rate, seconds, bytes: BYTES });
    const [spent, spentByLoad] = [(await cpu(pid)) - beforeChat, (await cpu(load.pid)) - ofLoad];
    return {
      name,
      'KB of memory a socket': (memoryJoined - memoryBefore) / people.length,
      'KB of memory a socket, after the lines': ((await memory(pid)) - memoryBefore) / people.length,
      'seconds until all were in': joined.seconds,
      'ms of CPU a join': ((afterJoins - began) * 1000) / people.length,
      'idle, % of a core': (idle / IDLE_SECONDS) * 100,
      'delivered lines': chat.delivered,
      'not delivered': chat.expected - chat.delivered + chat.lost,
      'µs of CPU a delivered line': (spent * 1e6) / chat.delivered,
      'delivery, ms, p50': chat.p50,
      'delivery, ms, p99': chat.p99,
      'delivery, ms, longest': chat.most,
      'the clients’ own event loop, ms, p99': chat.loopP99,
      'the clients’ CPU, % of a core': (spentByLoad / chat.seconds) * 100,
    };
  } finally {
    await load.end();
  }
}

/** @param {Lab} lab @returns {Promise<{roomId: string, roomUid: string}[]>} */
async function makeRooms(lab) {
  const path = '/apis/callplane.io/v1alpha1/namespaces/default/callrooms';
  const names = Array.from({ length: rooms }, (_, at) => `bench-${at}`);
  const made = /** @type {Map<string, string>} */ (new Map());
  const waiting = [...names];
  await Promise.all(Array.from({ length: 8 }, async () => {
    for (let name = waiting.pop(); name; name = waiting.pop()) {
      const spec = { maxParticipants: Math.max(2, Math.ceil(sockets / rooms)), topology: { mode: 'Auto' } };
      const room = await lab.kube('POST', path, { apiVersion: 'callplane.io/v1alpha1', kind: 'CallRoom', metadata: { name, namespace: 'default' }, spec });
      made.set(name, room.metadata.uid);
    }
  }));
  const late = Date.now() + ROOMS_MS;
  for (;;) {
    const { items } = await lab.kube('GET', path);
    const ready = items.filter((/** @type {any} */ { status }) => status?.route).length;
    if (ready >= rooms) break;
    if (Date.now() > late) throw new Error(`${ready} of ${rooms} rooms have a route`);
    await sleep(500);
  }
  return names.map((name) => ({ roomId: `default.${name}`, roomUid: made.get(name) ?? '' }));
}

/** The gateway, and who the clients are. */
async function ofGateway() {
  // Without media nodes the rooms stay peer to peer: what is measured is signalling.
  const lab = await Lab.start({ nodes: 0 });
  try {
    const pem = await lab.joinKey();
    const sample = await lab.token(await lab.room('sample'), 'sample');
    const { kid } = JSON.parse(Buffer.from(sample.split('.')[0] ?? '', 'base64url').toString());
    const [key, made, now] = [signingKey(pem, kid), await makeRooms(lab), Date.now()];
    const people = Array.from({ length: sockets }, (_, at) => {
      const { roomId, roomUid } = /** @type {{roomId: string, roomUid: string}} */ (made[at % rooms]);
      return { roomId, token: mintToken(key, { callId: roomId, roomUid, user: `user-${at}`, epoch: 1 }, now).token };
    });
    const { port, program } = /** @type {import('../../../../e2e/browser/lib/lab.mjs').Replica} */ (lab.replicas[0]);
    const result = await measure('callplane-gateway', { url: `http://127.0.0.1:${port}`, pid: program?.child.pid ?? 0 }, people);
    return { result, people, pem };
  } finally {
    // Nothing of it runs beside the other server.
    await lab.stop();
  }
}

/** @param {string} pem @param {{roomId: string, token: string}[]} people */
async function ofPeer(pem, people) {
  const publicKey = createPublicKey(pem).export({ type: 'spki', format: 'pem' });
  const peer = spawn(process.execPath, [here('./socketio.mjs'), Buffer.from(publicKey).toString('base64')], { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    const [port] = await once(peer.stdout, 'data');
    return await measure('Socket.IO on Node', { url: `http://127.0.0.1:${String(port).trim()}`, pid: peer.pid ?? 0 }, people);
  } finally {
    peer.kill();
  }
}

await enoughFiles();
const { result, people, pem } = await ofGateway();
const results = [result, await ofPeer(pem, people)];
console.log(`\n${sockets} sockets in ${rooms} rooms, ${rate} lines a second of ${BYTES} bytes for ${seconds} s; Node ${process.version}\n`);
console.log(`| | ${results.map(({ name }) => name).join(' | ')} |`);
console.log(`|---|${results.map(() => '--:|').join('')}`);
for (const figure of Object.keys(result).filter((one) => one !== 'name')) {
  const cells = results.map((one) => /** @type {any} */ (one)[figure]).map((value) => value.toFixed(value < 100 ? 2 : 0));
  console.log(`| ${figure} | ${cells.join(' | ')} |`);
}
