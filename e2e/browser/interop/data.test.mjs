// Data channels between real browsers, and browsers that UDP does not reach.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventually, joinRoom } from '../lib/peer.mjs';
import { skip, startPageAndNode } from './page-and-node.mjs';
import { shown } from './record.mjs';
import { CHROMIUM } from './table.mjs';

const world = startPageAndNode();

/** @param {string} room @param {string} user @param {{tcpOnly?: boolean}} [options] */
async function join(room, user, options) {
  await world.node.directory.serving(room);
  return joinRoom(world.browser, world.node.directory, room, user, options);
}

/** Text of every kind and size that there is, and then many small ones. */
const MESSAGES = [
  { text: 'hello' }, { text: '' }, { binary: 0 }, { binary: 200_000 }, { large: 200_000 }, { binary: 262_144 }, { binary: 1 },
  ...Array.from({ length: 200 }, (_, at) => ({ text: `message ${at}` })),
];

for (const tcpOnly of [false, true]) {
  test(`two pages exchange messages of every kind${tcpOnly ? ' by TCP' : ''}, ordered and unordered`, { skip, timeout: 120_000 }, async () => {
    const room = `data-${tcpOnly ? 'tcp' : 'udp'}`;
    const [ann, bob] = [await join(room, 'ann', { tcpOnly }), await join(room, 'bob', { tcpOnly })];
    const ordered = await ann('openChannel', { label: 'ordered' });
    const unordered = await ann('openChannel', { label: 'unordered', ordered: false });
    const limited = await ann('openChannel', { label: 'limited', ordered: false, maxRetransmits: 2 });
    for (const id of [ordered, unordered, limited]) await bob('subscribe', id);
    // And the other way round at the same time.
    const back = await bob('openChannel', { label: 'back' });
    await ann('subscribe', back);

    const [first, second, third, fourth] = await Promise.all([
      ann('send', ['ordered', MESSAGES]), ann('send', ['unordered', MESSAGES]), ann('send', ['limited', MESSAGES]), bob('send', ['back', MESSAGES]),
    ]);
    const all = (/** @type {any} */ peer, /** @type {string} */ label) => eventually(
      `all of ${label}`, () => peer('received', label), (received) => received.length >= MESSAGES.length,
    );
    assert.deepEqual(await all(bob, 'ordered'), first);
    assert.deepEqual((await all(bob, 'unordered')).sort(), second.sort());
    // On a busy machine some of these are given up; none comes twice or changed.
    const arrived = await eventually('some of limited', () => bob('received', 'limited'), (received) => received.length >= MESSAGES.length / 2);
    assert.deepEqual(arrived.filter((/** @type {string} */ message) => !third.includes(message)), []);
    assert.equal(new Set(arrived).size, arrived.length);
    assert.deepEqual(await all(ann, 'back'), fourth);

    // Ended by its publisher: the subscriber's channel closes by SCTP, and the event says so.
    await ann('closeChannel', unordered);
    await eventually('the channel closes', () => bob('isClosed', 'unordered'), (isClosed) => isClosed);
    const types = (await bob('events')).filter((/** @type {any} */ { data }) => data?.dataProducerId === unordered || data?.id === unordered);
    assert.deepEqual(types.map((/** @type {any} */ event) => event.type), ['new-data-producer', 'data-consumer-closed', 'data-producer-closed']);
    const again = await ann('send', ['ordered', [{ text: 'still here' }]]);
    await eventually('the other goes on', () => bob('received', 'ordered'), (received) => received.at(-1) === again[0]);
    const { paths } = await bob('stats');
    assert.deepEqual(paths, Array(2).fill(tcpOnly ? 'tcp IPv4' : 'udp IPv4'));
    shown(CHROMIUM, tcpOnly ? 'data channels by ICE-TCP' : 'data channels', 'text and binary of 0 to 262 144 bytes both ways: ordered, unordered, and with limited retransmissions');
  });
}

test('a channel that the browser opens in band is published by its id', { skip, timeout: 60_000 }, async () => {
  const room = 'data-in-band';
  const [ann, bob] = [await join(room, 'ann'), await join(room, 'bob')];
  // The association comes with the first channel of mediasoup-client.
  await ann('openChannel', { label: 'negotiated' });
  const id = await ann('openInBand', 'in-band');
  await bob('subscribe', id);
  const sent = await ann('send', ['in-band', [{ text: 'one' }, { binary: 50_000 }, { text: 'three' }]]);
  assert.deepEqual(await eventually('all', () => bob('received', 'in-band'), (received) => received.length >= 3), sent);
  shown(CHROMIUM, 'data channel opened in band (DCEP)', 'published by its stream id, received by another page');
});

test('a call with sound and pictures goes by TCP where there is nothing else', { skip, timeout: 120_000 }, async () => {
  const room = 'media-tcp';
  const [ann, bob] = [await join(room, 'ann', { tcpOnly: true }), await join(room, 'bob', { tcpOnly: true })];
  for (const id of await ann('publishCamera')) await bob('watch', id);
  const has = await eventually('sound and pictures', () => bob('stats'), ({ frames, samples }) => frames >= 90 && samples >= 96_000);
  assert.deepEqual(has.paths, ['tcp IPv4']);
  assert.equal(has.lost, 0);
  shown(CHROMIUM, 'media by ICE-TCP alone', 'sound and pictures, nothing lost');
});
