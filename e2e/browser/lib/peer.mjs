// Pages of mediasoup-client whose steps a test asks for.

import { once } from 'node:events';
import { createServer } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import * as esbuild from 'esbuild';
import { mintToken } from './token.mjs';

const SOURCE = fileURLToPath(new URL('../lab/peer.js', import.meta.url));
const LATE_MS = 40_000;
/** @type {Promise<string> | undefined} */
let served;

/** The page on a real port: from anywhere else browsers do not let it call this machine. @returns {Promise<string>} its URL */
export const peerPage = () => (served ??= serve());

async function serve() {
  const options = { entryPoints: [SOURCE], bundle: true, format: /** @type {const} */ ('esm'), target: 'chrome120', write: false };
  const script = (await esbuild.build(options)).outputFiles?.[0]?.text ?? '';
  const server = createServer((asked, answer) => {
    const isScript = asked.url === '/peer.js';
    answer.writeHead(200, { 'content-type': isScript ? 'text/javascript' : 'text/html' });
    answer.end(isScript ? script : '<!doctype html><meta charset="utf-8"><body><script type="module" src="/peer.js"></script>');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  // It lasts as long as the tests do.
  server.unref();
  return `http://localhost:${/** @type {import('node:net').AddressInfo} */ (server.address()).port}/`;
}

/**
 * A participant in a page of its own.
 * @param {import('playwright-core').Browser} browser
 * @param {{api: string, token: string, tcpOnly?: boolean, via?: {ip: string, port: number}, page?: string}} call `api` is the room's
 *   URL, `via` where the node's media are reached if not at its own address, `page` the page's URL if not here
 */
export async function joinPeer(browser, { api, token, tcpOnly = false, via, page: url }) {
  const page = await (await browser.newContext()).newPage();
  await page.goto(url ?? await peerPage());
  /** @param {string} step @param {any} [argument] @returns {Promise<any>} */
  const peer = (step, argument) => page.evaluate(
    ([name, value]) => /** @type {any} */ (window).peer[name](value),
    /** @type {[string, any]} */ ([step, argument]),
  );
  await peer('join', { api, token, tcpOnly, via });
  return peer;
}

/**
 * A participant of a room on a media node of one's own.
 * @param {import('playwright-core').Browser} browser
 * @param {import('./standalone.mjs').Standalone} directory
 * @param {string} room made before
 * @param {string} user
 * @param {{tcpOnly?: boolean, via?: {ip: string, port: number}, page?: string, api?: string}} [options] `api` is the node's URL, if not the directory's
 */
export function joinRoom(browser, { api, epoch, signer }, room, user, options = {}) {
  const { token } = mintToken(signer, { callId: room, user, epoch }, Date.now());
  return joinPeer(browser, { ...options, api: `${options.api ?? api}/api/rooms/${room}`, token });
}

/**
 * Asks until the answer will do; throws with the last one when that takes too long.
 * @template T
 * @param {string} what
 * @param {() => T | Promise<T>} ask
 * @param {(answer: T) => boolean} isGood
 * @param {number} [limitMs]
 * @returns {Promise<T>}
 */
export async function eventually(what, ask, isGood, limitMs = LATE_MS) {
  const until = Date.now() + limitMs;
  for (;;) {
    const answer = await ask();
    if (isGood(answer)) return answer;
    if (Date.now() > until) throw new Error(`not within ${limitMs / 1000} s: ${what}: ${JSON.stringify(answer)}`);
    await sleep(100);
  }
}
