import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connectionOf, inboundByTrack, outboundByKind, Received } from '../page/src/aggregate.js';
import { Backoff } from '../page/src/backoff.js';
import { FrameClock } from '../page/src/frames.js';
import { joinParams, withoutToken } from '../page/src/params.js';

/** @param {any[]} stats */
const report = (...stats) => new Map(stats.map((stat) => [stat.id, stat]));
const video = (/** @type {object} */ more) => ({
  type: 'inbound-rtp', id: 'v', timestamp: 0, trackIdentifier: 'track-1', ssrc: 7, framesDecoded: 0, frameWidth: 640, frameHeight: 360, ...more,
});

test('the fragment wins over the query, and the token is taken out of the address', () => {
  const href = 'http://localhost:1/?room=a.b&user=bob#room=default.demo&token=x.y.z';
  assert.deepEqual(joinParams(href), { room: 'default.demo', user: 'bob', token: 'x.y.z' });
  assert.equal(withoutToken(href), 'http://localhost:1/?room=a.b&user=bob#room=default.demo');
});

test('streams are found by their track and know their codec', () => {
  const inbound = inboundByTrack(report(video({ codecId: 'c' }), { type: 'codec', id: 'c', mimeType: 'video/VP8' }, { type: 'inbound-rtp', id: 'probator' }));
  assert.deepEqual([...inbound.keys()], ['track-1']);
  assert.equal(inbound.get('track-1')?.codec, 'video/VP8');
});

test('a connection tells its states and the path that it took', () => {
  const connection = connectionOf(report(
    { type: 'transport', id: 't', iceState: 'connected', dtlsState: 'connected', selectedCandidatePairId: 'p' },
    { type: 'candidate-pair', id: 'p', localCandidateId: 'l', remoteCandidateId: 'r', currentRoundTripTime: 0.0012 },
    { type: 'local-candidate', id: 'l', address: '10.0.0.1', port: 5, protocol: 'udp' },
    { type: 'remote-candidate', id: 'r', address: '10.0.0.2', port: 40000, protocol: 'udp' },
  ));
  assert.equal(connection.iceState, 'connected');
  assert.equal(connection.remote, '10.0.0.2:40000/udp');
  assert.equal(connection.roundTripMs, 1.2);
  assert.equal(connectionOf(report()).iceState, undefined);
});

test('what is sent is told by kind', () => {
  const sent = outboundByKind(report({ type: 'outbound-rtp', id: 'o', kind: 'video', codecId: 'c', frameWidth: 640 }, { type: 'codec', id: 'c', mimeType: 'video/VP8' }));
  assert.equal(sent.video?.codec, 'video/VP8');
  assert.equal(sent.audio, undefined);
});

test('frames per second are over the last two seconds', () => {
  const received = new Received();
  for (const [second, framesDecoded] of [0, 30, 60, 65, 70].entries()) received.observe(second * 1000, video({ framesDecoded }));
  assert.equal(received.video().fps, 5);
  assert.equal(received.video().framesDecoded, 70);
});

test('nothing received is no frames per second, not those of before', () => {
  const received = new Received();
  for (const [second, framesDecoded] of [0, 30, 60].entries()) received.observe(second * 1000, video({ framesDecoded }));
  for (const second of [3, 4, 5]) received.rest(second * 1000);
  assert.equal(received.video().fps, 0);
  assert.equal(received.video().framesDecoded, 60);
});

test('totals go on when a participant is consumed anew and its stream begins at zero', () => {
  const received = new Received();
  received.observe(0, video({ framesDecoded: 100, freezeCount: 1 }));
  received.observe(1000, video({ trackIdentifier: 'track-2', ssrc: 8, framesDecoded: 20 }));
  received.observe(2000, video({ trackIdentifier: 'track-2', ssrc: 8, framesDecoded: 50 }));
  assert.equal(received.video().framesDecoded, 150);
  assert.equal(received.video().freezeCount, 1);
});

test('the level of sound is its root mean square lately, and concealment is no sound', () => {
  const received = new Received();
  const audio = (/** @type {object} */ more) => ({ type: 'inbound-rtp', id: 'a', timestamp: 0, trackIdentifier: 'track-3', ssrc: 9, ...more });
  received.observe(0, audio({ totalAudioEnergy: 0, totalSamplesDuration: 0, totalSamplesReceived: 0, concealedSamples: 0 }));
  received.observe(1000, audio({ totalAudioEnergy: 0.25, totalSamplesDuration: 1, totalSamplesReceived: 48_000, concealedSamples: 480 }));
  assert.equal(received.audio().level, 0.5);
  assert.equal(received.audio().realSamples, 47_520);
  assert.equal(new Received().audio().level, 0);
});

test('the longest gap spans from one element to the next', () => {
  const clock = new FrameClock();
  for (const [at, presented] of [[0, 1], [33, 2], [66, 3]]) clock.picture(at ?? 0, presented ?? 0, true);
  clock.picture(266, 1, false);
  assert.equal(clock.takeLongestGap(270), 200);
  clock.picture(299, 2, true);
  assert.equal(clock.takeLongestGap(300), 33);
});

test('pictures that a busy page did not hear of are no gap', () => {
  const clock = new FrameClock();
  clock.picture(0, 1, true);
  clock.picture(165, 6, true);
  assert.equal(clock.takeLongestGap(165), 33);
  assert.equal(clock.frames, 6);
});

test('a gap that has not ended counts as long as it lasts', () => {
  const clock = new FrameClock();
  assert.equal(clock.takeLongestGap(5000), undefined);
  clock.picture(5000, 1, true);
  assert.equal(clock.takeLongestGap(6000), 1000);
  assert.equal(clock.takeLongestGap(7000), 2000);
  clock.pause();
  assert.equal(clock.takeLongestGap(8000), undefined);
});

test('attempts come at doubling intervals up to the limit, with jitter of at most a half', () => {
  const latest = new Backoff({ firstMs: 100, limitMs: 500, random: () => 1 });
  assert.deepEqual(Array.from({ length: 5 }, () => latest.next()), [100, 200, 400, 500, 500]);
  latest.reset();
  assert.equal(latest.next(), 100);
  assert.equal(new Backoff({ firstMs: 100, random: () => 0 }).next(), 50);
});
