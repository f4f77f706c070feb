import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DEFAULT_CRITERIA, failures, missing, receivesAll, summarize, table } from '../lib/verdict.mjs';

/** @param {any} more @returns {import('../lib/verdict.mjs').RemoteStats} */
const remote = ({ frames = 300, level = 0.01, ...more } = {}) => ({
  name: 'x', firstFrameMs: 400, longestGapMs: 40, framesPresented: frames,
  video: { codec: 'video/VP8', width: 640, height: 360, fps: 30, framesDecoded: frames, freezeCount: 0, freezeSeconds: 0, packetsReceived: 1, packetsLost: 0 },
  audio: { codec: 'audio/opus', level, realSamples: 480, concealedSamples: 0, packetsReceived: 1, packetsLost: 0 },
  ...more,
});
/** @param {string} user @param {number} at @param {any} remotes @returns {import('../lib/verdict.mjs').PageStats} */
const page = (user, at, remotes) => ({ at, state: 'joined', detail: '', user, rejoins: 0, remotes, events: [] });
const call = (/** @type {any} */ atTheEnd = {}) => [
  [page('alice', 0, { bob: remote({ frames: 10, longestGapMs: 3000 }) }), page('bob', 0, { alice: remote({ frames: 10 }) })],
  [page('alice', 10_000, { bob: remote({ frames: 310, ...atTheEnd }) }), page('bob', 10_000, { alice: remote({ frames: 310 }) })],
];

test('a good call has no failures', () => {
  const rows = summarize(call());
  assert.deepEqual(failures(rows, ['alice', 'bob'], DEFAULT_CRITERIA), []);
  assert.equal(rows[0]?.fps, 30);
  assert.equal(rows[0]?.longestGapMs, 40, 'what lies before the run does not count');
});

test('every criterion can fail, and says who had what', () => {
  const failing = (/** @type {any} */ end) => failures(summarize(call(end)), ['alice', 'bob'], DEFAULT_CRITERIA).join();
  assert.match(failing({ frames: 110 }), /alice sees bob at 10 frames\/s/);
  assert.match(failing({ firstFrameMs: 16_000 }), /alice sees bob 16000 ms after joining/);
  assert.match(failing({ firstFrameMs: undefined }), /never/);
  const silent = call({ level: 0 }).map(([alice, bob]) => [page('alice', alice?.at ?? 0, { bob: { ...alice?.remotes.bob, audio: { ...alice?.remotes.bob?.audio, level: 0 } } }), bob]);
  assert.match(failures(summarize(/** @type {any} */ (silent)), ['alice', 'bob'], DEFAULT_CRITERIA).join(), /alice hears nothing of bob/);
  assert.match(failures([], ['alice', 'bob'], DEFAULT_CRITERIA).join(), /bob does not have alice/);
});

test('someone who is alone in a call of one fails nothing', () => {
  assert.deepEqual(failures(summarize([[page('alice', 0, {})]]), ['alice'], DEFAULT_CRITERIA), []);
});

test('what is missing is told for a person to read', () => {
  const alice = page('alice', 0, { bob: { ...remote(), video: { ...remote().video, framesDecoded: 0, packetsReceived: 7 } } });
  assert.equal(receivesAll(alice, ['bob']), false);
  assert.match(missing(alice, ['bob', 'carol']), /decoded no picture of bob \(7 packets came\); does not know of carol/);
  assert.equal(receivesAll(page('alice', 0, { bob: remote() }), ['bob']), true);
});

test('the table has a row for each viewer and each other', () => {
  const lines = table(summarize(call())).split('\n');
  assert.equal(lines.length, 4);
  assert.match(lines[2] ?? '', /alice +bob +310 +640x360 +30\.0 +VP8 \+ opus +-40 dB +400 ms +40 ms +0 +0/);
});
