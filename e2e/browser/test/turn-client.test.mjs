// The TURN client against a server that says what a test wants, byte by byte.

import assert from 'node:assert/strict';
import { createHash, createHmac } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { test } from 'node:test';
import { mint, TurnClient } from '../lib/turn-client.mjs';

/** @param {number} type @param {Buffer} value */
function attribute(type, value) {
  const head = Buffer.alloc(4);
  head.writeUInt16BE(type, 0);
  head.writeUInt16BE(value.length, 2);
  return Buffer.concat([head, value, Buffer.alloc((4 - (value.length % 4)) % 4)]);
}

/** @param {Buffer} asked @param {number} type @param {Buffer[]} attributes */
function answer(asked, type, attributes) {
  const body = Buffer.concat(attributes);
  const head = Buffer.from(asked.subarray(0, 20));
  head.writeUInt16BE(type, 0);
  head.writeUInt16BE(body.length, 2);
  return Buffer.concat([head, body]);
}

test('a credential is what coturn computes', () => {
  // printf 1800000000:ann | openssl dgst -sha1 -hmac north -binary | base64
  assert.deepEqual(mint('north', 1_800_000_000, 'ann'), { username: '1800000000:ann', credential: 'Sqiimhz6m4x0uPJBfx56aqeAS4E=' });
});

test('it signs with the nonce that it is told, and says what is refused', async () => {
  const server = createSocket('udp4');
  await new Promise((resolve) => server.bind(0, '127.0.0.1', () => resolve(undefined)));
  const login = [attribute(0x0014, Buffer.from('callplane')), attribute(0x0015, Buffer.from('nonce'))];
  const key = createHash('md5').update('ann:callplane:word').digest();
  /** @type {string[]} */
  const peers = [];
  server.on('message', (asked, { port, address }) => {
    const signed = asked.subarray(0, -24);
    const isSigned = asked.length > 44 && createHmac('sha1', key).update(signed).digest().equals(asked.subarray(-20));
    const method = asked.readUInt16BE(0);
    if (!isSigned) return server.send(answer(asked, method | 0x0110, [attribute(0x0009, Buffer.from([0, 0, 4, 1])), ...login]), port, address);
    if (method === 0x008) peers.push(asked.toString('hex', 24, 32));
    const refusal = method === 0x008 ? [attribute(0x0009, Buffer.from([0, 0, 4, 3]))] : [];
    return server.send(answer(asked, method | (refusal.length ? 0x0110 : 0x0100), refusal), port, address);
  });
  const { port } = server.address();
  const client = await TurnClient.to({ way: 'udp', host: '127.0.0.1', port }, { username: 'ann', credential: 'word' });
  try {
    assert.equal(await client.allocate(), 0);
    assert.equal(await client.permit('192.0.2.1'), 403);
    // 192.0.2.1 and port 9, each exclusive-or the magic cookie (RFC 8489 §14.2).
    assert.deepEqual(peers, [`0001${(9 ^ 0x2112).toString(16)}e112a643`]);
    const stranger = await TurnClient.to({ way: 'udp', host: '127.0.0.1', port }, { username: 'ann', credential: 'guess' });
    assert.equal(await stranger.allocate(), 401);
    stranger.close();
  } finally {
    client.close();
    server.close();
  }
});
