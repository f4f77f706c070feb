import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { source } from './support/source.mjs';

const { RoomApi } = await source('room-api');

test('a transport is abandoned after everything else has ended, too', async (t) => {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(undefined)));
  t.after(() => server.close());
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
  const stop = new AbortController();
  const api = new RoomApi(`http://127.0.0.1:${port}/api/rooms/x.y`, () => 'token', stop.signal);
  stop.abort();
  await assert.rejects(api.room(), /unreachable|abort/i);
  const asked = once(server, 'request');
  api.abandon('t-1');
  const [request, response] = await asked;
  response.writeHead(204).end();
  assert.deepEqual([request.method, request.url, request.headers.authorization], ['DELETE', '/api/rooms/x.y/transports/t-1', 'Bearer token']);
});
