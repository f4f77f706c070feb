// Join tokens: what they say, and how they are signed and read.
//
// ES256 (RFC 7518 §3.4), signed with the private half of the key whose public half every media node has.

import { createPrivateKey, sign } from 'node:crypto';

/** Longest life of a join token, in seconds: the media node refuses tokens that live longer. */
export const MAX_TTL_SECONDS = 600;

/**
 * @typedef {{key: import('node:crypto').KeyObject, kid?: string}} SigningKey  Without `kid`, a media node tries each key that it has.
 * @typedef {{
 *   callId: string, roomUid?: string, user: string, epoch: number, role?: string, grants?: string[], name?: string,
 *   ttlSeconds?: number,
 * }} Admission  Who is let into which call.
 */

/**
 * @param {string | Buffer} pem PKCS#8 or SEC1, a P-256 key
 * @param {string} [kid]
 * @returns {SigningKey}
 */
export function signingKey(pem, kid) {
  const key = createPrivateKey(pem);
  if (key.asymmetricKeyDetails?.namedCurve !== 'prime256v1') {
    throw new Error('the signing key of join tokens must be an EC key on the curve P-256 (ES256)');
  }
  return { key, kid };
}

/**
 * @param {SigningKey} signer
 * @param {Admission} admission
 * @param {number} now milliseconds since 1970
 * @returns {{token: string, expiresAt: number}} `expiresAt` in seconds since 1970, as in `exp`
 */
export function mintToken({ key, kid }, admission, now) {
  const { callId, roomUid, user, epoch, role = 'participant', grants = ['publish', 'subscribe'], name } = admission;
  const iat = Math.floor(now / 1000);
  const exp = iat + Math.min(admission.ttlSeconds ?? MAX_TTL_SECONDS, MAX_TTL_SECONDS);
  const claims = {
    iss: 'callplane', aud: 'callplane-media', sub: user, name, roomId: callId, roomUid, epoch, role, grants, iat, exp,
  };
  const signed = `${base64(JSON.stringify({ alg: 'ES256', typ: 'JWT', kid }))}.${base64(JSON.stringify(claims))}`;
  const signature = sign('sha256', Buffer.from(signed), { key, dsaEncoding: 'ieee-p1363' });
  return { token: `${signed}.${signature.toString('base64url')}`, expiresAt: exp };
}

/**
 * What a token says, *unverified*: good enough to choose where to send it, since that node verifies it.
 * @param {string} token
 * @returns {{roomId?: string, epoch?: number, sub?: string, exp?: number} | undefined}
 */
export function peekClaims(token) {
  try {
    const claims = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('utf8'));
    return claims !== null && typeof claims === 'object' ? claims : undefined;
  } catch {
    return undefined;
  }
}

/** @param {string} text */
const base64 = (text) => Buffer.from(text).toString('base64url');
