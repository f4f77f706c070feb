// A page shares its screen.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventually, joinRoom } from '../lib/peer.mjs';
import { skip, startPageAndNode } from './page-and-node.mjs';
import { shown } from './record.mjs';
import { CHROMIUM } from './table.mjs';

const world = startPageAndNode();

test('a page shares its screen beside its camera, and another sees both', { skip, timeout: 120_000 }, async (t) => {
  await world.node.directory.create('screen');
  const [ann, bob] = [await joinRoom(world.browser, world.node.directory, 'screen', 'ann'), await joinRoom(world.browser, world.node.directory, 'screen', 'bob')];
  const [camera] = await ann('publishCamera', ['video']);
  const screen = await ann('publishScreen');
  for (const id of [camera, screen.id]) await bob('watch', id);
  const has = await eventually('both', () => bob('watched'), (watched) => watched[camera].frames >= 30 && watched[screen.id].frames >= 10);
  assert.deepEqual([has[screen.id].width, has[screen.id].height], [screen.width, screen.height]);
  assert.ok(screen.width > has[camera].width, 'it is not the camera');
  t.diagnostic(`${screen.displaySurface} of ${screen.width}x${screen.height}`);
  shown(CHROMIUM, 'screen share', 'in its own size beside the camera, contentHint «detail»');
});
