// A media node and a Chromium for all tests of a file.

import { after, afterEach, before } from 'node:test';
import { launchChromium } from '../lib/chromium.mjs';
import { mediaNodeProgram, startMediaNode } from '../lib/media-node.mjs';
import { Participant } from './participant.mjs';
import { Node, serveEmptyPage } from './programs.mjs';
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

/**
 * Where a node has the media of a room by UDP, as it says to whoever joins.
 * @param {import('../lib/standalone.mjs').Standalone} directory @param {string} room made before
 * @returns {Promise<{ip: string, port: number}>}
 */
export async function mediaOf(directory, room) {
  const guest = new Participant(directory, room, 'guest');
  const { iceCandidates } = await guest.ask('POST', '/transports', { direction: 'recv' });
  await guest.ask('POST', '/participants/guest/leave');
  return iceCandidates.find((/** @type {any} */ { protocol }) => protocol === 'udp');
}

/**
 * The same with a node that other programs than pages reach as well, and an empty page to open.
 * @param {string[]} rooms that the node serves
 * @param {{close(): unknown}[]} [connections] ended after each test, as all pages are
 */
export function startEmptyPageAndNode(rooms, connections = []) {
  const world = {
    /** @type {Node} */
    node: /** @type {any} */ (undefined),
    /** @type {import('playwright-core').Browser} */
    browser: /** @type {any} */ (undefined),
    /** @type {Awaited<ReturnType<typeof serveEmptyPage>>} */
    empty: /** @type {any} */ (undefined),
  };
  before(async () => {
    world.node = await Node.start();
    for (const room of rooms) await world.node.create(room);
    world.empty = await serveEmptyPage();
    world.browser = await launchChromium();
    ranWith('Chromium', world.browser.version());
  });
  afterEach(async () => {
    for (const connection of connections.splice(0)) await connection.close();
    await Promise.all((world.browser?.contexts() ?? []).map((context) => context.close()));
  });
  after(async () => {
    await world.browser?.close();
    await world.empty?.close();
    await world.node?.stop();
  });
  return world;
}
