// Many clients in one process, on bare WebSockets so that they cost little. Told by its parent what to do, and answers.

import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { WebSocket } from 'ws';

/** Joins that are under way at a time. */
const AT_ONCE = 64;
const JOIN_MS = 60_000;
/** How long what was sent may still take. */
const LATE_MS = 5000;
const CHAT = '42["chat",';
/** Stands before the time in a line of the chat. */
const STAMP = '@';

/** @typedef {{socket: WebSocket, asked: number, roomId: string}} Member */
/** @type {Member[]} */
let members = [];
/** @type {number[]} milliseconds from a line's writing to its coming, at each who got it */
let delays = [];
let counting = false;
let lost = 0;

/** @param {string} url @param {{roomId: string, token: string}} who @returns {Promise<Member>} */
function join(url, { roomId, token }) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`${url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket`, { perMessageDeflate: false });
    const member = { socket, asked: 1, roomId };
    const timer = setTimeout(() => reject(new Error('a join took too long')), JOIN_MS);
    socket.on('error', reject);
    socket.on('close', () => (lost += 1));
    socket.on('message', (data) => {
      const text = String(data);
      if (text === '2') return socket.send('3');
      if (text.startsWith(CHAT)) return took(text);
      if (text.startsWith('0{')) return socket.send('40');
      if (text.startsWith('40{')) return socket.send(`420${JSON.stringify(['join-room', { roomId, token }])}`);
      if (!text.startsWith('430[')) return;
      clearTimeout(timer);
      if (text.includes('"error"')) reject(new Error(text.slice(0, 300)));
      else resolve(member);
    });
  });
}

/** @param {string} text */
function took(text) {
  const at = text.indexOf(STAMP);
  if (counting && at > 0) delays.push(performance.now() - Number.parseFloat(text.slice(at + 1, at + 20)));
}

/** @param {string} url @param {{roomId: string, token: string}[]} people */
async function joinAll(url, people) {
  const began = performance.now();
  const waiting = [...people];
  const worker = async () => {
    for (let who = waiting.pop(); who; who = waiting.pop()) members.push(await join(url, who));
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return { seconds: (performance.now() - began) / 1000 };
}

/** Somebody writes `rate` times a second, each time somebody else. @param {number} rate @param {number} seconds @param {number} bytes */
async function chat(rate, seconds, bytes) {
  delays = [];
  counting = true;
  const loop = monitorEventLoopDelay({ resolution: 5 });
  loop.enable();
  const [began, count] = [performance.now(), Math.round(rate * seconds)];
  for (let sent = 0; sent < count; ) {
    const due = Math.min(count, Math.floor(((performance.now() - began) / 1000) * rate));
    for (; sent < due; sent += 1) {
      // Strides over the rooms, so that none gets two in a row.
      const member = /** @type {Member} */ (members[(sent * 7919) % members.length]);
      const text = `${STAMP}${performance.now().toFixed(3)} `.padEnd(bytes, 'x');
      member.socket.send(`42${member.asked++}${JSON.stringify(['chat', { text }])}`);
    }
    await sleep(2);
  }
  const sizes = new Map();
  for (const { roomId } of members) sizes.set(roomId, (sizes.get(roomId) ?? 0) + 1);
  const expected = count * (members.length / sizes.size);
  const late = performance.now() + LATE_MS;
  while (delays.length < expected && performance.now() < late) await sleep(20);
  counting = false;
  loop.disable();
  const sorted = Float64Array.from(delays).sort();
  const quantile = (/** @type {number} */ share) => sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? NaN;
  return {
    seconds: (performance.now() - began) / 1000, expected, delivered: delays.length,
    p50: quantile(0.5), p99: quantile(0.99), most: sorted.at(-1) ?? NaN, loopP99: loop.percentile(99) / 1e6,
  };
}

process.on('message', async (/** @type {any} */ { name, args }) => {
  try {
    const answer = name === 'join' ? await joinAll(args.url, args.people) : await chat(args.rate, args.seconds, args.bytes);
    process.send?.({ answer: { ...answer, lost } });
  } catch (error) {
    process.send?.({ error: error instanceof Error ? error.message : String(error) });
  }
});
process.on('disconnect', () => process.exit());
