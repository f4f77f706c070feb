// Each codec, simulcast and SVC, from a real Chromium through a real media node and back.

import assert from 'node:assert/strict';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import * as esbuild from 'esbuild';
import { launchChromium } from '../lib/chromium.mjs';
import { startServer } from '../lib/dev-server.mjs';
import { mediaNodeProgram, startMediaNode } from '../lib/media-node.mjs';
import { notHere, ranWith, shown } from './record.mjs';
import { CHROMIUM } from './table.mjs';

const here = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));
const program = mediaNodeProgram();
const skip = program ? false : 'no media node has been built: cargo build -p callplane-media-node';
const TIMEOUT_MS = 300_000;
/**
 * Share of the pictures that came whole and were neither decoded nor dropped for being late: a stream that is broken at a switch has
 * many. Freezes say less: a busy machine makes them by itself.
 */
const MAX_LEFT = 0.1;
/** Key frames that the decoder asks for: one whose stream breaks asks at each of five switches, and one that is starved of time asks now and then. */
const MAX_ASKED = 4;

/** @type {string} */
let dist;
/** @type {Awaited<ReturnType<typeof startMediaNode>>} */
let node;
/** @type {{url: string, close(): Promise<void>}} */
let server;
/** @type {import('playwright-core').Browser} */
let browser;
let rooms = 0;

before(async () => {
  if (!program) return;
  dist = await mkdtemp(join(tmpdir(), 'callplane-lab-'));
  await esbuild.build({ entryPoints: { lab: here('../lab/lab.js') }, outdir: dist, bundle: true, format: 'esm', target: 'chrome120', logLevel: 'warning' });
  await cp(here('../lab/index.html'), join(dist, 'index.html'));
  node = await startMediaNode(program);
  server = await startServer({ dist, directory: node.directory });
  browser = await launchChromium();
  ranWith('Chromium', browser.version());
});

after(async () => {
  await browser?.close();
  await server?.close();
  await node?.stop();
  if (dist) await rm(dist, { recursive: true });
});

/**
 * A page with one track, closed at the end whatever happens.
 * @param {object} wanted as `Lab.start` takes it
 * @param {(track: Track) => Promise<void>} look
 */
async function withTrack(wanted, look) {
  const context = await browser.newContext();
  try {
    const page = await context.newPage();
    await page.goto(server.url);
    await page.waitForFunction(() => 'lab' in window);
    const room = `lab.codec-${(rooms += 1)}`;
    const started = await page.evaluate(([r, w]) => /** @type {any} */ (window).lab.start(r, w), /** @type {const} */ ([room, wanted]));
    await look(new Track(page, started));
  } finally {
    await context.close();
  }
}

class Track {
  /** @param {import('playwright-core').Page} page @param {any} started */
  constructor(page, started) {
    this.page = page;
    this.started = started;
  }

  /** @returns {Promise<any>} */
  stats() {
    return this.page.evaluate(() => /** @type {any} */ (window).lab.stats());
  }

  /** @param {number} spatial @param {number} [temporal] */
  prefer(spatial, temporal) {
    return this.page.evaluate(([s, t]) => /** @type {any} */ (window).lab.prefer(s, t), /** @type {const} */ ([spatial, temporal]));
  }

  /**
   * Asks until it is so; tells what it was when it never came to be.
   * @param {string} what @param {(stats: any) => boolean} isSo @param {number} [limitMs]
   */
  async until(what, isSo, limitMs = 60_000) {
    const limit = Date.now() + limitMs;
    for (;;) {
      const stats = await this.stats();
      if (isSo(stats)) return stats;
      if (Date.now() > limit) {
        const { received: r, sent, layers } = stats;
        const picked = r && { codec: r.codec, width: r.frameWidth, fps: r.framesPerSecond, decoded: r.framesDecoded, received: r.framesReceived, dropped: r.framesDropped, keys: r.keyFramesDecoded, freezes: r.freezeCount, pli: r.pliCount, nack: r.nackCount, lost: r.packetsLost, packets: r.packetsReceived };
        assert.fail(`${what}: ${JSON.stringify({ picked, layers, sent: sent.map((/** @type {any} */ s) => [s.rid, s.codec, s.scalabilityMode, s.frameWidth, s.framesPerSecond, s.framesEncoded, s.keyFramesEncoded, s.pliCount]) })}`);
      }
      await sleep(250);
    }
  }

  /**
   * To each of three spatial layers, and to the lowest temporal one and back, in pictures that never stand still.
   * @param {import('node:test').TestContext} t @param {boolean} [temporal] whether there are temporal layers
   */
  async throughLayers(t, temporal = true) {
    const width = (/** @type {number} */ expected) => (/** @type {any} */ { received }) => received?.frameWidth === expected;
    await this.until('all spatial layers', width(960));
    for (const [spatial, expected] of /** @type {const} */ ([[0, 240], [1, 480], [2, 960], [0, 240], [2, 960]])) {
      await this.prefer(spatial);
      await this.until(`spatial layer ${spatial}`, width(expected));
    }
    if (temporal) {
      await this.prefer(2, 0);
      await this.until('the lowest temporal layer told', ({ layers }) => layers.at(-1)?.temporalLayer === 0);
      const slow = await this.pictureRate(4);
      assert.ok(slow > 2 && slow < 12, `a quarter of the pictures: ${slow}`);
      await this.prefer(2);
      await this.until('all temporal layers told', ({ layers }) => layers.at(-1)?.temporalLayer === 2);
    }
    const stats = await this.until('all pictures', ({ received }) => received.framesPerSecond > 15);
    noteQuality(t, stats);
    const { framesReceived, framesDecoded, framesDropped } = stats.received;
    const left = framesReceived - framesDecoded - framesDropped;
    assert.ok(left <= MAX_LEFT * framesReceived, `${left} of ${framesReceived} pictures were left`);
    assert.ok(stats.received.pliCount <= MAX_ASKED, `the decoder was lost ${stats.received.pliCount} times`);
    assert.deepEqual([...new Set(stats.layers.map((/** @type {any} */ layer) => layer.spatialLayer))].sort(), [0, 1, 2]);
  }

  /** Pictures decoded in a second, over so many. @param {number} seconds */
  async pictureRate(seconds) {
    const before = await this.stats();
    await sleep(seconds * 1000);
    const now = await this.stats();
    return (now.received.framesDecoded - before.received.framesDecoded) / ((now.received.timestamp - before.received.timestamp) / 1000);
  }
}

/** What was seen, for the record. */
function noteQuality(/** @type {import('node:test').TestContext} */ t, /** @type {any} */ { received: r }) {
  t.diagnostic(`${r.codec}: ${r.framesDecoded} of ${r.framesReceived} decoded at ${r.frameWidth}x${r.frameHeight}, ${r.freezeCount} freezes (${r.totalFreezesDuration.toFixed(2)} s), ${r.keyFramesDecoded} key frames, ${r.pliCount} PLI, ${r.nackCount} NACK, ${r.framesDropped} dropped`);
}

/** This browser sends no such codec. @param {import('node:test').TestContext} t @param {string} what @param {Track} track */
function skipped(t, what, track) {
  notHere(CHROMIUM, what, track.started.missing);
  t.skip(track.started.missing);
}

const CODECS = [
  { name: 'VP8', mimeType: 'video/VP8' },
  { name: 'VP9', mimeType: 'video/VP9', parameters: { 'profile-id': 0 } },
  { name: 'H264 Constrained Baseline, packetization mode 1', mimeType: 'video/H264', parameters: { 'profile-level-id': '42e01f', 'packetization-mode': 1 } },
  { name: 'H264 Constrained Baseline, packetization mode 0', mimeType: 'video/H264', parameters: { 'profile-level-id': '42e01f', 'packetization-mode': 0 } },
  { name: 'H264 Main, packetization mode 1', mimeType: 'video/H264', parameters: { 'profile-level-id': '4d001f', 'packetization-mode': 1 } },
  { name: 'H264 Main, packetization mode 0', mimeType: 'video/H264', parameters: { 'profile-level-id': '4d001f', 'packetization-mode': 0 } },
  { name: 'AV1', mimeType: 'video/AV1' },
];

for (const { name, mimeType, parameters } of CODECS) {
  test(`${name} arrives`, { skip, timeout: TIMEOUT_MS }, (t) => withTrack({ mimeType, parameters, width: 320, height: 180 }, async (track) => {
    if (track.started.missing) return skipped(t, name, track);
    assert.equal(track.started.type, 'simple');
    const stats = await track.until('pictures', ({ received }) => received?.framesDecoded > 60 && received.frameWidth === 320);
    assert.equal(stats.received.codec.toLowerCase(), mimeType.toLowerCase());
    assert.ok(stats.received.pliCount <= 1, `the decoder was lost ${stats.received.pliCount} times`);
    noteQuality(t, stats);
    const agreed = Object.entries(parameters ?? {}).map(([parameter, value]) => `${parameter}=${value}`);
    // What each end settled on, and what the browser says of the stream that it sends and of the one that it decodes.
    for (const { codecs } of [track.started.producer, track.started.consumer]) {
      for (const [parameter, value] of Object.entries(parameters ?? {})) assert.equal(codecs[0].parameters[parameter], value, parameter);
    }
    for (const { fmtp } of [stats.sent[0], stats.received]) {
      const has = (fmtp ?? '').split(';').map((/** @type {string} */ one) => one.trim());
      for (const one of agreed) assert.ok(has.includes(one), `${one} is not in ${fmtp}`);
    }
    const by = agreed.length > 0 ? `, by ${agreed.join(' and ')} on both sides` : '';
    shown(CHROMIUM, name, `publishes and plays 320x180, decoded from the first key frame on${by}`);
  }));
}

test('Opus with DTX and FEC arrives', { skip, timeout: TIMEOUT_MS }, () => withTrack({ mimeType: 'audio/opus', kind: 'audio', opusDtx: true, width: 0, height: 0 }, async (track) => {
  assert.equal(track.started.type, 'simple');
  const { parameters } = track.started.consumer.codecs[0];
  assert.deepEqual([parameters.usedtx, parameters.useinbandfec], [1, 1]);
  await track.until('sound', ({ received }) => received?.totalSamplesReceived - received?.concealedSamples > 48_000);
  shown(CHROMIUM, 'Opus', 'publishes with DTX and in-band FEC on, and hears it');
}));

test('Opus with redundancy arrives with its copies, and as plain Opus', { skip, timeout: TIMEOUT_MS }, async (t) => {
  for (const heard of [true, false]) {
    await withTrack({ mimeType: 'audio/opus', kind: 'audio', width: 0, height: 0, red: { heard } }, async (track) => {
      const names = (/** @type {any} */ { codecs }) => codecs.map((/** @type {any} */ codec) => codec.mimeType.toLowerCase());
      assert.deepEqual(names(track.started.consumer), heard ? ['audio/opus', 'audio/red'] : ['audio/opus']);
      // The browser counts a copy of what it has as a packet that it discards.
      const { received } = await track.until('sound', ({ received: r }) => r?.totalSamplesReceived - r?.concealedSamples > 96_000
        && r.packetsReceived > 100 && (r.packetsDiscarded > 0.8 * r.packetsReceived) === heard);
      t.diagnostic(`${heard ? 'with' : 'without'} redundancy: ${received.packetsReceived} packets, ${received.bytesReceived} bytes, ${received.packetsDiscarded} copies not needed`);
    });
  }
  shown(CHROMIUM, 'Opus with redundancy (RED)', 'publishes it once the answer that mediasoup-client makes names it, too; hears it with its copies, and as plain Opus without asking for them');
});

const EACH_LAYER = 'three encodings of up to 960x540; plays each and changes between them';
const TEMPORAL = ', and at a quarter of the pictures';

for (const { mimeType, parameters, mode } of [
  { mimeType: 'video/VP8', mode: 'L1T3' },
  { mimeType: 'video/VP9', parameters: { 'profile-id': 0 }, mode: 'L1T3' },
  { mimeType: 'video/AV1', mode: 'L1T3' },
  // Its temporal layers cannot be told apart, and the client says of its own accord that there are three.
  { mimeType: 'video/H264', parameters: { 'profile-level-id': '42e01f', 'packetization-mode': 1 }, mode: undefined },
]) {
  test(`simulcast of ${mimeType} goes from layer to layer`, { skip, timeout: TIMEOUT_MS }, (t) => withTrack({
    // Smaller ones get fewer encodings from the browser.
    mimeType, parameters, width: 960, height: 540,
    encodings: [
      { scaleResolutionDownBy: 4, maxBitrate: 100_000, scalabilityMode: mode },
      { scaleResolutionDownBy: 2, maxBitrate: 300_000, scalabilityMode: mode },
      { scaleResolutionDownBy: 1, maxBitrate: 900_000, scalabilityMode: mode },
    ],
  }, async (track) => {
    const what = `simulcast of ${mimeType.slice(6)}`;
    if (track.started.missing) return skipped(t, what, track);
    assert.equal(track.started.type, 'simulcast');
    assert.equal(track.started.consumer.encodings[0].scalabilityMode, 'L3T3');
    await track.throughLayers(t, mode !== undefined);
    shown(CHROMIUM, what, `${EACH_LAYER}${mode ? TEMPORAL : ''}`);
  }));
}

for (const { mimeType, mode } of [
  { mimeType: 'video/VP9', mode: 'L3T3_KEY' },
  { mimeType: 'video/VP9', mode: 'L3T3' },
  { mimeType: 'video/AV1', mode: 'L3T3_KEY' },
]) {
  test(`${mode} of ${mimeType} goes from layer to layer`, { skip, timeout: TIMEOUT_MS }, (t) => withTrack({
    mimeType, width: 960, height: 540, encodings: [{ scalabilityMode: mode, maxBitrate: 1_200_000 }],
  }, async (track) => {
    const what = `SVC of ${mimeType.slice(6)}, ${mode}`;
    if (track.started.missing) return skipped(t, what, track);
    assert.equal(track.started.type, 'svc');
    await track.throughLayers(t);
    shown(CHROMIUM, what, `spatial layers of 240, 480 and 960 pixels in one stream; plays each and changes between them${TEMPORAL}`);
  }));
}

test('a layer that nobody watches is not asked for', { skip, timeout: TIMEOUT_MS }, () => withTrack({
  mimeType: 'video/VP8', width: 960, height: 540,
  encodings: [{ scaleResolutionDownBy: 4, maxBitrate: 100_000 }, { scaleResolutionDownBy: 2, maxBitrate: 300_000 }, { maxBitrate: 900_000 }],
}, async (track) => {
  await track.until('the highest encoding', ({ received }) => received?.frameWidth === 960);
  await track.prefer(1);
  await track.until('a hint', ({ wanted }) => wanted.at(-1)?.spatialLayer === 1);
  await track.page.evaluate(() => /** @type {any} */ (window).lab.setMaxSpatialLayer(1));
  await track.until('two encodings', ({ sent }) => sent.filter((/** @type {any} */ { active }) => active).length === 2);
  await track.until('pictures of the second', ({ received }) => received.frameWidth === 480 && received.framesPerSecond > 15);
  await track.prefer(2);
  await track.until('another hint', ({ wanted }) => wanted.at(-1)?.spatialLayer === 2);
  await track.page.evaluate(() => /** @type {any} */ (window).lab.setMaxSpatialLayer(2));
  await track.until('the highest encoding again', ({ received }) => received.frameWidth === 960);
  shown(CHROMIUM, 'a layer that nobody watches', 'is told so, stops sending it, and sends it again when somebody asks');
}));
