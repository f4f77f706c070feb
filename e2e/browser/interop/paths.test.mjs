// Pages on paths that are narrow, that change, and that are there by IPv6 alone.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { launchChromium } from '../lib/chromium.mjs';
import { mediaNodeProgram, startMediaNodeAt } from '../lib/media-node.mjs';
import { Namespace, namespaceMissing } from '../lib/namespace.mjs';
import { Path } from '../lib/path.mjs';
import { eventually, joinRoom, peerPage } from '../lib/peer.mjs';
import { mediaOf, skip, startPageAndNode } from './page-and-node.mjs';
import { notHere, place, shown } from './record.mjs';
import { CHROMIUM } from './table.mjs';

/** @typedef {(step: string, argument?: any) => Promise<any>} Peer */

const TIMEOUT_MS = 240_000;
const LATE_MS = 90_000;
const AUTOPLAY = '--autoplay-policy=no-user-gesture-required';
const ENCODINGS = [{ scaleResolutionDownBy: 4, maxBitrate: 100_000 }, { scaleResolutionDownBy: 2, maxBitrate: 300_000 }, { maxBitrate: 900_000 }];
/** Bits per second that fit sound and the lowest encoding, and not the highest one. */
const NARROW = 250_000;
const LOUD = 0.5;
const [IPV6, MOVED] = ['IPv6 alone', 'a network that changes its address'];
/** How long an application waits before it tries once more. */
const RESTART_MS = 8000;
/** Samples of a second of sound. */
const SECOND = 48_000;

// Voices are made by WebAudio, which waits for a click otherwise.
const world = startPageAndNode({ args: [AUTOPLAY] });

/** Two people on the same path: one publishes sound and pictures, one takes both. @param {string} room @param {Path} path @param {object} camera */
async function call(room, path, camera) {
  const [ann, bob] = [await joinRoom(world.browser, world.node.directory, room, 'ann', { via: path.via }), await joinRoom(world.browser, world.node.directory, room, 'bob', { via: path.via })];
  return { ann, bob, ...await publishes(ann, bob, camera) };
}

/** @param {Peer} ann @param {Peer} bob @param {object} camera */
async function publishes(ann, bob, camera) {
  const { video, audio } = await ann('publishSpeaker', camera);
  await ann('speak', LOUD);
  for (const id of [video, audio]) await bob('watch', id);
  return { video, audio };
}

/**
 * Waits until pictures and a second of sound have come since now.
 * @param {string} what @param {Peer} peer @param {{video: string, audio: string}} ids
 */
async function goesOn(what, peer, { video, audio }) {
  const before = await peer('watched');
  return eventually(`sound and pictures ${what}`, () => peer('watched'), (now) => (
    now[video].frames >= before[video].frames + 30 && now[audio].samples >= before[audio].samples + SECOND), LATE_MS);
}

/** A room on a path of its own. @param {string} room @param {(path: Path) => Promise<void>} look */
async function onPath(room, look) {
  await world.node.directory.create(room);
  const { ip, port } = await mediaOf(world.node.directory, room);
  const path = await Path.to(ip, port);
  try {
    await look(path);
  } finally {
    await path.close();
  }
}

test('on a path that gets narrow sound goes on beside smaller pictures, and the large ones come back', { skip, timeout: TIMEOUT_MS }, (t) => onPath('narrow', async (path) => {
  const { ann, bob, ids } = await onlyDown('narrow', path);
  const width = (/** @type {number} */ least, /** @type {number} */ most) => (/** @type {any} */ now) => now[ids.video].width >= least && now[ids.video].width <= most;
  await eventually('the largest pictures', () => bob('watched'), width(960, 960), LATE_MS);
  path.rate = NARROW;
  const began = Date.now();
  await eventually('smaller pictures', () => bob('watched'), width(1, 480), LATE_MS);
  const smaller = Date.now() - began;
  let settled = await bob('watched');
  await eventually('sound beside smaller pictures, and no large ones between', () => bob('watched'), (now) => {
    // It may try whether there is more room by now.
    if (now[ids.video].width > 480) settled = now;
    return now[ids.video].frames >= settled[ids.video].frames + 45 && now[ids.audio].samples >= settled[ids.audio].samples + 3 * SECOND;
  }, LATE_MS);
  path.rate = Infinity;
  const widened = Date.now();
  await eventually('the largest pictures again', () => bob('watched'), width(960, 960), LATE_MS);
  const back = Date.now() - widened;
  const layers = (await bob('events')).filter((/** @type {any} */ { type }) => type === 'layers-changed').map((/** @type {any} */ { data }) => data.spatialLayer);
  t.diagnostic(`smaller after ${smaller} ms, back after ${back} ms, ${path.dropped} packets dropped; spatial layers: ${layers.join(' ')}`);
  await ann('leave');
  await bob('leave');
  shown(CHROMIUM, 'a path that gets narrow', `at ${NARROW / 1000} kbit/s sound goes on beside pictures of a lower layer; the highest comes back when it is wide again`);
}));

/** Who publishes has a path that is wide; who plays has the one that gets narrow. @param {string} room @param {Path} path */
async function onlyDown(room, path) {
  const ann = await joinRoom(world.browser, world.node.directory, room, 'ann');
  const bob = await joinRoom(world.browser, world.node.directory, room, 'bob', { via: path.via });
  return { ann, bob, ids: await publishes(ann, bob, { width: 960, height: 540, encodings: ENCODINGS }) };
}

const [ELSEWHERE, RESTARTED] = [place(), place()];

// Both wait much and take little.
describe('a path that changes', { concurrency: true }, () => {
  test('pages whose packets come from other ports all of a sudden stay in the call', { skip, timeout: TIMEOUT_MS }, (t) => onPath('elsewhere', async (path) => {
    const { ann, bob, ...ids } = await call('elsewhere', path, { width: 320, height: 180 });
    await goesOn('at first', bob, ids);
    const before = await path.ports();
    const began = Date.now();
    await path.move();
    await goesOn('from elsewhere', bob, ids);
    const took = Date.now() - began;
    const now = await path.ports();
    for (const end of [...await ann('ends'), ...await bob('ends')]) {
      assert.ok(now.now.includes(end.node.port) && !before.now.includes(end.node.port), `the node sends to ${end.node.port}`);
      assert.equal(end.state, 'connected');
    }
    assert.equal(now.early, 0, 'nothing came to a port before it was checked');
    t.diagnostic(`a second of both ${took} ms after the move`);
    shown(CHROMIUM, 'an address that changes (NAT)', 'sound and pictures go on from other ports; the node sends nothing there before a connectivity check came', { at: ELSEWHERE });
  }));

  test('pages that restart ICE stay in the call', { skip, timeout: TIMEOUT_MS }, (t) => onPath('restart', async (path) => {
    const { ann, bob, ...ids } = await call('restart', path, { width: 320, height: 180 });
    await goesOn('at first', bob, ids);
    const before = [...await ann('ends'), ...await bob('ends')];
    await ann('restartIce');
    await bob('restartIce');
    await goesOn('after it', bob, ids);
    const now = [...await ann('ends'), ...await bob('ends')];
    for (const [at, { ufrag, state }] of now.entries()) {
      assert.equal(state, 'connected');
      assert.ok(ufrag && ufrag !== before[at]?.ufrag, `credentials of ${ufrag}`);
    }
    const { [ids.video]: { lost } } = await bob('watched');
    t.diagnostic(`${lost} packets of pictures lost`);
    shown(CHROMIUM, 'restartIce', 'of publisher and player: sound and pictures go on under the same SSRC with new credentials of the node', { at: RESTARTED });
  }));
});

test('a browser with IPv6 alone joins, and stays when its address changes', { skip, timeout: TIMEOUT_MS }, async (t) => {
  const missing = namespaceMissing();
  if (missing) {
    for (const what of [IPV6, MOVED]) notHere(CHROMIUM, what, missing);
    t.skip(missing);
    return;
  }
  // Unique local addresses (RFC 4193) that nothing else here has.
  const [here, first, second] = ['fdca:11:9::1', 'fdca:11:9::2', 'fdca:11:9::3'];
  const network = await Namespace.make(`${here}/64`);
  /** @type {{close(): Promise<void>} | undefined} */
  let browser;
  /** @type {Awaited<ReturnType<typeof startMediaNodeAt>> | undefined} */
  let node;
  try {
    await network.ip('address', 'add', `${first}/64`, 'dev', 'cable', 'nodad');
    node = await startMediaNodeAt(mediaNodeProgram() ?? '', here, '--cors-origin', '*');
    const { directory } = node;
    await directory.create('ipv6');
    const door = async (/** @type {string} */ url) => `http://[${here}]:${await network.door(here, Number(new URL(url).port))}`;
    const [page, api] = [await door(await peerPage()), await door(directory.api)];
    const executablePath = await network.wrapper(process.env.CHROMIUM ?? '/usr/bin/chromium');
    const launched = browser = await launchChromium({ executablePath, hosts: [here, `[${here}]`], args: [AUTOPLAY, `--unsafely-treat-insecure-origin-as-secure=${page}`] });
    const join = (/** @type {string} */ user) => joinRoom(launched, directory, 'ipv6', user, { page, api });
    const [ann, bob] = [await join('ann'), await join('bob')];
    const ids = await publishes(ann, bob, { width: 320, height: 180 });
    await goesOn('by IPv6', bob, ids);
    const ends = async () => [...await ann('ends'), ...await bob('ends')];
    for (const { address, node: seen } of await ends()) assert.deepEqual([address, seen.address], [first, first]);
    assert.doesNotMatch(await network.ip('-4', 'address', 'show', 'dev', 'cable'), /inet /);
    shown(CHROMIUM, IPV6, 'sound and pictures of a browser in a network of its own that has no IPv4');

    await network.ip('address', 'add', `${second}/64`, 'dev', 'cable', 'nodad');
    await network.ip('address', 'delete', `${first}/64`, 'dev', 'cable');
    const began = Date.now();
    let restarts = 0;
    // As an application does that hears of another network: until it is there, again.
    await eventually('both are there', async () => {
      const now = await ends();
      if (now.every(({ state, node: seen }) => state === 'connected' && seen?.address === second)) return true;
      if (now.some(({ state }) => state !== 'connecting') && Date.now() - began > restarts * RESTART_MS) {
        restarts += 1;
        await ann('restartIce');
        await bob('restartIce');
      }
      return false;
    }, (is) => is, LATE_MS);
    await goesOn('at another address', bob, ids);
    t.diagnostic(`at the other address ${Date.now() - began} ms after the change, with ${restarts} ICE restarts`);
    shown(CHROMIUM, MOVED, 'the address of its network is taken away and another one given: after restartIce sound and pictures go on in the same transports');
  } finally {
    await browser?.close();
    await node?.stop();
    await network.remove();
  }
});
