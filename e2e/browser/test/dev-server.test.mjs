import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { startServer } from '../lib/dev-server.mjs';
import { Problem } from '../lib/problem.mjs';
import { mintToken, peekClaims, signingKey } from '../lib/token.mjs';

const key = signingKey(generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ type: 'pkcs8', format: 'pem' }), 'k1');
const tokenOf = (/** @type {number} */ epoch) => mintToken(key, { callId: 'default.demo', user: 'alice', epoch }, Date.now()).token;

/** @type {string} */
let dist;
/** @type {{url: string, close(): Promise<void>}} */
let server;
/** @type {import('node:http').Server[]} */
const nodes = [];
/** @type {Map<number, string>} */
const apis = new Map();

/** A media node that says which epoch it is, and echoes. @param {number} epoch */
async function startNode(epoch) {
  const node = createServer(async (asked, answer) => {
    let body = '';
    for await (const part of asked) body += part;
    answer.writeHead(200, { 'content-type': 'application/json' });
    answer.end(JSON.stringify({ epoch, method: asked.method, url: asked.url, body, authorization: asked.headers.authorization }));
  });
  node.on('upgrade', (asked, socket) => {
    const offered = (asked.headers['sec-websocket-protocol'] ?? '').split(', ');
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: ${offered[0]}\r\n\r\nepoch ${epoch};`);
    socket.on('data', (/** @type {Buffer} */ data) => socket.write(data));
    socket.on('end', () => socket.end());
    socket.on('error', () => {});
  });
  node.listen(0, '127.0.0.1');
  await once(node, 'listening');
  nodes.push(node);
  apis.set(epoch, `http://127.0.0.1:${/** @type {import('node:net').AddressInfo} */ (node.address()).port}`);
}

before(async () => {
  dist = await mkdtemp(join(tmpdir(), 'callplane-test-'));
  await writeFile(join(dist, 'index.html'), '<p>page</p>');
  await startNode(1);
  await startNode(2);
  const servingEpoch = async (/** @type {string} */ _callId, /** @type {number} */ epoch) => {
    const api = apis.get(epoch);
    if (!api) throw new Problem(409, 'stale-epoch', `epoch ${epoch} is served nowhere`);
    return { epoch, api };
  };
  server = await startServer({
    dist,
    directory: {
      describe: () => 'a test', forget() {}, close() {}, servingEpoch, serving: (callId) => servingEpoch(callId, 2), signingKey: async () => key,
    },
  });
});

after(async () => {
  await server.close();
  for (const node of nodes) {
    node.closeAllConnections();
    node.close();
  }
  await rm(dist, { recursive: true });
});

test('a token is for the current epoch of the room', async () => {
  const answer = await fetch(`${server.url}/token?room=default.demo&user=alice`);
  assert.equal(answer.headers.get('cache-control'), 'no-store');
  const { token, epoch } = await answer.json();
  assert.equal(epoch, 2);
  assert.equal(peekClaims(token)?.sub, 'alice');
});

test('a bad room or user is refused as a problem', async () => {
  for (const [query, code] of [['room=demo&user=alice', 'invalid-room'], ['room=default.demo&user=', 'invalid-user'], ['room=default.demo&user=a/b', 'invalid-user']]) {
    const answer = await fetch(`${server.url}/token?${query}`);
    assert.equal(answer.status, 400);
    assert.equal(answer.headers.get('content-type'), 'application/problem+json');
    assert.equal((await answer.json()).code, code);
  }
});

test('a request goes to the node that serves the epoch of its token', async () => {
  for (const epoch of [1, 2]) {
    const answer = await fetch(`${server.url}/api/rooms/default.demo/transports?x=1`, {
      method: 'POST', headers: { authorization: `Bearer ${tokenOf(epoch)}` }, body: '{"direction":"send"}',
    });
    const seen = await answer.json();
    assert.equal(seen.epoch, epoch);
    assert.equal(seen.url, '/api/rooms/default.demo/transports?x=1');
    assert.equal(seen.body, '{"direction":"send"}');
    assert.match(seen.authorization, /^Bearer /);
  }
});

test('a WebSocket goes there, too, and carries both ways', async () => {
  const { hostname, port } = new URL(server.url);
  const asked = request({
    hostname, port, path: '/api/rooms/default.demo/events',
    headers: { connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-protocol': `callplane.v1, bearer.${tokenOf(1)}` },
  });
  asked.end();
  const [answer, socket, head] = await once(asked, 'upgrade');
  assert.equal(answer.headers['sec-websocket-protocol'], 'callplane.v1');
  let heard = head.toString();
  socket.on('data', (/** @type {Buffer} */ data) => (heard += data));
  socket.write('hello');
  while (!heard.endsWith('hello')) await once(socket, 'data');
  assert.equal(heard, 'epoch 1;hello');
  socket.destroy();
});

test('without a token, or with one for an epoch that nobody serves, nothing is passed on', async () => {
  const ask = async (/** @type {Record<string, string>} */ headers) => {
    const answer = await fetch(`${server.url}/api/rooms/default.demo`, { headers });
    return [answer.status, (await answer.json()).code];
  };
  assert.deepEqual(await ask({}), [401, 'token-missing']);
  assert.deepEqual(await ask({ authorization: 'Bearer nonsense' }), [401, 'token-invalid']);
  assert.deepEqual(await ask({ authorization: `Bearer ${tokenOf(9)}` }), [409, 'stale-epoch']);
});

test('a node that does not answer is a bad gateway', async () => {
  apis.set(3, 'http://127.0.0.1:1');
  const answer = await fetch(`${server.url}/api/rooms/default.demo`, { headers: { authorization: `Bearer ${tokenOf(3)}` } });
  assert.deepEqual([answer.status, (await answer.json()).code], [502, 'node-unreachable']);
});

test('the page of another site gets nothing, by whatever name it calls us', async () => {
  const ask = (/** @type {Record<string, string>} */ headers) => new Promise((resolve, reject) => {
    request(`${server.url}/token?room=default.demo&user=alice`, { headers }, (answer) => {
      answer.resume();
      resolve(answer.statusCode);
    }).on('error', reject).end();
  });
  assert.equal(await ask({}), 200);
  assert.equal(await ask({ host: 'evil.example:80' }), 421);
  assert.equal(await ask({ origin: 'https://evil.example' }), 403);
  assert.equal(await ask({ 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' }), 403);
});

test('the page may run nothing but its own script, and files outside it are not served', async () => {
  const answer = await fetch(server.url);
  assert.equal(await answer.text(), '<p>page</p>');
  assert.match(answer.headers.get('content-security-policy') ?? '', /default-src 'none'; script-src 'self'/);
  assert.equal((await fetch(`${server.url}/..%2f..%2fetc%2fpasswd`)).status, 404);
});
