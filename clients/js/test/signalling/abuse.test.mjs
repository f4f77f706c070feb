// Clients that mean no good, with plain `socket.io-client` and less: each is bounded, and others notice nothing.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, afterEach, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { WebSocket } from 'ws';
import { Lab } from '../../../../e2e/browser/lib/lab.mjs';
import { Client, until } from '../support/client.mjs';

/** Kilobytes by which a gateway may grow while somebody floods it or does not read. */
const GROWTH_KB = 96 * 1024;

/** @type {Lab} */
let lab;
/** @type {Client[]} */
let clients = [];
let rooms = 0;

before(async () => {
  lab = await Lab.start();
});
after(() => lab?.stop());
afterEach(() => {
  for (const client of clients.splice(0)) client.close();
});

async function newRoom() {
  rooms += 1;
  return lab.room(`abuse-${rooms}`, { mode: 'P2P' });
}

/** @param {string} roomId @param {string} user */
async function joins(roomId, user) {
  const client = await Client.join(lab.url, roomId, await lab.token(roomId, user));
  clients.push(client);
  return client;
}

/** Resident memory of the gateway, in kilobytes. */
async function memory() {
  const status = await readFile(`/proc/${lab.replicas[0]?.program?.child.pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]);
}

test('a description of a megabyte ends the socket that sent it, and no other', async () => {
  const roomId = await newRoom();
  const [ann, eve] = [await joins(roomId, 'ann'), await joins(roomId, 'eve')];
  eve.socket.emit('webrtc:offer', { targetUserId: 'ann', sdp: 'x'.repeat(1 << 20), epoch: 1 });
  await eve.expect('disconnect');
  assert.ok(await ann.heardNothingOf('webrtc:offer', 'disconnect'));
});

test('of ten thousand candidates few get through, and who does not stop is cut off', async () => {
  const roomId = await newRoom();
  const [ann, eve] = [await joins(roomId, 'ann'), await joins(roomId, 'eve')];
  const before = await memory();
  const began = Date.now();
  for (let at = 0; at < 10_000; at += 1) eve.socket.emit('webrtc:ice-candidate', { targetUserId: 'ann', candidate: { candidate: `candidate:${at}` }, epoch: 1 });
  await eve.expect('disconnect');
  assert.ok(await ann.heardNothingOf('disconnect'));
  const came = ann.events.filter(({ name }) => name === 'webrtc:ice-candidate').length;
  // 200 at once and 600 a minute.
  assert.ok(came <= 200 + ((Date.now() - began) / 1000) * 10 + 10, `${came} came through`);
  assert.ok((await memory()) - before < GROWTH_KB);
});

test('a flood of joins is answered by limits, and others go on', async () => {
  const roomId = await newRoom();
  const ann = await joins(roomId, 'ann');
  const eve = await Client.connect(lab.url);
  clients.push(eve);
  const token = await lab.token(roomId, 'eve');
  const answers = await Promise.all(Array.from({ length: 120 }, () => eve.ask('join-room', { roomId, token }).catch(() => ({ error: { code: 'gone' } }))));
  const codes = new Set(answers.map(({ error }) => error?.code ?? 'joined'));
  assert.ok(codes.has('joined') && codes.has('conflict') || codes.has('rate-limited'), [...codes].join());
  assert.equal((await ann.ask('chat', { text: 'still here' })).error, undefined);
});

test('a socket that never reads is let go, and costs little until then', async () => {
  const roomId = await newRoom();
  const ann = await joins(roomId, 'ann');
  const bob = await joins(roomId, 'bob');
  const before = await memory();
  const deaf = new WebSocket(`${lab.url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket`);
  await new Promise((resolve, reject) => deaf.once('open', resolve).once('error', reject));
  const joined = new Promise((resolve) => deaf.on('message', (text) => String(text).startsWith('42["call:joined"') && resolve(undefined)));
  deaf.send('40');
  deaf.send(`42${JSON.stringify(['join-room', { roomId, token: await lab.token(roomId, 'deaf') }])}`);
  await joined;
  deaf.pause();
  const open = await lab.metric('callplane_gateway_signalling_sockets');
  const line = 'x'.repeat(4000);
  let isOver = false;
  const writing = [ann, bob].map(async (client) => {
    while (!isOver) {
      await client.ask('chat', { text: line });
      client.events.length = 0;
      // As often as one may.
      await sleep(30);
    }
  });
  try {
    await until('the deaf one is let go', () => lab.metric('callplane_gateway_signalling_sockets'), (now) => now < open);
  } finally {
    isOver = true;
    await Promise.all(writing);
  }
  assert.ok((await memory()) - before < GROWTH_KB, 'what it did not read was not kept');
  deaf.terminate();
  const left = await ann.expect('call:participant-left');
  assert.deepEqual([left.userId, left.reason], ['deaf', 'disconnected']);
});

test('what is no Socket.IO gets no answer but an error, and nothing breaks', async () => {
  const ann = await joins(await newRoom(), 'ann');
  for (const query of ['', '?EIO=3&transport=polling', '?EIO=4&transport=carrier', '?EIO=4&transport=polling&sid=nobody', '?EIO=4&transport=websocket']) {
    const answer = await fetch(`${lab.url}/socket.io/${query}`);
    assert.ok(answer.status >= 400 && answer.status < 500, `${query}: ${answer.status}`);
  }
  for (const text of ['', '4', '42', '42{', '42[]', '42[7]', '42["join-room"', '45-["x"]', '9', 'ÿ', '42/other,["x"]', `42${'['.repeat(5000)}`]) {
    const raw = new WebSocket(`${lab.url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket`);
    await new Promise((resolve, reject) => raw.once('open', resolve).once('error', reject));
    raw.on('error', () => {});
    raw.send('40');
    raw.send(text);
    raw.close();
    await new Promise((resolve) => (raw.readyState === WebSocket.CLOSED ? resolve(undefined) : raw.once('close', resolve)));
  }
  assert.equal((await ann.ask('chat', { text: 'still here' })).error, undefined);
});
