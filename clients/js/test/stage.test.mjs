import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { source } from './support/source.mjs';

const { Stage } = await source('stage');

/** A rendering whose layers do what the test says. */
class Rendering {
  /** @type {Map<any, {start(): Promise<void>, settle(): Promise<void>, raised: number, removed: boolean}>} */
  layers = new Map();

  /** @param {any} remote */
  add(remote) {
    let [start, settle] = [() => {}, () => {}];
    const started = new Promise((resolve) => (start = () => resolve(undefined)));
    const settled = new Promise((resolve) => (settle = () => resolve(undefined)));
    const control = { start: () => (start(), turn()), settle: () => (settle(), turn()), raised: 0, removed: false };
    this.layers.set(remote, control);
    return { started, settled, raise: async () => void (control.raised += 1), remove: () => (control.removed = true) };
  }

  /** @param {any} remote */
  of(remote) {
    const layer = this.layers.get(remote);
    assert.ok(layer);
    return layer;
  }
}

const track = (/** @type {number} */ epoch, source = 'camera') => ({ userId: 'bob', source, epoch, track: {} });

function setUp() {
  const rendering = new Rendering();
  /** @type {any[]} */
  const shown = [];
  const stage = new Stage(rendering, {
    onShown: (/** @type {string} */ _user, /** @type {string} */ _source, /** @type {any} */ remote) => shown.push(remote?.epoch),
    onProgress: () => {},
    onStarted: () => {},
  });
  return { rendering, shown, stage };
}

test('the first track is shown at once, the next one when it has started and settled', async () => {
  const { rendering, shown, stage } = setUp();
  const [one, two] = [track(1), track(2)];
  stage.add(one);
  assert.deepEqual(shown, [1]);
  stage.add(two);
  await rendering.of(two).start();
  assert.deepEqual([shown, rendering.of(two).raised], [[1], 0]);
  assert.equal(stage.isShownBy(2, 'bob', 'camera'), false);
  await rendering.of(two).settle();
  assert.deepEqual([shown, rendering.of(two).raised], [[1, 2], 1]);
  assert.equal(stage.isShownBy(2, 'bob', 'camera'), true);
  stage.remove(one);
  assert.deepEqual([shown, rendering.of(one).removed], [[1, 2], true]);
});

test('what is shown goes back when the new path is given up', async () => {
  const { rendering, shown, stage } = setUp();
  const [one, two] = [track(1), track(2)];
  stage.add(one);
  await rendering.of(one).start();
  stage.add(two);
  await rendering.of(two).start();
  await rendering.of(two).settle();
  stage.remove(two);
  await turn();
  assert.deepEqual(shown, [1, 2, 1]);
  stage.remove(one);
  assert.equal(shown.at(-1), undefined);
});

test('a later path is not overtaken by an earlier one that settles after it', async () => {
  const { rendering, shown, stage } = setUp();
  const [one, two, three] = [track(1), track(2), track(3)];
  for (const remote of [one, two, three]) stage.add(remote);
  await rendering.of(three).start();
  await rendering.of(three).settle();
  await rendering.of(two).start();
  await rendering.of(two).settle();
  assert.deepEqual(shown, [1, 3]);
});

test('a track that its publisher has paused need not be waited for', async () => {
  const { shown, stage } = setUp();
  const [one, two] = [track(1, 'microphone'), track(2, 'microphone')];
  stage.add(one);
  stage.add(two);
  stage.setPaused(two, true);
  await turn();
  assert.deepEqual([shown, stage.isShownBy(2, 'bob', 'microphone')], [[1, 2], true]);
});

test('a track that ends before it has started is forgotten', async () => {
  const { rendering, shown, stage } = setUp();
  const [one, two] = [track(1), track(2)];
  stage.add(one);
  stage.add(two);
  stage.remove(two);
  await rendering.of(two).start();
  await rendering.of(two).settle();
  assert.deepEqual([shown, rendering.of(two).raised], [[1], 0]);
});
