// Calls between real browsers, through the real gateway, operator and media nodes.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { eventually, flowing, Person, together, withoutWebSockets } from '../support/browser.mjs';
import { Calls } from '../support/calls.mjs';
import { Client } from '../support/client.mjs';
import { source } from '../support/source.mjs';

const calls = new Calls();
const { people } = calls;
/** Four people peer to peer are twelve pictures to encode. */
const SMALL = { width: 320, height: 180, frameRate: 15 };

test('a third participant moves everyone to the media server, and back when gone, without a gap', async () => {
  const { name, roomId } = await calls.room();
  await calls.joins(roomId, 'ann');
  await calls.joins(roomId, 'bob');
  await together(people, 'P2P');
  await sleep(1500);
  const pair = [...people];
  await calls.watch();

  await calls.joins(roomId, 'cid');
  await together(people, 'SFU');
  await calls.noGap('peer to peer → media server', pair);
  await calls.oneRoute(name, 'SFU');
  await sleep(1000);
  await calls.noGap('the old route closed', pair);

  await calls.leaves(/** @type {Person} */ (people.at(-1)));
  await together(people, 'P2P');
  await calls.oneRoute(name, 'P2P');
  await sleep(1000);
  await calls.noGap('media server → peer to peer', pair);
});

test('a socket that is cut comes back, and nothing is missed', async () => {
  const { roomId } = await calls.room();
  const [ann, bob] = [await calls.joins(roomId, 'ann'), await calls.joins(roomId, 'bob')];
  await together(people, 'P2P');
  await sleep(1000);
  await calls.watch();
  await bob.do('cutSignalling');
  await ann.do('send', 'while you were away');
  const back = await eventually('bob is back', () => bob.state(), ({ state, chat }) => state === 'joined' && chat.length === 1);
  assert.equal(back.chat[0].text, 'while you were away');
  const { events } = await ann.state();
  assert.ok(!events.some((/** @type {any} */ event) => event.name === 'left'), 'nobody saw bob leave');
  await bob.do('send', 'here again');
  await eventually('ann reads it', () => ann.state(), ({ chat }) => chat.length === 2);
  await calls.noGap('a cut socket');
});

test('a gateway that is killed and comes back ends no call', async () => {
  const { roomId } = await calls.room();
  const [ann] = [await calls.joins(roomId, 'ann'), await calls.joins(roomId, 'bob')];
  await together(people, 'P2P');
  await sleep(1000);
  await calls.watch();
  await calls.lab.restartGateway();
  await eventually('everyone is back', () => Promise.all(people.map((person) => person.state())), (all) => all.every(({ state, participants }) => state === 'joined' && participants.length === 1));
  await calls.noGap('a killed gateway');
  await calls.joins(roomId, 'cid');
  await together(people, 'SFU');
  await ann.do('send', 'still here');
  await eventually('chat goes on', () => Promise.all(people.map((person) => person.state())), (all) => all.every(({ chat }) => chat.some((/** @type {any} */ { text }) => text === 'still here')));
});

test('a page that reloads in the middle of a switch ends up with the others', async () => {
  const { name, roomId } = await calls.room();
  const [, bob] = [await calls.joins(roomId, 'ann'), await calls.joins(roomId, 'bob')];
  await together(people, 'P2P');
  const joining = calls.joins(roomId, 'cid');
  await eventually('the switch begins', () => calls.lab.status(name), (status) => status.route.mode === 'SFU');
  await bob.reload({ token: await calls.lab.token(roomId, 'bob') });
  await joining;
  await together(people, 'SFU');
  await calls.oneRoute(name, 'SFU');
});

test('where WebSockets are blocked it goes by long polling', async () => {
  const { roomId } = await calls.room();
  const [, bob] = [await calls.joins(roomId, 'ann'), await calls.joins(roomId, 'bob', undefined, { prepare: withoutWebSockets })];
  await together(people, 'P2P');
  await bob.do('send', 'the long way');
  await eventually('everyone reads it', () => Promise.all(people.map((person) => person.state())), (all) => all.every(({ chat }) => chat.length === 1));
});

test('two changes at once end with everyone in one place', async () => {
  const { name, roomId } = await calls.room({ mode: 'Auto', stabilizationSeconds: 0 });
  await calls.joins(roomId, 'ann');
  await calls.joins(roomId, 'bob');
  await together(people, 'P2P');
  const cid = await calls.joins(roomId, 'cid');
  await calls.leaves(cid);
  // Who left on the way in is in the media node's count until its transports are given up, and nobody is left behind there.
  await together(people, 'P2P', 150_000);
  await calls.oneRoute(name, 'P2P');
});

test('a host mutes, locks, removes and ends; nobody else may', async () => {
  const { roomId } = await calls.room();
  const [host, bob, cid] = [await calls.joins(roomId, 'ann', 'host'), await calls.joins(roomId, 'bob'), await calls.joins(roomId, 'cid')];
  await together(people, 'SFU');
  await assert.rejects(bob.do('mute', 'ann'), /not-permitted/);
  await host.do('mute', 'bob');
  await eventually('bob is muted for everyone', () => cid.state(), ({ participants }) => participants.find((/** @type {any} */ one) => one.userId === 'bob')?.isMuted);
  await host.do('lock', true);
  await eventually('everyone knows', () => bob.state(), ({ events }) => events.some((/** @type {any} */ { name: event, value }) => event === 'locked' && value === true));
  await host.do('remove', 'cid');
  await eventually('cid is out', () => cid.state(), ({ state }) => state === 'removed');
  await eventually('bob sees it', () => bob.state(), ({ participants }) => participants.length === 1);
  await host.do('end');
  await eventually('the call is over', () => bob.state(), ({ state }) => state === 'ended');
});

test('what is sent changes in the middle: camera, screen, microphone', async () => {
  const { roomId } = await calls.room();
  const [ann, bob] = [await calls.joins(roomId, 'ann'), await calls.joins(roomId, 'bob')];
  await together(people, 'P2P');
  const tracksOf = (/** @type {string} */ userId) => async () => (await bob.state()).participants.find((/** @type {any} */ one) => one.userId === userId) ?? { tracks: [] };
  const changes = async () => {
    await ann.do('setCamera', false);
    await eventually('the camera is off', tracksOf('ann'), ({ isVideoOn, tracks }) => !isVideoOn && !tracks.includes('camera'));
    await ann.do('shareScreen', true);
    await eventually('the screen is shared', tracksOf('ann'), ({ tracks }) => tracks.includes('screen'));
    await ann.do('setCamera', true);
    await eventually('the camera is on', tracksOf('ann'), ({ isVideoOn, tracks }) => isVideoOn && tracks.includes('camera'));
    await ann.do('shareScreen', false);
    await eventually('the screen is not shared', tracksOf('ann'), ({ tracks }) => !tracks.includes('screen'));
  };
  await changes();
  await calls.joins(roomId, 'cid');
  await together(people, 'SFU');
  await changes();
});

test('four people talk peer to peer where the room allows it', async () => {
  const { name, roomId } = await calls.room({ mode: 'Auto', p2pMaxParticipants: 4 });
  for (const user of ['ann', 'bob', 'cid', 'dee']) await calls.joins(roomId, user, undefined, { size: SMALL });
  await together(people, 'P2P');
  await flowing(people);
  const { route, previousRoute } = await calls.lab.status(name);
  assert.deepEqual([route.mode, route.epoch, previousRoute], ['P2P', 1, undefined], 'it never was anything else');
});

test('a room for two stays peer to peer, whoever comes back and whoever else knocks', async () => {
  const { name, roomId } = await calls.room(undefined, 2);
  // While there is a place: whoever asks for a token of a full room gets none.
  const token = await calls.lab.token(roomId, 'cid');
  const [, bob] = [await calls.joins(roomId, 'ann'), await calls.joins(roomId, 'bob')];
  await together(people, 'P2P');
  const cid = await Client.connect(calls.lab.url);
  assert.equal(await cid.refusal('join-room', { roomId, token }), 'room-full 409');
  cid.close();
  await bob.do('cutSignalling');
  await eventually('bob is back', () => bob.state(), ({ state }) => state === 'joined');
  await bob.reload({ token: await calls.lab.token(roomId, 'bob') });
  await together(people, 'P2P');
  await flowing(people);
  const { route, previousRoute } = await calls.lab.status(name);
  assert.deepEqual([route.mode, route.epoch, previousRoute], ['P2P', 1, undefined]);
});

test('a backend makes a room and a link with the client, and people join by both', async () => {
  const { createRoom, createLink } = await source('index');
  const { url, apiKey } = calls.lab;
  const wanted = { url, apiKey, hostId: 'ann', settings: { maxParticipants: 4 }, idempotencyKey: 'standup-1' };
  const { roomId, joinToken, status, room } = await createRoom(wanted);
  assert.deepEqual([status, room.hostId, room.maxParticipants], ['ACTIVE', 'ann', 4]);
  assert.equal((await createRoom(wanted)).roomId, roomId, 'the same again');
  const { linkToken, role, href } = await createLink({ url, apiKey, roomId });
  assert.deepEqual([role, href], ['guest', `${url}/join/${roomId}#${linkToken}`]);
  await calls.joins(roomId, 'ann', undefined, { token: joinToken });
  await calls.joins(roomId, 'Gus', undefined, { linkToken, displayName: 'Gus' });
  await together(people, 'P2P');
  await flowing(people);
  const refused = async (/** @type {Promise<any>} */ asked) => asked.then(() => 'nothing', ({ name, code, status: http }) => `${name} ${code} ${http}`);
  assert.equal(await refused(createRoom({ ...wanted, apiKey: 'x'.repeat(32) })), 'CallError credentials-invalid 401');
  assert.equal(await refused(createRoom({ ...wanted, hostId: 'bob' })), 'CallError idempotency-key-reused 422');
  assert.equal(await refused(createRoom({ url, apiKey, hostId: '' })), 'CallError invalid 422');
  assert.equal(await refused(createRoom({ url, apiKey, hostId: 'ann', settings: { isRecordingEnabled: true } })), 'CallError unsupported-setting 501');
  assert.equal(await refused(createLink({ url, apiKey, roomId: 'default.nothing' })), 'CallError room-not-found 404');
  assert.equal(await refused(createRoom({ ...wanted, url: 'http://127.0.0.1:1' })), 'CallError unreachable 0');
});

test('what nobody watches is not sent, and is there for whoever comes', async () => {
  const { roomId } = await calls.room({ mode: 'SFU' });
  const [ann, bob] = [await calls.joins(roomId, 'ann'), await calls.joins(roomId, 'bob')];
  await together(people, 'SFU');
  await flowing(people);
  await calls.leaves(bob);
  await eventually('all of it rests', () => ann.sends(), (sent) => sent.length > 2 && sent.every(({ active }) => !active));
  const headers = { authorization: `Bearer ${await calls.lab.token(roomId, 'eve')}` };
  const { producers } = /** @type {any} */ (await (await fetch(`${calls.lab.url}/api/rooms/${roomId}`, { headers })).json());
  assert.deepEqual(producers.map((/** @type {any} */ { kind, paused }) => `${kind} ${paused}`).sort(), ['audio false', 'video false'], 'of which the room knows nothing');
  // What is wanted meanwhile it is not told.
  await ann.do('cutSignalling');
  await calls.joins(roomId, 'cid');
  await eventually('all of it is sent again', () => ann.sends(), (sent) => sent.every(({ active }) => active));
  await together(people, 'SFU');
  await flowing(people);
});

test('plain clients are told of speaking, layers, pauses and ends', async () => {
  const { roomId } = await calls.room({ mode: 'SFU' });
  const context = await calls.browser.newContext();
  try {
    const page = await context.newPage();
    await page.goto(`${calls.lab.url}/assets/plain.html`);
    const plain = (/** @type {string} */ name, /** @type {any[]} */ ...args) => page.evaluate((what) => /** @type {any} */ (window).plain[what.name](...what.args), { name, args });
    /** @type {Set<number>} */
    const used = new Set();
    /** The first event of this name that was not asked for yet, now or later; its epoch says that it is of the media node. @param {string} name @param {(data: any) => boolean} [is] */
    const told = async (name, is = () => true) => {
      const find = (/** @type {any[]} */ all) => all.findIndex((one, at) => !used.has(at) && one.name === name && is(one.data));
      const events = await eventually(name, () => plain('events'), (all) => find(all) >= 0);
      const at = find(events);
      used.add(at);
      const { epoch, ...data } = events[at].data;
      assert.equal(epoch, 1, name);
      return data;
    };
    await plain('join', { roomId, token: await calls.lab.token(roomId, 'ann') });
    assert.deepEqual((await told('room')).producers, []);
    assert.deepEqual(await told('active-speaker'), {}, 'whoever comes is told that nobody speaks yet');
    const bob = await calls.joins(roomId, 'bob');
    const published = async (/** @type {string} */ kind) => {
      const { id, participantId } = await told('new-producer', (one) => one.kind === kind);
      assert.equal(participantId, 'bob');
      return id;
    };
    const [sound, picture] = [await published('audio'), await published('video')];
    const speaks = await told('active-speaker', ({ participantId }) => participantId !== undefined);
    assert.deepEqual(speaks, { producerId: sound, participantId: 'bob' });
    const [heard, seen] = [await plain('consume', sound), await plain('consume', picture)];
    const { spatialLayer } = await told('layers-changed', ({ consumerId }) => consumerId === seen);
    if (spatialLayer > 0) {
      await plain('prefer', seen, 0);
      await told('layers-changed', (layers) => layers.consumerId === seen && layers.spatialLayer === 0);
    }
    for (const [muted, event] of /** @type {[boolean, string][]} */ ([[true, 'consumer-paused'], [false, 'consumer-resumed']])) {
      await bob.do('setMuted', muted);
      assert.deepEqual(await told(event), { consumerId: heard, producerId: sound, reason: 'producer' });
    }
    await bob.do('setCamera', false);
    assert.deepEqual(await told('consumer-closed'), { consumerId: seen, producerId: picture });
    assert.deepEqual(await told('producer-closed'), { producerId: picture, participantId: 'bob' });
    await calls.leaves(bob);
    assert.deepEqual(await told('active-speaker', ({ producerId }) => producerId === undefined), {}, 'nobody speaks');
    await plain('leave');
  } finally {
    await context.close();
  }
});
