// What a room's settings do to real browsers: whom they see and hear, and how much they may send.

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { eventually, joinRoom } from '../lib/peer.mjs';
import { skip, startPageAndNode } from './page-and-node.mjs';
import { shown } from './record.mjs';
import { CHROMIUM } from './table.mjs';

const TIMEOUT_MS = 180_000;
/** Loudness of a voice, and of one that is clearly less loud: -9 and -37 dBov. */
const [LOUD, LOW, SILENT] = [0.5, 0.02, 0];

// Voices are made by WebAudio, which waits for a click otherwise.
const world = startPageAndNode({ args: ['--autoplay-policy=no-user-gesture-required'] });

afterEach(() => Promise.all((world.browser?.contexts() ?? []).map((context) => context.close())));

/** Two who publish, and one who takes all of it. @param {string} room @param {Record<string, unknown>} media */
async function roomOfThree(room, media) {
  await world.node.directory.create(room, { media });
  const join = (/** @type {string} */ user) => joinRoom(world.browser, world.node.directory, room, user);
  const [ann, bob, carol] = [await join('ann'), await join('bob'), await join('carol')];
  const camera = { width: 320, height: 180 };
  const [ofAnn, ofBob] = [await ann('publishSpeaker', camera), await bob('publishSpeaker', camera)];
  for (const id of [ofAnn.video, ofAnn.audio, ofBob.video, ofBob.audio]) await carol('watch', id);
  return { ann, bob, carol, ofAnn, ofBob };
}

/**
 * Waits until what comes of one producer grows by so much while nothing comes of the other.
 * @param {(step: string, argument?: any) => Promise<any>} peer
 * @param {'frames' | 'packets'} what @param {string} flows @param {string} rests @param {number} atLeast
 */
async function onlyFlows(peer, what, flows, rests, atLeast) {
  let before = await peer('watched');
  await eventually(`${what} of one, and none of the other`, async () => {
    const now = await peer('watched');
    const grown = (/** @type {string} */ id) => now[id][what] - before[id][what];
    const is = { flows: grown(flows), rests: grown(rests) };
    // What was still on its way when the other took over.
    if (is.rests > 0) before = now;
    return is;
  }, ({ flows: grown, rests: other }) => grown >= atLeast && other === 0, 60_000);
}

test('with last-N only who spoke last is seen', { skip, timeout: TIMEOUT_MS }, async () => {
  const { ann, bob, carol, ofAnn, ofBob } = await roomOfThree('last-n', { lastN: 1 });
  await onlyFlows(carol, 'frames', ofAnn.video, ofBob.video, 30);
  const told = (await carol('events')).length;
  await bob('speak', LOUD);
  await onlyFlows(carol, 'frames', ofBob.video, ofAnn.video, 30);
  await bob('speak', SILENT);
  await ann('speak', LOUD);
  await onlyFlows(carol, 'frames', ofAnn.video, ofBob.video, 30);

  const events = (await carol('events')).slice(told);
  const of = (/** @type {string} */ type) => events.filter((/** @type {any} */ event) => event.type === type).map((/** @type {any} */ { data }) => data);
  const speakers = of('active-speaker').map((/** @type {any} */ { participantId }) => participantId).filter(Boolean);
  assert.deepEqual(speakers, ['bob', 'ann']);
  const paused = of('consumer-paused').filter((/** @type {any} */ { reason }) => reason === 'last-n').map((/** @type {any} */ { producerId }) => producerId);
  assert.deepEqual(paused, [ofAnn.video, ofBob.video]);
  assert.deepEqual(of('consumer-resumed').map((/** @type {any} */ { producerId }) => producerId), [ofBob.video, ofAnn.video]);
  shown(CHROMIUM, 'last-N of 1, three pages', 'pictures of who spoke last and of nobody else, with active-speaker, consumer-paused and consumer-resumed as it changes');
});

test('with a limit of voices only the loudest are heard', { skip, timeout: TIMEOUT_MS }, async () => {
  const { ann, bob, carol, ofAnn, ofBob } = await roomOfThree('loudest', { loudest: 1 });
  await ann('speak', LOW);
  await onlyFlows(carol, 'packets', ofAnn.audio, ofBob.audio, 50);
  await bob('speak', LOUD);
  await onlyFlows(carol, 'packets', ofBob.audio, ofAnn.audio, 50);
  // The first one still speaks, and has the place as soon as it is free.
  await bob('speak', SILENT);
  await onlyFlows(carol, 'packets', ofAnn.audio, ofBob.audio, 50);
  shown(CHROMIUM, 'the loudest voice of two, three pages', 'packets of the loudest and of nobody else; another takes the place by being louder or when it is free');
});

test('a page sends no more than the room allows, and more as soon as it may', { skip, timeout: TIMEOUT_MS }, async (t) => {
  // The fake camera's pictures are simple: they need no more than 300 kbit/s.
  const [room, low, high] = ['max-publish', 100_000, 1_500_000];
  await world.node.directory.create(room, { media: { maxPublishBitrate: low } });
  const ann = await joinRoom(world.browser, world.node.directory, room, 'ann');
  await ann('publishSpeaker', { width: 640, height: 360, encodings: [{ maxBitrate: 1_000_000 }] });
  /** Bits per second over four seconds, UDP and IP aside. */
  const rate = async () => {
    const before = await ann('sending');
    await sleep(4000);
    const now = await ann('sending');
    return ((now.bytes - before.bytes) * 8000) / (now.at - before.at);
  };
  // It begins with an estimate of its own, and a key frame may be on its way.
  await eventually('it knows the limit', () => ann('sending'), ({ available }) => available > 0 && available <= low);
  const limited = await eventually('it keeps to it', rate, (bits) => bits > low / 5 && bits <= 1.2 * low, 60_000);
  await world.node.directory.create(room, { media: { maxPublishBitrate: high } });
  const raised = await eventually('it sends more', rate, (bits) => bits > 1.3 * low, 60_000);
  await world.node.directory.create(room, { media: { maxPublishBitrate: low } });
  await eventually('it sends less again', rate, (bits) => bits <= 1.2 * low, 60_000);
  await world.node.directory.create(room, { media: {} });
  await eventually('nothing holds it back', rate, (bits) => bits > 1.3 * low, 60_000);
  t.diagnostic(`limited to ${low / 1000} kbit/s: ${Math.round(limited / 1000)}; to ${high / 1000}: ${Math.round(raised / 1000)}`);
  shown(CHROMIUM, 'maxPublishBitrate', 'the camera stays below it, grows when it is raised or ends, and goes back when it is lowered');
});
