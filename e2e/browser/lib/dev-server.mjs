// Serves the page, gives out join tokens, and passes `/api/**` on. See `server.mjs` for what this is and is not.

import { readFile, readdir } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join } from 'node:path';
import { parseCallId } from './call-id.mjs';
import { asProblem, Problem } from './problem.mjs';
import { passOn, passOnUpgrade, refuseUpgrade } from './proxy.mjs';
import { mintToken } from './token.mjs';

const TYPES = /** @type {Record<string, string>} */ ({
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.map': 'application/json',
});

/** Nothing but our own files may run, and nothing but our own server may be talked to. */
const SECURITY_HEADERS = {
  'content-security-policy': [
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "media-src 'self' blob:",
    "connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
  ].join('; '),
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'permissions-policy': 'camera=(self), microphone=(self), geolocation=(), display-capture=()',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
};

const USER = /^[A-Za-z0-9][A-Za-z0-9._@-]{0,62}$/;

/** @typedef {import('node:http').IncomingMessage} Request */
/** @typedef {import('node:http').ServerResponse} Response */
/**
 * @typedef {import('./proxy.mjs').Directory & {
 *   describe(): string,
 *   serving(callId: string): Promise<import('./route.mjs').Serving>,
 *   signingKey(): Promise<import('./token.mjs').SigningKey>,
 *   close(): void | Promise<void>,
 * }} CallDirectory
 */

/**
 * @param {{directory: CallDirectory, dist: string, host?: string, port?: number}} options
 * @returns {Promise<{url: string, close(): Promise<void>}>}
 */
export async function startServer({ directory, dist, host = '127.0.0.1', port = 0 }) {
  const files = await readFiles(dist);
  const server = createServer((asked, answer) => {
    handle(asked, answer).catch((error) => refuse(answer, error));
  });
  /** @type {Set<import('node:stream').Duplex>} sockets that the server itself no longer knows of */
  const upgraded = new Set();
  server.on('upgrade', (asked, client, head) => {
    upgraded.add(client);
    client.on('close', () => upgraded.delete(client));
    try {
      refuseStrangers(asked);
    } catch (error) {
      return refuseUpgrade(client, error);
    }
    void passOnUpgrade(directory, asked, client, head);
  });

  /** @param {Request} asked @param {Response} answer */
  async function handle(asked, answer) {
    refuseStrangers(asked);
    const url = new URL(asked.url ?? '/', 'http://localhost');
    if (url.pathname.startsWith('/api/')) return passOn(directory, asked, answer);
    if (asked.method !== 'GET' && asked.method !== 'HEAD') throw new Problem(405, 'method-not-allowed', 'only GET is served here');
    if (url.pathname === '/token') return giveToken(url.searchParams, answer);
    const name = url.pathname === '/' ? 'index.html' : url.pathname.slice(1);
    const file = files.get(name);
    if (!file) throw new Problem(404, 'not-found', `nothing is served at ${url.pathname}`);
    answer.writeHead(200, { ...SECURITY_HEADERS, 'content-type': file.type, 'cache-control': 'no-cache' });
    answer.end(asked.method === 'HEAD' ? undefined : file.body);
  }

  /** @param {URLSearchParams} query @param {Response} answer */
  async function giveToken(query, answer) {
    const callId = query.get('room') ?? '';
    const user = query.get('user') ?? '';
    if (!parseCallId(callId)) throw new Problem(400, 'invalid-room', `a room is <namespace>.<name> of a CallRoom, not "${callId}"`);
    if (!USER.test(user)) throw new Problem(400, 'invalid-user', 'a user is 1 to 63 letters, digits and ._@-, beginning with a letter or digit');
    const [{ epoch, roomUid }, signer] = await Promise.all([directory.serving(callId), directory.signingKey()]);
    const { token, expiresAt } = mintToken(signer, { callId, roomUid, user, epoch }, Date.now());
    answer.writeHead(200, { ...SECURITY_HEADERS, 'content-type': 'application/json', 'cache-control': 'no-store' });
    answer.end(JSON.stringify({ token, epoch, expiresAt }));
  }

  await new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => resolve(undefined));
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the server has no TCP address');
  const named = address.family === 'IPv6' ? `[${address.address}]` : address.address;
  return {
    url: `http://${named}:${address.port}`,
    async close() {
      for (const socket of upgraded) socket.destroy();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await directory.close();
    },
  };
}

/**
 * A page of another site must not get tokens out of us: neither by asking (Fetch metadata), nor through
 * a name of its own that it points at this address (DNS rebinding).
 * @param {Request} asked
 */
export function refuseStrangers({ headers, socket }) {
  const host = headers.host ?? '';
  const name = host.replace(/:\d+$/, '');
  const address = socket.localAddress?.replace(/^::ffff:/, '');
  if (!['localhost', '127.0.0.1', '[::1]', address, `[${address}]`].includes(name)) {
    throw new Problem(421, 'wrong-host', `this server does not answer to the name ${name}`);
  }
  const site = headers['sec-fetch-site'];
  const fromElsewhere = site === 'cross-site' || site === 'same-site';
  if (fromElsewhere && headers['sec-fetch-mode'] !== 'navigate') throw new Problem(403, 'wrong-origin', 'only the page of this server may ask');
  if (headers.origin !== undefined && headers.origin !== `http://${host}`) throw new Problem(403, 'wrong-origin', 'only the page of this server may ask');
}

/** @param {string} directory */
async function readFiles(directory) {
  const names = await readdir(directory).catch(() => {
    throw new Error(`the page is not built: npm run build (no ${directory})`);
  });
  /** @type {Map<string, {type: string, body: Buffer}>} */
  const files = new Map();
  for (const name of names) {
    const type = TYPES[extname(name)];
    if (type) files.set(name, { type, body: await readFile(join(directory, name)) });
  }
  return files;
}

/** @param {Response} answer @param {unknown} error */
function refuse(answer, error) {
  const problem = asProblem(error);
  if (answer.headersSent) return answer.destroy();
  answer.writeHead(problem.status, { ...SECURITY_HEADERS, 'content-type': 'application/problem+json', 'cache-control': 'no-store' });
  answer.end(problem.body());
}
