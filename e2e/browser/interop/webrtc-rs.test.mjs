// The crate webrtc (webrtc-rs), as a program of its own, plays and publishes: it passes on what it plays.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { address, mediaNodeProgram } from '../lib/media-node.mjs';
import { startEmptyPageAndNode } from './page-and-node.mjs';
import { endSession, eventually, openPage, pagePlays, pagePublishes, played, Program, received } from './programs.mjs';
import { shown } from './record.mjs';
import { WEBRTC_RS } from './table.mjs';

const ROOM = 'webrtc-rs';
/** For a program to start and connect, on a busy machine. */
const PATIENCE_MS = 90_000;

/** @type {{close(): unknown}[]} */
const programs = [];

const world = startEmptyPageAndNode([ROOM], programs);

/** It is built with the node, and beside it. */
function startPeer() {
  const { node } = world;
  const program = join(dirname(mediaNodeProgram() ?? ''), 'interop-webrtc-rs');
  if (!existsSync(program)) throw new Error(`${program} has not been built: cargo build -p callplane-interop-webrtc-rs`);
  const running = new Program(program, [
    address(),
    `${node.api}/whep/${ROOM}?participant=camera`, node.token(ROOM, 'player'),
    `${node.api}/whip/${ROOM}`, node.token(ROOM, 'webrtc-rs'),
  ]);
  programs.push({ close: () => running.kill() });
  return running;
}

/** What it has, unless it has ended. @param {Program} program */
function has(program) {
  if (program.child.exitCode !== null) throw new Error(`it has ended:\n${program.lines.slice(-20).join('\n')}`);
  return played(program);
}

test('webrtc-rs plays a page by WHEP, and publishes by WHIP what another page decodes', { timeout: 240_000 }, async (t) => {
  const { node, browser, empty } = world;
  const [camera, viewer] = [await openPage(browser, empty.url), await openPage(browser, empty.url)];
  await pagePublishes(camera, node, ROOM, 'camera');
  const running = startPeer();
  const playing = await eventually('it has the camera', () => has(running), (all) => all?.pictures >= 30 && all.sound >= 50, PATIENCE_MS);
  assert.deepEqual(playing.size, [320, 180]);

  // The camera's key frame is long over: the page decodes nothing before webrtc-rs has asked for another one.
  await pagePlays(viewer, node, ROOM, 'viewer', '?participant=webrtc-rs');
  const seen = await eventually('the page has webrtc-rs', () => received(viewer), ({ frames }) => frames >= 30, PATIENCE_MS);
  assert.deepEqual([seen.codec, seen.width], ['video/VP8', 320]);
  const passedOn = await eventually('it was asked for a key frame', () => has(running), ({ keyFramesWanted }) => keyFramesWanted >= 1);
  t.diagnostic(JSON.stringify(passedOn));

  assert.deepEqual(JSON.parse((await running.finish()).at(-1) ?? '{}').ended, [200, 200]);
  assert.equal(await endSession(viewer), 200);
  assert.equal(await endSession(camera), 200);
  shown(WEBRTC_RS, 'WHEP', 'plays VP8 at 320x180 and Opus of a page from a key frame on, and deletes its session');
  shown(WEBRTC_RS, 'WHIP', 'publishes VP8 that a page decodes, answers its requests for key frames, and deletes its session');
});
