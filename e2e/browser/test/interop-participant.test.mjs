import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dataAnswer, dtlsOf, midOf, vp8KeyFrame } from '../interop/participant.mjs';

/** Start of a key frame of 320x180, as a partition's first bytes (RFC 6386 §9.1). */
const KEY = [0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xb4, 0x00];

test('a key frame of VP8 tells its size behind any payload descriptor', () => {
  for (const descriptor of [[0x10], [0x90, 0x80, 0x11], [0x90, 0xe0, 0x91, 0x22, 0x07, 0x00], [0x90, 0x20, 0x40]]) {
    assert.deepEqual(vp8KeyFrame(Buffer.from([...descriptor, ...KEY])), [320, 180], `${descriptor}`);
  }
});

test('what is no beginning of a key frame has no size', () => {
  for (const payload of [[], [0x10], [0x00, ...KEY], [0x11, ...KEY], [0x10, 0x11, ...KEY.slice(1)], [0x10, ...KEY.slice(0, 9)], [0x90, 0x80]]) {
    assert.equal(vp8KeyFrame(Buffer.from(payload)), undefined, `${payload}`);
  }
});

test('an offer of data channels is answered with the transport that the node has made', () => {
  const offer = 'v=0\r\na=fingerprint:SHA-256 AA:BB\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:data\r\n';
  assert.deepEqual(dtlsOf(offer), { role: 'client', fingerprints: [{ algorithm: 'sha-256', value: 'AA:BB' }] });
  const lines = dataAnswer({
    iceParameters: { usernameFragment: 'user', password: 'secret' },
    iceCandidates: [
      { foundation: 'u', priority: 7, ip: '192.0.2.1', port: 40000, protocol: 'udp' },
      { foundation: 't', priority: 6, ip: '192.0.2.1', port: 40000, protocol: 'tcp', tcpType: 'passive' },
    ],
    dtlsParameters: { fingerprints: [{ algorithm: 'sha-1', value: 'CC' }, { algorithm: 'sha-256', value: 'DD' }] },
    sctpParameters: { port: 5000, maxMessageSize: 262144 },
  }, midOf(offer)).split('\r\n');
  for (const line of [
    'a=mid:data', 'a=ice-lite', 'a=setup:passive', 'a=candidate:u 1 udp 7 192.0.2.1 40000 typ host', 'a=fingerprint:sha-256 DD', 'a=sctp-port:5000',
  ]) assert.ok(lines.includes(line), line);
  assert.equal(lines.filter((line) => line.startsWith('a=candidate')).length, 1);
});
