// WHIP and WHEP between real programs, and with mediasoup-client participants, all in one room.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { build } from '../build.mjs';
import { BrowserCall } from '../call.mjs';
import { startServer } from '../lib/dev-server.mjs';
import { startEmptyPageAndNode } from './page-and-node.mjs';
import {
  aiortcPlays, aiortcPublishes, endSession, eventually, ffmpegPublishes, openPage, pagePlays, pagePublishes, played, received, restartIce,
} from './programs.mjs';
import { shown } from './record.mjs';
import { AIORTC, CHROMIUM, FFMPEG, PAGE } from './table.mjs';

const ROOM = 'default.interop';
/** @type {Array<() => Promise<unknown>>} what is to be ended, last one first */
const endings = [];

// Before the node and the browser end.
after(async () => {
  for (const end of endings.reverse()) await end().catch(() => {});
});

// A page that stays keeps the camera at its size, and another that wants a larger one gets no layers.
const world = startEmptyPageAndNode([ROOM]);

/** @param {any} has */
const seesAndHears = (has) => has?.frames >= 30 && has?.sound >= 1;
/** A muted element's track has no energy; concealed samples do not count. @param {Awaited<ReturnType<typeof received>>} has */
const pageSeesAndHears = (has) => has.frames >= 30 && has.samples >= 48_000;

test('FFmpeg publishes; a mediasoup-client page, aiortc and a plain page decode it, and all are in one room', { timeout: 180_000 }, async () => {
  const { node, browser, empty } = world;
  const ffmpeg = await ffmpegPublishes(node, ROOM, 'ffmpeg');
  endings.push(() => ffmpeg.kill());
  const server = await startServer({ dist: await build(), directory: node.calls });
  endings.push(() => server.close());
  const call = await BrowserCall.start({ url: server.url, room: ROOM, users: ['alice'] });
  endings.push(() => call.close());
  const aiortc = await aiortcPlays(node, ROOM, 'aiortc', '?participant=ffmpeg');
  endings.push(() => aiortc.kill());
  const page = await openPage(browser, empty.url);
  await pagePlays(page, node, ROOM, 'viewer', '?participant=ffmpeg');

  const [alice] = await eventually('alice has ffmpeg', () => call.stats(), ([stats]) => {
    const remote = stats?.remotes.ffmpeg;
    return remote !== undefined && remote.video.framesDecoded >= 30 && remote.audio.realSamples >= 48_000;
  });
  assert.equal(alice?.remotes.ffmpeg?.video.codec, 'video/H264');
  const player = await eventually('aiortc has ffmpeg', () => played(aiortc), seesAndHears);
  assert.deepEqual(player.size, [320, 180]);
  const viewer = await eventually('the page has ffmpeg', () => received(page), pageSeesAndHears);
  assert.equal(viewer.codec, 'video/H264');

  // Others in the room publish VP8, which a player gets who asks for them.
  const other = await aiortcPlays(node, ROOM, 'aiortc-2', '?participant=alice');
  endings.push(() => other.kill());
  await eventually('aiortc has alice', () => played(other), seesAndHears);
  const said = await other.finish();
  assert.equal(JSON.parse(said.at(-1) ?? '{}').ended, 200);

  // FFmpeg deletes its session when it ends, and is gone from the room; it comes back as a DTLS client, and the
  // players see it again, on the connections and under the SSRCs that they have.
  assert.ok((await ffmpeg.finish()).includes('ended'));
  await eventually('alice knows that it left', () => call.stats(), ([stats]) => stats?.remotes.ffmpeg === undefined);
  const before = [played(aiortc).frames, await received(page)];
  const again = await ffmpegPublishes(node, ROOM, 'ffmpeg', 'dtls_active');
  endings.push(() => again.kill());
  await eventually('aiortc goes on', () => played(aiortc), ({ frames }) => frames >= before[0] + 30);
  const after = await eventually('the page goes on', () => received(page), ({ frames }) => frames >= before[1].frames + 30);
  assert.equal(after.ssrc, before[1].ssrc);
  assert.equal(await endSession(page), 200);
  assert.equal(JSON.parse((await aiortc.finish()).at(-1) ?? '{}').ended, 200);
  await again.finish();
  await call.close();
  shown(FFMPEG, 'WHIP', 'publishes H264 at 320x180 and Opus as the DTLS server that it is by default, and deletes its session; decoded by pages with and without mediasoup-client and by aiortc');
  shown(FFMPEG, 'WHIP with dtls_active', 'comes back as a DTLS client; who played it before goes on, under the same SSRC');
  shown(AIORTC, 'WHEP', 'plays FFmpeg (H264) and a page with mediasoup-client (VP8), pictures and sound, and deletes its session');
  shown(CHROMIUM, 'a WHIP publisher in the room', 'plays FFmpeg, and knows when it leaves');
  shown(PAGE, 'WHEP', 'plays FFmpeg, pictures and sound, and deletes its session');
});

test('a plain page publishes, others play it, and both sides restart ICE by PATCH', { timeout: 120_000 }, async () => {
  const { node, browser, empty } = world;
  const [publisher, viewer] = [await openPage(browser, empty.url), await openPage(browser, empty.url)];
  // The player is there first.
  await pagePlays(viewer, node, ROOM, 'viewer', '?participant=camera');
  const made = await pagePublishes(publisher, node, ROOM, 'camera');
  assert.match(made.location ?? '', new RegExp(`^/whip/${ROOM}/[0-9a-f-]{36}$`));
  assert.match(made.etag ?? '', /^"[^"]+"$/);
  assert.equal(made.link, '<stun:stun.invalid:3478>; rel="ice-server"');
  const aiortc = await aiortcPlays(node, ROOM, 'aiortc', '?participant=camera');
  endings.push(() => aiortc.kill());
  const first = await eventually('the page has the camera', () => received(viewer), pageSeesAndHears);
  assert.equal(first.codec, 'video/VP8');
  await eventually('aiortc has the camera', () => played(aiortc), seesAndHears);

  for (const page of [publisher, viewer]) {
    const restarted = await restartIce(page);
    assert.notEqual(restarted.etag, made.etag);
  }
  const before = await received(viewer);
  const after = await eventually('pictures go on', () => received(viewer), ({ frames }) => frames >= before.frames + 60);
  assert.equal(after.state, 'connected');
  assert.notEqual(after.pair, first.pair, 'on a path that was checked with the new credentials');
  assert.equal(after.ssrc, first.ssrc);
  assert.equal(await endSession(publisher), 200);
  assert.equal(await endSession(viewer), 200);
  await aiortc.finish();
  shown(PAGE, 'WHIP', 'publishes VP8 and Opus; played by a page that was there first and by aiortc');
  shown(PAGE, 'ICE restart by PATCH', 'of publisher and player: pictures go on under the same SSRC on a newly checked path');
});

test('aiortc publishes, and a plain page plays it', { timeout: 120_000 }, async () => {
  const { node, browser, empty } = world;
  const aiortc = await aiortcPublishes(node, ROOM, 'aiortc-camera');
  endings.push(() => aiortc.kill());
  const page = await openPage(browser, empty.url);
  await pagePlays(page, node, ROOM, 'viewer', '?participant=aiortc-camera');
  const has = await eventually('the page has aiortc', () => received(page), pageSeesAndHears);
  assert.deepEqual([has.codec, has.width], ['video/VP8', 320]);
  assert.equal(JSON.parse((await aiortc.finish()).at(-1) ?? '{}').ended, 200);
  assert.equal(await endSession(page), 200);
  shown(AIORTC, 'WHIP', 'publishes VP8 at 320x180 and Opus, and deletes its session; played by a page');
});

test('a plain page publishes by simulcast, and a player gets the highest layer', { timeout: 120_000 }, async () => {
  const { node, browser, empty } = world;
  const [publisher, viewer] = [await openPage(browser, empty.url), await openPage(browser, empty.url)];
  await pagePublishes(publisher, node, ROOM, 'simulcast', ['l', 'h']);
  await pagePlays(viewer, node, ROOM, 'viewer', '?participant=simulcast');
  const has = await eventually('the full size', () => received(viewer), ({ width }) => width === 640);
  // A busy machine makes some by itself.
  assert.ok(has.freezes <= 4, `${has.freezes} freezes`);
  assert.equal(await endSession(publisher), 200);
  assert.equal(await endSession(viewer), 200);
  shown(PAGE, 'simulcast by WHIP', 'two encodings by rid; a player gets the higher one in full size');
});

test('a plain page publishes redundant audio, and who does not know that hears Opus', { timeout: 120_000 }, async () => {
  const { node, browser, empty } = world;
  const [publisher, viewer] = [await openPage(browser, empty.url), await openPage(browser, empty.url)];
  await pagePublishes(publisher, node, ROOM, 'redundant', [], 'audio/red');
  await pagePlays(viewer, node, ROOM, 'viewer', '?participant=redundant');
  const aiortc = await aiortcPlays(node, ROOM, 'aiortc', '?participant=redundant');
  endings.push(() => aiortc.kill());
  await eventually('the page hears the copies', () => received(viewer), (has) => pageSeesAndHears(has) && has.copies > 50);
  await eventually('aiortc hears Opus', () => played(aiortc), seesAndHears);
  assert.equal(await endSession(publisher), 200);
  assert.equal(await endSession(viewer), 200);
  await aiortc.finish();
  shown(PAGE, 'Opus with redundancy (RED) by WHIP', 'publishes it where it is preferred; another page hears it with its copies, and aiortc as plain Opus');
});
