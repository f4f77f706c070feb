import assert from 'node:assert/strict';
import { test } from 'node:test';
import { source } from './support/source.mjs';

const { decide, waitFor, NO_ROUTES, LINGER_MS, MAX_PATHS, NODE_SOON_MS } = await source('routes');

/** What is done about each input in turn, and what there is in the end. @param {...any} inputs */
function play(...inputs) {
  let routes = NO_ROUTES;
  const done = inputs.map((input) => {
    const { routes: next, effects } = decide(routes, input);
    routes = next;
    return effects;
  });
  return { routes, done, last: done.at(-1), epochs: routes.paths.map((/** @type {any} */ { epoch }) => epoch) };
}

const route = (/** @type {number} */ epoch, mode = 'SFU') => ({ type: 'route', epoch, mode });
const flowing = (/** @type {number} */ epoch) => ({ type: 'flowing', epoch });
const failed = (/** @type {number} */ epoch) => ({ type: 'failed', epoch, reason: 'TransportFailed' });
const switched = (/** @type {number} */ epoch, success = true) => ({ type: 'switched', epoch, success });

test('a route is opened, acknowledged when media flows, and the one before is closed when everybody is there', () => {
  const { done, routes, epochs } = play(route(1, 'P2P'), flowing(1), route(2), flowing(2), switched(2));
  assert.deepEqual(done, [
    [{ type: 'open', epoch: 1, mode: 'P2P' }],
    [{ type: 'ack', epoch: 1, success: true }],
    [{ type: 'open', epoch: 2, mode: 'SFU' }],
    [{ type: 'ack', epoch: 2, success: true }],
    [{ type: 'close', epoch: 1, afterMs: LINGER_MS }],
  ]);
  assert.deepEqual([routes.shown, epochs], ['SFU', [2]]);
});

test('the old mode is shown until media flows on the new route', () => {
  assert.equal(play(route(1, 'P2P'), flowing(1), route(2)).routes.shown, 'P2P');
  assert.equal(play(route(1, 'P2P'), flowing(1), route(2), flowing(2)).routes.shown, 'SFU');
});

test('a route that is told again, or was overtaken, changes nothing', () => {
  for (const again of [route(2), route(1)]) assert.deepEqual(play(route(1), route(2), again).last, []);
});

test('who has not got there yet keeps the old path until it has', () => {
  const { done, epochs } = play(route(1), flowing(1), route(2), switched(2), flowing(2));
  assert.deepEqual(done.at(-2), []);
  assert.deepEqual(done.at(-1), [{ type: 'ack', epoch: 2, success: true }, { type: 'close', epoch: 1, afterMs: LINGER_MS }]);
  assert.deepEqual(epochs, [2]);
});

test('a path that fails is told, and told again when it does come to be', () => {
  const { done } = play(route(1), flowing(1), route(2), failed(2), failed(2), flowing(2));
  assert.deepEqual(done.slice(3), [
    [{ type: 'ack', epoch: 2, success: false, reason: 'TransportFailed' }],
    [],
    [{ type: 'ack', epoch: 2, success: true }],
  ]);
});

test('after a rollback the old path goes on, and the next route is opened beside it', () => {
  const back = play(route(1, 'P2P'), flowing(1), route(2), switched(2, false));
  assert.deepEqual([back.last, back.epochs, back.routes.shown], [[{ type: 'close', epoch: 2, afterMs: 0 }], [1], 'P2P']);
  const on = play(route(1, 'P2P'), flowing(1), route(2), failed(2), route(3, 'P2P'), flowing(3), switched(3));
  assert.deepEqual(on.last, [{ type: 'close', epoch: 1, afterMs: LINGER_MS }]);
});

test('who makes the call too large for peer to peer waits a moment to be told of a media server', () => {
  const joined = { route: { epoch: 1, mode: 'P2P' }, participants: [{}, {}], p2pMaxParticipants: 2, resumed: false };
  assert.equal(waitFor(joined), NODE_SOON_MS);
  for (const other of [{ participants: [{}] }, { p2pMaxParticipants: 3 }, { p2pMaxParticipants: undefined }, { resumed: true }, { route: { epoch: 2, mode: 'SFU' } }]) {
    assert.equal(waitFor({ ...joined, ...other }), 0, JSON.stringify(other));
  }
});

test('the only path is not given up for a rollback', () => {
  assert.deepEqual(play(route(1), switched(1, false)).epochs, [1]);
});

test('of many routes within a moment those are kept whose media flows, and the newest', () => {
  const open4 = { type: 'open', epoch: 4, mode: 'SFU' };
  const overtaken = play(route(1), flowing(1), route(2), route(3), route(4));
  assert.deepEqual([overtaken.epochs, overtaken.last], [[1, 4], [open4, { type: 'close', epoch: 3, afterMs: 0 }]]);
  const all = play(route(1), flowing(1), route(2), flowing(2), route(3), flowing(3), route(4));
  assert.deepEqual([all.epochs.length, all.last], [MAX_PATHS, [open4, { type: 'close', epoch: 1, afterMs: 0 }]]);
});

test('whatever happens, there is a path once there was a route, and no epoch is acknowledged that is not there', () => {
  let random = 7;
  const next = (/** @type {number} */ below) => {
    random = (random * 1103515245 + 12345) % 2147483648;
    return Math.floor((random / 2147483648) * below);
  };
  for (let run = 0; run < 500; run += 1) {
    let routes = decide(NO_ROUTES, route(1)).routes;
    const open = new Set([1]);
    for (let step = 0; step < 30; step += 1) {
      const epoch = 1 + next(8);
      const input = [route(epoch), flowing(epoch), failed(epoch), switched(epoch, next(3) > 0)][next(4)];
      const decided = decide(routes, input);
      routes = decided.routes;
      for (const effect of decided.effects) {
        if (effect.type === 'open') assert.ok(!open.has(effect.epoch) && open.add(effect.epoch));
        if (effect.type === 'close') assert.ok(open.delete(effect.epoch), 'is closed once');
        if (effect.type === 'ack') assert.ok(open.has(effect.epoch));
      }
      assert.deepEqual([...open].sort(), routes.paths.map((/** @type {any} */ path) => path.epoch), 'what is open is what is known');
      assert.ok(open.size >= 1 && open.size <= MAX_PATHS);
    }
  }
});
