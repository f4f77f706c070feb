// Two gateways that share a Redis, with plain `socket.io-client`: whichever one is at, it is one call.

import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { Lab } from '../../../../e2e/browser/lib/lab.mjs';
import { Balancer, pollingFrom } from '../support/balancer.mjs';
import { Client, LATE_MS, until } from '../support/client.mjs';

/** What an encoder offers to publish: sound by Opus. */
const SOUND = [
  'v=0', 'o=- 1 1 IN IP4 127.0.0.1', 's=-', 't=0 0', 'a=group:BUNDLE 0', 'm=audio 9 UDP/TLS/RTP/SAVPF 111', 'c=IN IP4 0.0.0.0', 'a=mid:0',
  'a=sendonly', 'a=rtcp-mux', 'a=setup:actpass', 'a=ice-ufrag:abcd', 'a=ice-pwd:abcdefghijklmnopqrstuvwx',
  `a=fingerprint:sha-256 ${Array(32).fill('AB').join(':')}`, 'a=rtpmap:111 opus/48000/2', 'a=msid:s t', 'a=ssrc:1234 cname:encoder', '',
].join('\r\n');

/** @type {Lab} */
let lab;
/** @type {Client[]} */
let clients = [];
let rooms = 0;

before(async () => {
  lab = await Lab.start({ gateways: 2 });
});
after(() => lab?.stop());
afterEach(() => {
  for (const client of clients.splice(0)) client.close();
});

async function newRoom() {
  rooms += 1;
  const name = `replicas-${rooms}`;
  return { name, roomId: await lab.room(name, { mode: 'P2P' }) };
}

/** @param {number} at @param {string} roomId @param {string} user @param {string} [token] @param {object} [more] */
async function joins(at, roomId, user, token, more) {
  const client = await Client.join(lab.replicas[at]?.url ?? '', roomId, token ?? (await lab.token(roomId, user)), more);
  clients.push(client);
  return client;
}

test('people at two replicas are in one call', async () => {
  const { name, roomId } = await newRoom();
  const ann = await joins(0, roomId, 'ann');
  const bob = await joins(1, roomId, 'bob');
  assert.deepEqual([bob.joined.initiator, bob.joined.participants], [['ann'], [ann.joined.self]]);
  assert.equal((await ann.expect('call:participant-joined')).userId, 'bob');
  await bob.ask('webrtc:offer', { targetUserId: 'ann', sdp: 'v=0', epoch: 1 });
  assert.equal((await ann.expect('webrtc:offer')).sourceUserId, 'bob');
  for (const [client, text] of /** @type {[Client, string][]} */ ([[ann, 'one'], [bob, 'two']])) await client.ask('chat', { text });
  const order = await Promise.all([ann, bob].map(async (client) => [(await client.expect('chat')).seq, (await client.expect('chat')).seq]));
  assert.deepEqual(order[0], order[1], 'the same places for everybody');
  await until('both are counted', () => lab.status(name), ({ presence }) => presence?.participants === 2);
  await bob.ask('leave-room');
  assert.equal((await ann.expect('call:participant-left')).reason, 'left');
  await until('one is counted', () => lab.status(name), ({ presence }) => presence?.participants === 1);
});

test('a client that comes back at the other replica has missed nothing', async () => {
  const { roomId } = await newRoom();
  const ann = await joins(0, roomId, 'ann');
  const bob = await joins(1, roomId, 'bob');
  await ann.expect('call:participant-joined');
  bob.socket.io.engine.close();
  await bob.expect('disconnect');
  await ann.ask('chat', { text: 'while you were away' });
  await ann.ask('update-state', { isMuted: true });
  const back = await joins(0, roomId, 'bob', bob.joined.token, { resume: bob.resume });
  assert.equal(back.joined.resumed, true);
  assert.deepEqual(back.joined.missed.map((/** @type {any} */ { event }) => event), ['chat', 'state-changed']);
  assert.ok(await ann.heardNothingOf('call:participant-left', 'call:participant-joined'));
});

test('long polling through a Service that keeps to the client’s address, and through one that does not', async () => {
  const { roomId } = await newRoom();
  const ports = lab.replicas.map(({ port }) => port);
  const service = await Balancer.start(ports, { affinity: 'ClientIP' });
  const other = await Balancer.start(ports, { affinity: 'None' });
  try {
    /** @type {Client[]} */
    const people = [];
    for (const [at, user] of ['ann', 'bob'].entries()) {
      const client = await Client.connect(service.url, pollingFrom(`127.0.0.${at + 2}`));
      clients.push(client);
      people.push(client);
      assert.equal((await client.join(roomId, await lab.token(roomId, user))).error, undefined, user);
    }
    const [ann, bob] = /** @type {[Client, Client]} */ (people);
    assert.equal((await ann.expect('call:participant-joined')).userId, 'bob');
    await ann.ask('webrtc:offer', { targetUserId: 'bob', sdp: 'v=0', epoch: 1 });
    assert.equal((await bob.expect('webrtc:offer')).sourceUserId, 'ann');
    for (let n = 0; n < 5; n += 1) {
      await ann.ask('chat', { text: `from ann ${n}` });
      assert.equal((await bob.expect('chat', ({ text }) => text.startsWith('from ann'))).text, `from ann ${n}`);
      await bob.ask('chat', { text: `from bob ${n}` });
      await ann.expect('chat', ({ text }) => text === `from bob ${n}`);
    }
    assert.ok(await ann.heardNothingOf('disconnect', 'connect_error'));
    for (const client of people) assert.equal(client.socket.io.engine.transport.name, 'polling');
    // Each request was a connection, and each address kept to one replica; together they were at both.
    const went = [...service.went.values()];
    assert.deepEqual(went.map((all) => new Set(all).size), [1, 1]);
    assert.equal(new Set(went.map(([first]) => first)).size, 2);
    assert.ok(went.every((all) => all.length > 10), JSON.stringify(went));

    // What the chart’s Service is spared: a session is one replica’s, and the next request is at the other.
    const astray = new Client(other.url, pollingFrom('127.0.0.4'));
    clients.push(astray);
    await astray.expect('connect_error');
  } finally {
    for (const client of clients.splice(0)) client.close();
    await Promise.all([service.stop(), other.stop()]);
  }
});

test('a replica that dies without a word: its people come back at the other, or are given up', async () => {
  const { name, roomId } = await newRoom();
  const ann = await joins(0, roomId, 'ann');
  const [bob, cid] = [await joins(1, roomId, 'bob'), await joins(1, roomId, 'cid')];
  for (const userId of ['bob', 'cid']) await ann.expect('call:participant-joined', (one) => one.userId === userId);
  await lab.endGateway('SIGKILL', 1);
  await Promise.all([bob.expect('disconnect'), cid.expect('disconnect')]);
  await ann.ask('chat', { text: 'are you there?' });
  const back = await joins(0, roomId, 'bob', bob.joined.token, { resume: bob.resume });
  assert.equal(back.joined.resumed, true);
  assert.deepEqual(back.joined.missed.map((/** @type {any} */ { data }) => data.text), ['are you there?']);
  // It counts as dead after 10 s, and then they have 30 s.
  const left = await ann.expect('call:participant-left', () => true, 2 * LATE_MS);
  assert.deepEqual([left.userId, left.reason], ['cid', 'disconnected']);
  assert.ok(await ann.heardNothingOf('call:participant-left'), 'bob is still there');
  await until('two are counted', () => lab.status(name), ({ presence }) => presence?.participants === 2);
  await lab.startGateway(1);
  const dan = await joins(1, roomId, 'dan');
  assert.deepEqual(dan.joined.participants.map((/** @type {any} */ { userId }) => userId).sort(), ['ann', 'bob']);
});

test('who publishes by WHIP at either replica moves the call to a media node, and its one token goes with it', async () => {
  rooms += 1;
  const name = `replicas-${rooms}`;
  const roomId = await lab.room(name);
  const ann = await joins(0, roomId, 'ann');
  assert.equal(ann.joined.route.mode, 'P2P');
  const token = await lab.token(roomId, 'encoder');
  const asks = (/** @type {string} */ method, /** @type {string} */ path, /** @type {string} */ body = '') => fetch(`${lab.replicas[1]?.url}${path}`, {
    method, headers: { authorization: `Bearer ${token}`, 'content-type': 'application/sdp' }, ...(body ? { body } : {}),
  });
  const offer = () => asks('POST', `/whip/${roomId}`, SOUND);
  const made = await until('the call has a media node', offer, ({ status }) => status !== 503);
  assert.equal(made.status, 201, await made.clone().text());
  const session = made.headers.get('location') ?? '';
  const switched = await ann.expect('call:mode-switch');
  assert.deepEqual([switched.epoch, switched.mode, switched.reason], [2, 'SFU', 'Requested']);
  // Published before ann heard of the node, or after.
  const { producers } = await ann.expect('room');
  const { participantId } = producers[0] ?? (await ann.expect('new-producer'));
  assert.equal(participantId, 'encoder');
  assert.equal((await asks('DELETE', session)).status, 200);
  await ann.expect('producer-closed');

  rooms += 1;
  const two = await lab.room(`replicas-${rooms}`, { mode: 'Auto' }, 2);
  const refused = await fetch(`${lab.url}/whep/${two}`, { method: 'POST', headers: { authorization: `Bearer ${await lab.token(two, 'player')}` } });
  assert.deepEqual([refused.status, (await refused.json()).code], [409, 'no-media-node']);
  const { route, presence } = await lab.status(`replicas-${rooms}`);
  assert.deepEqual([route.mode, presence], ['P2P', undefined]);
});

test('Redis away: calls go on, /readyz says so, and what was missed comes when it is back', async () => {
  const { roomId } = await newRoom();
  const [ann, bob] = [await joins(0, roomId, 'ann'), await joins(1, roomId, 'bob')];
  await ann.expect('call:participant-joined');
  assert.deepEqual(await lab.admin('/readyz'), { status: 200, text: 'ok\n' });
  await lab.endRedis();
  for (const at of [0, 1]) {
    const ready = await until('it is noticed', () => lab.admin('/readyz', at), ({ text }) => text.includes('Redis is away'));
    assert.equal(ready.status, 200, 'to take every replica away would end the calls');
    assert.equal(await lab.metric('callplane_gateway_store_up', at), 0);
  }
  const cid = await joins(0, roomId, 'cid');
  await ann.expect('call:participant-joined', ({ userId }) => userId === 'cid');
  await ann.ask('chat', { text: 'alone' });
  await cid.expect('chat');
  assert.ok(await bob.heardNothingOf('chat', 'disconnect'), 'the other replica goes on by itself');
  await lab.startRedis();
  await until('it is noticed', () => lab.metric('callplane_gateway_store_up'), (up) => up === 1);
  assert.equal((await bob.expect('chat')).text, 'alone');
  await bob.expect('call:participant-joined', ({ userId }) => userId === 'cid');
  await bob.ask('chat', { text: 'together again' });
  await Promise.all([ann, cid].map((client) => client.expect('chat', ({ text }) => text === 'together again')));
  assert.ok(await ann.heardNothingOf('call:participant-left', 'disconnect'));
});
