import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCallId } from '../lib/call-id.mjs';
import { apiOf, currentRoute, routeOfEpoch } from '../lib/route.mjs';

const room = (/** @type {object} */ status) => ({ metadata: { namespace: 'default', name: 'demo' }, status });
const route = { epoch: 2, mode: 'SFU', node: 'pool-b', reason: 'NodeDraining', since: '2026-01-01T00:00:00Z' };
const previousRoute = { epoch: 1, mode: 'SFU', node: 'pool-a', reason: 'Created', since: '2026-01-01T00:00:00Z' };
const problem = (/** @type {number} */ status, /** @type {RegExp} */ message) => (/** @type {any} */ error) => {
  assert.equal(error.status, status);
  assert.match(error.message, message);
  return true;
};

test('the first dot separates namespace and name', () => {
  assert.deepEqual(parseCallId('default.team.standup'), { namespace: 'default', name: 'team.standup' });
});

test('what no room can be called is refused', () => {
  for (const text of ['', 'demo', '.demo', 'default.', 'Default.demo', 'default.de mo', 'a/b.c', '-a.b', 'a.b-', `${'a'.repeat(64)}.b`, 'a.../b']) {
    assert.equal(parseCallId(text), undefined, text);
  }
});

test('a join is for the current route', () => {
  assert.deepEqual(currentRoute(room({ route, previousRoute })), { epoch: 2, mode: 'SFU', node: 'pool-b' });
});

test('while a call moves, tokens of the previous epoch still lead to the previous node', () => {
  const moving = room({ route, previousRoute });
  assert.equal(routeOfEpoch(moving, 1)?.node, 'pool-a');
  assert.equal(routeOfEpoch(moving, 2)?.node, 'pool-b');
  assert.equal(routeOfEpoch(room({ route }), 1), undefined);
});

test('a room without a node says why, in the words of its condition', () => {
  const waiting = room({ phase: 'Pending', conditions: [{ type: 'Placed', status: 'False', reason: 'NoCapacity', message: 'no node has room for 50' }] });
  assert.throws(() => currentRoute(waiting), problem(503, /default\/demo.*NoCapacity: no node has room for 50/));
  assert.throws(() => currentRoute(room({})), problem(503, /no media node yet$/));
  assert.throws(() => currentRoute({ metadata: { namespace: 'default', name: 'demo' } }), problem(503, /no media node yet$/));
});

test('an ended room cannot be joined', () => {
  assert.throws(() => currentRoute(room({ phase: 'Ended' })), problem(410, /ended/));
});

test('a media node is reached where its status says', () => {
  assert.equal(apiOf({ status: { endpoints: { api: 'http://10.244.1.7:8080' } } }), 'http://10.244.1.7:8080');
  assert.throws(() => apiOf({ metadata: { name: 'pool-a' }, status: {} }), problem(503, /pool-a/));
  assert.throws(() => apiOf({ metadata: { name: 'pool-a' }, status: { endpoints: { api: 'file:///etc/passwd' } } }), problem(503, /pool-a/));
});
