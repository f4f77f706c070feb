// The calls' directory against a Kubernetes API that the test plays on a Unix socket.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { Cluster } from '../lib/cluster.mjs';

const GROUP = '/apis/callplane.io/v1alpha1/namespaces';
/** @type {Map<string, any>} objects by path */
let objects;
let isAway = false;
let asked = 0;
/** @type {string} */
let directory;
/** @type {import('node:http').Server} */
let server;
/** @type {Cluster} */
let cluster;

const route = (/** @type {number} */ epoch, /** @type {string} */ node) => ({ epoch, mode: 'SFU', node });
const put = (/** @type {any} */ status) => objects.set(`${GROUP}/default/callrooms/demo`, { metadata: { namespace: 'default', name: 'demo', uid: 'u1' }, status });

beforeEach(async () => {
  isAway = false;
  asked = 0;
  objects = new Map(['a', 'b'].map((node) => [`${GROUP}/system/medianodes/${node}`, { metadata: { name: node }, status: { endpoints: { api: `http://${node}` } } }]));
  put({ route: route(1, 'a') });
  directory = await mkdtemp(join(tmpdir(), 'callplane-test-'));
  server = createServer(({ url }, answer) => {
    asked += 1;
    const object = objects.get(url ?? '');
    if (isAway) answer.writeHead(502).end('the server is away');
    else if (!object) answer.writeHead(404).end('{}');
    else answer.end(JSON.stringify(object));
  });
  server.listen(join(directory, 'socket'));
  await once(server, 'listening');
  cluster = new Cluster(join(directory, 'socket'), async () => {}, 'system');
});

afterEach(async () => {
  server.closeAllConnections();
  server.close();
  await rm(directory, { recursive: true });
});

const apiOfEpoch = async (/** @type {number} */ epoch) => (await cluster.servingEpoch('default.demo', epoch)).api;

test('a join leads to the node of the route, and what follows it asks nobody again', async () => {
  assert.deepEqual(await cluster.serving('default.demo'), { epoch: 1, node: 'a', api: 'http://a', roomUid: 'u1' });
  const before = asked;
  assert.equal(await apiOfEpoch(1), 'http://a');
  assert.equal(asked, before);
});

test('a call goes on while the API server is away, even when its node did not answer once', async () => {
  await cluster.serving('default.demo');
  isAway = true;
  assert.equal(await apiOfEpoch(1), 'http://a');
  cluster.forget('default.demo', 1);
  assert.equal(await apiOfEpoch(1), 'http://a');
  await assert.rejects(cluster.serving('default.demo'), { status: 503, code: 'kubernetes-unavailable' });
});

test('a node that did not answer is asked for again, and an epoch that is over is over', async () => {
  await cluster.serving('default.demo');
  put({ route: route(2, 'b') });
  cluster.forget('default.demo', 1);
  await assert.rejects(apiOfEpoch(1), { status: 409, code: 'stale-epoch' });
  assert.equal(await apiOfEpoch(2), 'http://b');
});

test('a room that was deleted and made again is looked for where it is now', async () => {
  await cluster.serving('default.demo');
  put({ route: route(1, 'b') });
  assert.equal((await cluster.serving('default.demo')).api, 'http://b');
  assert.equal(await apiOfEpoch(1), 'http://b');
});

test('what does not exist is not found', async () => {
  await assert.rejects(cluster.serving('default.nope'), { status: 404 });
  await assert.rejects(cluster.serving('nonsense'), { status: 400 });
});
