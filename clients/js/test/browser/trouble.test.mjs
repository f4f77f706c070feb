// Calls while something fails: a part that is killed in the middle of a switch, paths that are not to be had, packets that are lost.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventually, flowing, together } from '../support/browser.mjs';
import { Calls } from '../support/calls.mjs';
import { LossyPaths, noWay } from '../support/trouble.mjs';

const calls = new Calls();
const { people } = calls;
/** What is tried here takes its time on a busy machine, without large pictures too. */
const size = { width: 320, height: 180, frameRate: 15 };
/** What fails is tried for half a minute before it is given up, and half of a busy machine is the test's. */
const PATIENCE_MS = 150_000;

/** Two people peer to peer, and a third who has begun a switch that cannot end before the returned function is called. */
async function midSwitch() {
  const { name, roomId } = await calls.room();
  const [ann, bob] = [await calls.joins(roomId, 'ann', undefined, { size }), await calls.joins(roomId, 'bob', undefined, { size })];
  await together(people, 'P2P');
  const release = await bob.holdMedia();
  await calls.joins(roomId, 'cid', undefined, { size });
  await eventually('the switch begins', () => calls.lab.status(name), (status) => status.previousRoute !== undefined);
  return { name, pair: [ann, bob], release };
}

/** Everybody is where the room says, with media. @param {string} name */
async function oneCall(name) {
  await together(people, 'SFU', PATIENCE_MS);
  const { route } = await calls.oneRoute(name, 'SFU');
  const epochs = await Promise.all(people.map(async (person) => (await person.state()).epoch));
  assert.deepEqual(epochs, people.map(() => route.epoch));
  await flowing(people);
}

test('an operator that is killed in the middle of a switch ends no call', async () => {
  const { name, pair, release } = await midSwitch();
  await calls.lab.endOperator();
  assert.ok((await calls.lab.status(name)).previousRoute, 'in the middle');
  await release();
  await flowing(pair);
  calls.lab.startOperator();
  await oneCall(name);
});

test('a gateway that is killed in the middle of a switch ends no call', async () => {
  const { name, pair, release } = await midSwitch();
  await eventually('they are told', () => Promise.all(pair.map((person) => person.state())), (all) => all.every(({ epoch }) => epoch > 1));
  await calls.lab.endGateway();
  assert.ok((await calls.lab.status(name)).previousRoute, 'in the middle');
  await release();
  await flowing(pair);
  await calls.lab.startGateway();
  await oneCall(name);
});

test('where peers cannot reach each other the call goes through a media node by itself', async () => {
  const { name, roomId } = await calls.room();
  await calls.joins(roomId, 'ann', undefined, { size });
  await calls.joins(roomId, 'bob', undefined, { size, prepare: noWay('P2P') });
  await together(people, 'SFU', PATIENCE_MS);
  await flowing(people);
  const { route } = await calls.oneRoute(name, 'SFU');
  assert.equal(route.reason, 'PeerConnectionFailed');
});

test('where somebody cannot reach the media node the call goes back, and media never stops', async () => {
  const { name, roomId } = await calls.room();
  await calls.joins(roomId, 'ann', undefined, { size });
  await calls.joins(roomId, 'bob', undefined, { size, prepare: noWay('SFU') });
  await together(people, 'P2P');
  await calls.watch();
  await calls.retopologize(name, { mode: 'SFU' });
  await eventually('the switch begins', () => calls.lab.status(name), ({ route }) => route.mode === 'SFU');
  const isBack = (/** @type {any} */ { route, previousRoute }) => route.reason === 'RolledBack' && route.mode === 'P2P' && previousRoute === undefined;
  const { route } = await eventually('it goes back', () => calls.lab.status(name), isBack, PATIENCE_MS);
  await together(people, 'P2P');
  assert.ok(route.epoch >= 3, `epoch ${route.epoch}`);
  await flowing(people);
  await calls.noGap('a media node that one of them cannot reach');
});

test('where packets between peers are lost the call goes through a media node', async () => {
  const paths = new LossyPaths();
  try {
    const { name, roomId } = await calls.room();
    const prepare = paths.lead.bind(paths);
    await calls.joins(roomId, 'ann', undefined, { size, prepare });
    await calls.joins(roomId, 'bob', undefined, { size, prepare });
    await together(people, 'SFU', PATIENCE_MS);
    await flowing(people);
    const { route } = await calls.oneRoute(name, 'SFU');
    assert.equal(route.reason, 'PacketLoss');
    assert.ok(paths.lost > 20, `${paths.lost} packets were lost`);
  } finally {
    paths.close();
  }
});

test('Redis that goes away and comes back empty stops nobody’s picture, while the call moves too', async () => {
  await calls.lab.useRedis();
  const isUp = (/** @type {number} */ up) => eventually('the gateway notices', () => calls.lab.metric('callplane_gateway_store_up'), (is) => is === up);
  await isUp(1);
  const { name, roomId } = await calls.room();
  const pair = [await calls.joins(roomId, 'ann', undefined, { size }), await calls.joins(roomId, 'bob', undefined, { size })];
  await together(people, 'P2P');
  await flowing(people);
  await calls.watch();
  await calls.lab.endRedis();
  await isUp(0);
  await flowing(people);
  await calls.joins(roomId, 'cid', undefined, { size });
  await together(people, 'SFU', PATIENCE_MS);
  await calls.noGap('Redis away, and a third comes', pair);
  await calls.lab.startRedis();
  await isUp(1);
  await pair[0]?.do('send', 'all here');
  for (const person of people) await eventually('all read it', () => person.state(), ({ chat }) => chat.at(-1)?.text === 'all here');
  await calls.oneRoute(name, 'SFU');
  await flowing(people);
  await calls.noGap('Redis back, and empty', pair);
  for (const person of people) {
    const { events } = await person.state();
    assert.ok(!events.some((/** @type {any} */ event) => event.name === 'left'), 'nobody saw anybody leave');
  }
});
