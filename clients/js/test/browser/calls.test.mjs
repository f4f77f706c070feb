// Calls between real browsers, through the real gateway, operator and media nodes.

import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { after, afterEach, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Lab } from '../../../../e2e/browser/lib/lab.mjs';
import { eventually, launch, Person, together, webRoot, worst } from '../support/browser.mjs';

/** Nothing that a person would call a gap, on whatever machine runs the tests. The figures are in docs/client.md. */
const GAP_MS = 2000;

/** @type {Lab} */
let lab;
/** @type {import('playwright-core').Browser} */
let browser;
/** @type {string} */
let root;
/** @type {Person[]} */
let people = [];
let rooms = 0;

before(async () => {
  root = await webRoot();
  lab = await Lab.start({ webRoot: root });
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await lab?.stop();
  await rm(root, { recursive: true, force: true });
});

afterEach(async () => {
  await Promise.all(people.splice(0).map((person) => person.close()));
});

/** @param {object} [topology] */
async function newRoom(topology) {
  rooms += 1;
  const name = `call-${rooms}`;
  return { name, roomId: await lab.room(name, topology) };
}

/** @param {string} roomId @param {string} name @param {string} [role] @param {{withoutWebSockets?: boolean}} [options] */
async function joins(roomId, name, role, options) {
  const token = await lab.token(roomId, name, role);
  const person = await Person.join(browser, name, { url: lab.url, roomId, token, frequency: 330 + 110 * people.length, ...options });
  people.push(person);
  return person;
}

/** @param {Person} person */
async function leaves(person) {
  await person.do('leave');
  await person.close();
}

const takeAll = () => Promise.all(people.map((person) => person.take()));

/** What everybody saw and heard meanwhile is no gap. @param {string} what @param {Person[]} [who] */
async function noGap(what, who = people) {
  const seen = worst(await Promise.all(who.map((person) => person.take())));
  console.log(`${what}: longest video interval ${seen.videoMs} ms, silence ${seen.silenceMs} ms, blank frames ${seen.blank}`);
  assert.equal(seen.blank, 0, `${what}: a picture was blank`);
  assert.ok(seen.videoMs < GAP_MS && seen.silenceMs < GAP_MS, `${what}: ${JSON.stringify(seen)}`);
}

test('a third participant moves everyone to the media server, and back when gone, without a gap', async () => {
  const { name, roomId } = await newRoom();
  await joins(roomId, 'ann');
  await joins(roomId, 'bob');
  await together(people, 'P2P');
  await sleep(1500);
  const pair = [...people];
  await takeAll();

  await joins(roomId, 'cid');
  await together(people, 'SFU');
  await noGap('peer to peer → media server', pair);
  await eventually('the old route is closed', () => lab.status(name), (status) => status.previousRoute === undefined && status.route.mode === 'SFU');
  await sleep(1000);
  await noGap('the old route closed', pair);

  await leaves(/** @type {Person} */ (people.pop()));
  await together(people, 'P2P');
  await eventually('the old route is closed', () => lab.status(name), (status) => status.previousRoute === undefined && status.route.mode === 'P2P');
  await sleep(1000);
  await noGap('media server → peer to peer', pair);
});

test('a socket that is cut comes back, and nothing is missed', async () => {
  const { roomId } = await newRoom();
  const [ann, bob] = [await joins(roomId, 'ann'), await joins(roomId, 'bob')];
  await together(people, 'P2P');
  await sleep(1000);
  await takeAll();
  await bob.do('cutSignalling');
  await ann.do('send', 'while you were away');
  const back = await eventually('bob is back', () => bob.state(), ({ state, chat }) => state === 'joined' && chat.length === 1);
  assert.equal(back.chat[0].text, 'while you were away');
  const { events } = await ann.state();
  assert.ok(!events.some((/** @type {any} */ event) => event.name === 'left'), 'nobody saw bob leave');
  await bob.do('send', 'here again');
  await eventually('ann reads it', () => ann.state(), ({ chat }) => chat.length === 2);
  await noGap('a cut socket');
});

test('a gateway that is killed and comes back ends no call', async () => {
  const { roomId } = await newRoom();
  const [ann] = [await joins(roomId, 'ann'), await joins(roomId, 'bob')];
  await together(people, 'P2P');
  await sleep(1000);
  await takeAll();
  await lab.restartGateway();
  await eventually('everyone is back', () => Promise.all(people.map((person) => person.state())), (all) => all.every(({ state, participants }) => state === 'joined' && participants.length === 1));
  await noGap('a killed gateway');
  await joins(roomId, 'cid');
  await together(people, 'SFU');
  await ann.do('send', 'still here');
  await eventually('chat goes on', () => Promise.all(people.map((person) => person.state())), (all) => all.every(({ chat }) => chat.some((/** @type {any} */ { text }) => text === 'still here')));
});

test('a page that reloads in the middle of a switch ends up with the others', async () => {
  const { name, roomId } = await newRoom();
  const [, bob] = [await joins(roomId, 'ann'), await joins(roomId, 'bob')];
  await together(people, 'P2P');
  const joining = joins(roomId, 'cid');
  await eventually('the switch begins', () => lab.status(name), (status) => status.route.mode === 'SFU');
  await bob.reload({ token: await lab.token(roomId, 'bob') });
  await joining;
  await together(people, 'SFU');
  await eventually('one route is left', () => lab.status(name), (status) => status.previousRoute === undefined && status.route.mode === 'SFU');
});

test('where WebSockets are blocked it goes by long polling', async () => {
  const { roomId } = await newRoom();
  const [, bob] = [await joins(roomId, 'ann'), await joins(roomId, 'bob', undefined, { withoutWebSockets: true })];
  await together(people, 'P2P');
  await bob.do('send', 'the long way');
  await eventually('everyone reads it', () => Promise.all(people.map((person) => person.state())), (all) => all.every(({ chat }) => chat.length === 1));
});

test('two changes at once end with everyone in one place', async () => {
  const { name, roomId } = await newRoom({ mode: 'Auto', stabilizationSeconds: 0 });
  await joins(roomId, 'ann');
  await joins(roomId, 'bob');
  await together(people, 'P2P');
  const cid = await joins(roomId, 'cid');
  people.pop();
  await leaves(cid);
  // Who left on the way in is in the media node's count until its transports are given up, and nobody is left behind there.
  await together(people, 'P2P', 150_000);
  await eventually('one route is left', () => lab.status(name), (status) => status.previousRoute === undefined && status.route.mode === 'P2P');
});

test('a host mutes, locks, removes and ends; nobody else may', async () => {
  const { roomId } = await newRoom();
  const [host, bob, cid] = [await joins(roomId, 'ann', 'host'), await joins(roomId, 'bob'), await joins(roomId, 'cid')];
  await together(people, 'SFU');
  await assert.rejects(bob.do('mute', 'ann'), /not-permitted/);
  await host.do('mute', 'bob');
  await eventually('bob is muted for everyone', () => cid.state(), ({ participants }) => participants.find((/** @type {any} */ one) => one.userId === 'bob')?.isMuted);
  await host.do('lock', true);
  await eventually('everyone knows', () => bob.state(), ({ events }) => events.some((/** @type {any} */ { name: event, value }) => event === 'locked' && value === true));
  await host.do('remove', 'cid');
  await eventually('cid is out', () => cid.state(), ({ state }) => state === 'removed');
  await eventually('bob sees it', () => bob.state(), ({ participants }) => participants.length === 1);
  await host.do('end');
  await eventually('the call is over', () => bob.state(), ({ state }) => state === 'ended');
});

test('what is sent changes in the middle: camera, screen, microphone', async () => {
  const { roomId } = await newRoom();
  const [ann, bob] = [await joins(roomId, 'ann'), await joins(roomId, 'bob')];
  await together(people, 'P2P');
  const tracksOf = (/** @type {string} */ userId) => async () => (await bob.state()).participants.find((/** @type {any} */ one) => one.userId === userId) ?? { tracks: [] };
  const changes = async () => {
    await ann.do('setCamera', false);
    await eventually('the camera is off', tracksOf('ann'), ({ isVideoOn, tracks }) => !isVideoOn && !tracks.includes('camera'));
    await ann.do('shareScreen', true);
    await eventually('the screen is shared', tracksOf('ann'), ({ tracks }) => tracks.includes('screen'));
    await ann.do('setCamera', true);
    await eventually('the camera is on', tracksOf('ann'), ({ isVideoOn, tracks }) => isVideoOn && tracks.includes('camera'));
    await ann.do('shareScreen', false);
    await eventually('the screen is not shared', tracksOf('ann'), ({ tracks }) => !tracks.includes('screen'));
  };
  await changes();
  await joins(roomId, 'cid');
  await together(people, 'SFU');
  await changes();
});
