// A page shares its screen.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launchChromium } from '../lib/chromium.mjs';
import { mediaNodeProgram, startMediaNode } from '../lib/media-node.mjs';
import { eventually, joinRoom } from '../lib/peer.mjs';
import { ranWith, shown } from './record.mjs';
import { CHROMIUM } from './table.mjs';

const program = mediaNodeProgram();
const skip = program ? false : 'no media node has been built: cargo build -p callplane-media-node';

/** @type {Awaited<ReturnType<typeof startMediaNode>>} */
let node;
/** @type {import('playwright-core').Browser} */
let browser;

before(async () => {
  if (!program) return;
  node = await startMediaNode(program, '--cors-origin', '*');
  browser = await launchChromium();
  ranWith('Chromium', browser.version());
});

after(async () => {
  await browser?.close();
  await node?.stop();
});

test('a page shares its screen beside its camera, and another sees both', { skip, timeout: 120_000 }, async (t) => {
  await node.directory.create('screen');
  const [ann, bob] = [await joinRoom(browser, node.directory, 'screen', 'ann'), await joinRoom(browser, node.directory, 'screen', 'bob')];
  const [camera] = await ann('publishCamera', ['video']);
  const screen = await ann('publishScreen');
  for (const id of [camera, screen.id]) await bob('watch', id);
  const has = await eventually('both', () => bob('watched'), (watched) => watched[camera].frames >= 30 && watched[screen.id].frames >= 10);
  assert.deepEqual([has[screen.id].width, has[screen.id].height], [screen.width, screen.height]);
  assert.ok(screen.width > has[camera].width, 'it is not the camera');
  t.diagnostic(`${screen.displaySurface} of ${screen.width}x${screen.height}`);
  shown(CHROMIUM, 'screen share', 'in its own size beside the camera, contentHint «detail»');
});
