import assert from 'node:assert/strict';
import { generateKeyPairSync, verify } from 'node:crypto';
import { test } from 'node:test';
import { readToken } from '../page/src/tokens.js';
import { MAX_TTL_SECONDS, mintToken, peekClaims, signingKey } from '../lib/token.mjs';

const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const pem = privateKey.export({ type: 'pkcs8', format: 'pem' });
const NOW = Date.UTC(2026, 0, 1);
const mint = (/** @type {object} */ more = {}) => mintToken(signingKey(pem, 'k1'), { callId: 'default.demo', roomUid: 'u1', user: 'alice', epoch: 3, ...more }, NOW);
const decode = (/** @type {string | undefined} */ part) => JSON.parse(Buffer.from(part ?? '', 'base64url').toString());

test('a join token says who may join which epoch of which call, and for how long', () => {
  const { token, expiresAt } = mint();
  const [header, claims] = token.split('.').slice(0, 2).map(decode);
  assert.deepEqual(header, { alg: 'ES256', typ: 'JWT', kid: 'k1' });
  const { iss, aud, sub, roomId, roomUid, epoch, iat, exp } = claims;
  assert.deepEqual({ iss, aud, sub, roomId, roomUid, epoch, iat, exp }, {
    iss: 'callplane', aud: 'callplane-media', sub: 'alice', roomId: 'default.demo', roomUid: 'u1', epoch: 3,
    iat: NOW / 1000, exp: NOW / 1000 + MAX_TTL_SECONDS,
  });
  assert.equal(expiresAt, claims.exp);
});

test('its signature is the 64 bytes of ES256 and verifies with the public key', () => {
  const [header, claims, signature] = mint().token.split('.');
  const bytes = Buffer.from(signature ?? '', 'base64url');
  assert.equal(bytes.length, 64);
  assert.ok(verify('sha256', Buffer.from(`${header}.${claims}`), { key: publicKey, dsaEncoding: 'ieee-p1363' }, bytes));
});

test('no token lives longer than a media node accepts', () => {
  assert.equal(mint({ ttlSeconds: 86_400 }).expiresAt, NOW / 1000 + MAX_TTL_SECONDS);
  assert.equal(mint({ ttlSeconds: 5 }).expiresAt, NOW / 1000 + 5);
});

test('a key on another curve is refused by name', () => {
  const other = generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey.export({ type: 'pkcs8', format: 'pem' });
  assert.throws(() => signingKey(other, 'k1'), /P-256/);
});

test('what is not a token has no claims', () => {
  for (const text of ['', 'a.b.c', '..', 'x', 'a.bnVsbA.c']) assert.equal(peekClaims(text), undefined, text);
  assert.equal(peekClaims(mint().token)?.epoch, 3);
});

test('the page reads the epoch and the end of a token that it was given in its address', () => {
  const { token, expiresAt } = mint({ user: 'zoë' });
  assert.deepEqual(readToken(token), { token, epoch: 3, expiresAt });
  assert.throws(() => readToken('nonsense'), /cannot be read/);
});
