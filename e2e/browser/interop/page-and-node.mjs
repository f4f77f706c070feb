// A media node and a Chromium for all tests of a file.

import { after, before } from 'node:test';
import { launchChromium } from '../lib/chromium.mjs';
import { mediaNodeProgram, startMediaNode } from '../lib/media-node.mjs';
import { ranWith } from './record.mjs';

const program = mediaNodeProgram();
/** Why the tests cannot be run, if they cannot. */
export const skip = program ? false : 'no media node has been built: cargo build -p callplane-media-node';

/**
 * Starts both before the first test of the file and ends them after the last.
 * @param {Parameters<typeof launchChromium>[0]} [options] of Chromium
 */
export function startPageAndNode(options) {
  const world = {
    /** @type {Awaited<ReturnType<typeof startMediaNode>>} */
    node: /** @type {any} */ (undefined),
    /** @type {import('playwright-core').Browser} */
    browser: /** @type {any} */ (undefined),
  };
  before(async () => {
    if (!program) return;
    world.node = await startMediaNode(program, '--cors-origin', '*');
    world.browser = await launchChromium(options);
    ranWith('Chromium', world.browser.version());
  });
  after(async () => {
    await world.browser?.close();
    await world.node?.stop();
  });
  return world;
}
