// What Opus does of its own accord when nobody speaks and when packets are lost, through a media node.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Path } from '../lib/path.mjs';
import { eventually, joinRoom } from '../lib/peer.mjs';
import { mediaOf, skip, startPageAndNode } from './page-and-node.mjs';
import { place, shown } from './record.mjs';
import { CHROMIUM } from './table.mjs';

const TIMEOUT_MS = 180_000;
const LATE_MS = 60_000;
/** How long packets are counted for a rate, in milliseconds. */
const WINDOW_MS = 2000;
/** Packets a second: 20 ms of sound each while somebody speaks, and one for 400 ms of silence (RFC 6716 §2.1.9). */
const [SPEAKING, SILENT] = [40, 10];
/** Root mean square of a sine of half the full scale is 0.35. */
const HEARD = 0.1;
/** One of so many is lost: Opus repeats much in the next packet then. */
const LOSES_EACH = 5;

// Voices are made by WebAudio, which waits for a click otherwise.
const world = startPageAndNode({ args: ['--autoplay-policy=no-user-gesture-required'] });

/** Packets a second from one look to another, by the page's own clock, and how loud it is. @param {(step: string, argument?: any) => Promise<any>} peer @param {string} id */
async function look(peer, id) {
  const before = (await peer('watched'))[id];
  const now = await eventually('time passes', async () => (await peer('watched'))[id], ({ at }) => at >= before.at + WINDOW_MS);
  return { rate: ((now.packets - before.packets) * 1000) / (now.at - before.at), loudness: now.loudness };
}

const [DTX, FEC] = [place(), place()];

// Both wait much and take little.
describe('Opus', { concurrency: true }, () => {
  test('a voice that is silent is hardly sent, and heard when it speaks again', { skip, timeout: TIMEOUT_MS }, async (t) => {
    await world.node.directory.create('dtx');
    const [ann, bob] = [await joinRoom(world.browser, world.node.directory, 'dtx', 'ann'), await joinRoom(world.browser, world.node.directory, 'dtx', 'bob')];
    const voice = await ann('publishVoice', { opusDtx: true });
    assert.match(voice.sdp, /answer .*usedtx=1/);
    const { codec } = await bob('watch', voice.id);
    assert.equal(codec.parameters.usedtx, 1);
    await bob('listen', voice.id);
    const seen = [];
    for (const [what, speaks] of /** @type {const} */ ([['it speaks', true], ['it is silent', false], ['it speaks again', true]])) {
      await ann('speak', speaks ? 0.5 : 0);
      seen.push(await eventually(what, () => look(bob, voice.id), ({ rate, loudness }) => (
        speaks ? rate > SPEAKING && loudness > HEARD : rate < SILENT && loudness < HEARD / 10), LATE_MS));
    }
    t.diagnostic(`packets a second, and loudness: ${seen.map(({ rate, loudness }) => `${rate.toFixed(1)} (${loudness.toFixed(2)})`).join(', ')}`);
    shown(CHROMIUM, 'DTX of Opus', `usedtx=1 on both sides: fewer than ${SILENT} packets a second of a silent voice, and it is heard when it speaks again`, { at: DTX });
  });

  test('Opus repairs in band what is lost on the way to the node', { skip, timeout: TIMEOUT_MS }, async (t) => {
    await world.node.directory.create('fec');
    const media = await mediaOf(world.node.directory, 'fec');
    const path = await Path.to(media.ip, media.port);
    try {
      const ann = await joinRoom(world.browser, world.node.directory, 'fec', 'ann', { via: path.via });
      const bob = await joinRoom(world.browser, world.node.directory, 'fec', 'bob');
      const voice = await ann('publishVoice', { opusFec: true });
      assert.match(voice.sdp, /offer .*useinbandfec=1.*, answer .*useinbandfec=1/);
      const { codec } = await bob('watch', voice.id);
      assert.equal(codec.parameters.useinbandfec, 1);
      await ann('speak', 0.5);
      // Without losses there is nothing to repeat, and nothing is.
      const before = (await eventually('sound', () => bob('watched'), (has) => has[voice.id].samples > 48_000, LATE_MS))[voice.id];
      path.losesEach = LOSES_EACH;
      const now = (await eventually('it is repeated', () => bob('watched'), (has) => has[voice.id].fec - before.fec > 50, LATE_MS))[voice.id];
      t.diagnostic(`${path.lost} packets lost on the way to the node; ${before.fec} with repetitions before, ${now.fec - before.fec} of ${now.packets - before.packets} since`);
      shown(CHROMIUM, 'in-band FEC of Opus', `useinbandfec=1 on both sides: with one of ${LOSES_EACH} packets lost on the way to the node, the other page takes repetitions from those that come`, { at: FEC });
    } finally {
      await path.close();
    }
  });
});
