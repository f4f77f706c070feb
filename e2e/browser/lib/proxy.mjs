// Passes requests and WebSockets on to the media node that serves the call's epoch.

import { request } from 'node:http';
import { asProblem, Problem } from './problem.mjs';
import { peekClaims } from './token.mjs';

/** @typedef {import('node:http').IncomingMessage} Request */
/** @typedef {import('node:http').ServerResponse} Response */
/**
 * @typedef {{
 *   servingEpoch(callId: string, epoch: number): Promise<import('./route.mjs').Serving>,
 *   forget(callId: string, epoch: number): void,
 * }} Directory  Knows which media node serves a call.
 */

/** Headers that speak of one connection only (RFC 9110 §7.6.1). */
const HOP_BY_HOP = new Set([
  'connection', 'keep-alive', 'proxy-authenticate', 'proxy-authorization', 'te', 'trailer', 'transfer-encoding', 'upgrade',
]);
const CONNECT_TIMEOUT_MS = 5000;

/**
 * The token is the address: it says which call and which epoch, so that while a call moves, each client's
 * requests go to the side that its token is for. The node verifies it.
 * @param {Request} asked
 */
export function addressOf(asked) {
  const [, callId] = /^\/api\/rooms\/([^/?]+)/.exec(asked.url ?? '') ?? [];
  const bearer = /^Bearer (.+)$/i.exec(asked.headers.authorization ?? '')?.[1];
  const offered = (asked.headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim());
  const token = bearer ?? offered.find((name) => name.startsWith('bearer.'))?.slice('bearer.'.length);
  if (!callId) throw new Problem(404, 'not-found', `nothing is served at ${asked.url}`);
  if (!token) throw new Problem(401, 'token-missing', 'this needs a join token');
  const claims = peekClaims(token);
  if (!claims || !Number.isInteger(claims.epoch)) throw new Problem(401, 'token-invalid', 'the join token cannot be read');
  return { callId: decodeURIComponent(callId), epoch: Number(claims.epoch) };
}

/**
 * @param {Directory} directory
 * @param {Request} asked
 * @param {Response} answer
 */
export async function passOn(directory, asked, answer) {
  const { callId, epoch } = addressOf(asked);
  const { api } = await directory.servingEpoch(callId, epoch);
  await new Promise((resolve, reject) => {
    const onward = request(`${api}${asked.url}`, { method: asked.method ?? 'GET', headers: endToEnd(asked.headers), agent: false }, (came) => {
      answer.writeHead(came.statusCode ?? 502, endToEnd(came.headers));
      came.pipe(answer);
      came.on('error', reject);
      answer.on('close', resolve);
    });
    onward.setTimeout(CONNECT_TIMEOUT_MS, () => onward.destroy(new Error('no answer')));
    onward.on('error', (error) => {
      directory.forget(callId, epoch);
      reject(new Problem(502, 'node-unreachable', `the media node at ${api} does not answer: ${error.message}`));
    });
    answer.on('close', () => onward.destroy());
    asked.pipe(onward);
  });
}

/**
 * @param {Directory} directory
 * @param {Request} asked
 * @param {import('node:stream').Duplex} client
 * @param {Buffer} head
 */
export async function passOnUpgrade(directory, asked, client, head) {
  client.on('error', () => client.destroy());
  try {
    const { callId, epoch } = addressOf(asked);
    const { api } = await directory.servingEpoch(callId, epoch);
    const headers = { ...endToEnd(asked.headers), connection: 'Upgrade', upgrade: 'websocket' };
    const onward = request(`${api}${asked.url}`, { headers, agent: false });
    onward.setTimeout(CONNECT_TIMEOUT_MS, () => onward.destroy(new Error('no answer')));
    onward.on('upgrade', (came, node, first) => {
      node.setTimeout(0);
      client.write(headOf(101, 'Switching Protocols', { ...endToEnd(came.headers), connection: 'Upgrade', upgrade: 'websocket' }));
      client.write(first);
      node.write(head);
      // A WebSocket has no half-open state: when one side ends, so does the other.
      node.pipe(client);
      client.pipe(node);
      node.on('error', () => client.destroy());
      node.on('close', () => client.destroy());
      client.on('end', () => node.destroy());
      client.on('close', () => node.destroy());
    });
    onward.on('response', (came) => {
      client.write(headOf(came.statusCode ?? 502, came.statusMessage ?? '', { ...endToEnd(came.headers), connection: 'close' }));
      came.pipe(client);
    });
    onward.on('error', (error) => {
      directory.forget(callId, epoch);
      refuseUpgrade(client, new Problem(502, 'node-unreachable', `the media node at ${api} does not answer: ${error.message}`));
    });
    client.on('close', () => onward.destroy());
    onward.end();
  } catch (error) {
    refuseUpgrade(client, error);
  }
}

/** @param {import('node:stream').Duplex} client @param {unknown} error */
export function refuseUpgrade(client, error) {
  const problem = asProblem(error);
  const body = problem.body();
  const headers = { 'content-type': 'application/problem+json', 'content-length': String(Buffer.byteLength(body)), connection: 'close' };
  client.end(headOf(problem.status, 'Refused', headers) + body);
}

/** @param {import('node:http').IncomingHttpHeaders} headers */
function endToEnd(headers) {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !HOP_BY_HOP.has(name)));
}

/** @param {number} status @param {string} reason @param {Record<string, string | string[] | undefined>} headers */
function headOf(status, reason, headers) {
  const lines = Object.entries(headers).flatMap(([name, value]) => [value ?? []].flat().map((one) => `${name}: ${one}\r\n`));
  return `HTTP/1.1 ${status} ${reason}\r\n${lines.join('')}\r\n`;
}
