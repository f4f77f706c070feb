import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { source } from './support/source.mjs';

const {
  withStartBitrate, sessionOf, activeLayers, encodingsFor, count, judge, named, joined, left, lost, expired, NOBODY, RETURN_MS, SpeakerMeter, Tokens, claims,
} = await source('sdp', 'encodings', 'quality', 'roster', 'speaker', 'tokens');

const SDP = [
  'v=0', 'o=- 4611731400430051336 2 IN IP4 127.0.0.1', 's=-', 'm=audio 9 UDP/TLS/RTP/SAVPF 111', 'a=rtpmap:111 opus/48000/2', 'a=fmtp:111 minptime=10',
  'm=video 9 UDP/TLS/RTP/SAVPF 96 97 98', 'a=rtpmap:96 VP8/90000', 'a=rtpmap:97 rtx/90000', 'a=fmtp:97 apt=96', 'a=rtpmap:98 VP9/90000', 'a=fmtp:98 profile-id=0', '',
].join('\r\n');

test('the start bit rate is told for each codec of pictures, once, and for nothing else', () => {
  const once = withStartBitrate(SDP, 900);
  const added = once.split('\r\n').filter((/** @type {string} */ line) => line.includes('start-bitrate'));
  assert.deepEqual(added, ['a=fmtp:96 x-google-start-bitrate=900', 'a=fmtp:98 profile-id=0;x-google-start-bitrate=900']);
  assert.equal(withStartBitrate(once, 900), once);
});

test('a description is known again by its origin', () => {
  assert.equal(sessionOf(SDP), '- 4611731400430051336');
  assert.equal(sessionOf('v=0'), undefined);
});

test('a picture is sent in no more layers than its height is good for', () => {
  const layers = (/** @type {number} */ height) => encodingsFor('camera', { height }).length;
  assert.deepEqual([180, 360, 480, 720, 1080].map(layers), [1, 2, 2, 3, 3]);
  assert.equal(encodingsFor('camera', {}).length, 1);
  assert.equal(encodingsFor('screen', { height: 1080 }).length, 1);
});

test('no more layers are sent than somebody watches', () => {
  /** @type {[number, number | null, boolean[]][]} */
  const cases = [
    [3, 2, [true, true, true]],
    [3, 0, [true, false, false]],
    [3, null, [false, false, false]],
    [3, Infinity, [true, true, true]],
    [2, 255, [true, true]],
    // Sound, and small pictures.
    [1, 0, [true]],
    [1, null, [false]],
    [0, null, []],
  ];
  for (const [layers, wanted, active] of cases) assert.deepEqual(activeLayers(layers, wanted), active, `${wanted} of ${layers}`);
});

const person = (/** @type {string} */ userId) => ({ userId, role: 'participant', isMuted: false, isVideoOn: true, joinedAt: '' });
const ids = (/** @type {any} */ roster) => [...roster.present.keys()].sort();

test('who is not named after the gateway was restarted may come back for a while', () => {
  const before = named(NOBODY, [person('ann'), person('bob')], false, 0);
  const resumed = named(before, [person('ann')], true, 0);
  assert.deepEqual(ids(resumed), ['ann']);
  const restarted = named(before, [person('ann')], false, 1000);
  assert.deepEqual([ids(restarted), [...restarted.missing]], [['ann', 'bob'], [['bob', 1000 + RETURN_MS]]]);
  assert.deepEqual(ids(expired(restarted, 999 + RETURN_MS)), ['ann', 'bob']);
  assert.deepEqual(ids(expired(restarted, 1000 + RETURN_MS)), ['ann']);
  assert.deepEqual(ids(expired(joined(restarted, person('bob')), 1e9)), ['ann', 'bob']);
  assert.deepEqual(ids(left(restarted, 'bob')), ['ann']);
  assert.deepEqual([ids(lost(before, 'bob', 7)), [...lost(before, 'bob', 7).missing]], [['ann', 'bob'], [['bob', 7]]]);
  assert.equal(lost(before, 'eve', 7), before);
  // Named again and again meanwhile, the time does not begin anew.
  assert.deepEqual([...named(restarted, [person('ann')], false, 5000).missing], [['bob', 1000 + RETURN_MS]]);
});

test('quality is told from what was lost between two moments', () => {
  const at = (/** @type {any} */ counters) => ({ received: 0, lost: 0, bytesReceived: 0, bytesSent: 0, sentLoss: 0, rttMs: undefined, ...counters });
  const cases = [
    [at({}), at({ received: 1000 }), 'good', 0],
    [at({ received: 1000, lost: 500 }), at({ received: 2000, lost: 500 }), 'good', 0],
    [at({}), at({ received: 950, lost: 50 }), 'fair', 5],
    [at({}), at({ received: 800, lost: 200 }), 'poor', 20],
    [at({}), at({ received: 5, lost: 5 }), 'good', 0],
    [at({}), at({ received: 1000, sentLoss: 0.12 }), 'poor', 12],
    [at({}), at({ received: 1000, rttMs: 300 }), 'fair', 0],
    // A connection went away, and its counters with it.
    [at({ received: 5000, lost: 10 }), at({ received: 100, lost: 0 }), 'good', 0],
    [undefined, at({ received: 1000, lost: 900 }), 'good', 0],
  ];
  for (const [before, now, level, loss] of cases) {
    const judged = judge(before, now, 2000);
    assert.deepEqual([judged.level, judged.packetLossPercent], [level, loss], JSON.stringify({ before, now }));
  }
  assert.equal(judge(at({}), at({ bytesReceived: 250_000, bytesSent: 250_000 }), 2000).bitrate, 2_000_000);
});

test('counters are added up over connections', () => {
  const report = (/** @type {any[]} */ ...stats) => new Map(stats.map((stat, at) => [at, stat]));
  const counters = count([
    report({ type: 'inbound-rtp', packetsReceived: 10, packetsLost: 1, bytesReceived: 100 }, { type: 'candidate-pair', nominated: true, state: 'succeeded', currentRoundTripTime: 0.02 }),
    report({ type: 'inbound-rtp', packetsReceived: 5, packetsLost: -1, bytesReceived: 50 }, { type: 'remote-inbound-rtp', fractionLost: 0.1 }, { type: 'outbound-rtp', bytesSent: 7 }),
  ]);
  assert.deepEqual(counters, { received: 15, lost: 0, bytesReceived: 150, bytesSent: 7, sentLoss: 0.1, rttMs: 20 });
});

test('who speaks stays the one who speaks until another is clearly louder', () => {
  const meter = new SpeakerMeter();
  const hear = (/** @type {number} */ ann, /** @type {number} */ bob) => meter.observe(new Map([['ann', ann], ['bob', bob]]));
  assert.equal(hear(0.001, 0.001), undefined);
  assert.equal(hear(0.2, 0.01), 'ann');
  assert.equal(hear(0.2, 0.22), 'ann');
  for (let at = 0; at < 10; at += 1) hear(0.01, 0.3);
  assert.equal(hear(0.01, 0.3), 'bob');
  for (let at = 0; at < 30; at += 1) hear(0, 0);
  assert.equal(hear(0, 0), undefined);
});

const jwt = (/** @type {object} */ payload) => `h.${Buffer.from(JSON.stringify(payload)).toString('base64url')}.s`;

test('a token is used for the epoch that it is for', () => {
  const tokens = new Tokens();
  const [one, two] = [jwt({ epoch: 1, sub: 'ann' }), jwt({ epoch: 2 })];
  tokens.keep({ token: one, expiresAt: 700 }, 9);
  tokens.keep({ token: two, expiresAt: new Date(900_000).toISOString() }, 9);
  assert.deepEqual([tokens.for(1), tokens.for(2), tokens.for(3)], [one, two, two]);
  assert.deepEqual([tokens.isDue(839_000), tokens.isDue(841_000)], [false, true]);
  assert.deepEqual([tokens.current(899_000), tokens.current(901_000)], [two, undefined]);
  assert.equal(claims('no token'), undefined);
  assert.equal(claims(jwt({ name: 'Zoë' }))?.name, 'Zoë');
});

test('the DOM is known to one file', async () => {
  const directory = fileURLToPath(new URL('../src', import.meta.url));
  for (const name of await readdir(directory)) {
    if (name === 'dom.ts') continue;
    const text = (await readFile(`${directory}/${name}`, 'utf8')).replace(/\/\/.*$|^ *\/?\*.*$/gm, '');
    assert.doesNotMatch(text, /\b(document|window|HTML\w*Element|location|requestAnimationFrame)\b/, name);
  }
});
