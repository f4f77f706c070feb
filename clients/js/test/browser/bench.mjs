#!/usr/bin/env node
// Measures what two people see and hear while their call goes from one route to another, again and again; while the gateway is
// killed and comes back; when a third comes; and how soon who joins sees the other.
//
// usage: bench.mjs [--switches 30] [--restarts 10] [--growths 5] [--joins 20] [--height 360]
//
// Each switch is asked for by `spec.topology.mode` of the CallRoom, and goes through operator, gateway and media node as any other.

import { rm } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Lab } from '../../../../e2e/browser/lib/lab.mjs';
import { eventually, launch, Person, together, webRoot, worst } from '../support/browser.mjs';

const { values: options } = parseArgs({
  options: {
    switches: { type: 'string', default: '30' }, restarts: { type: 'string', default: '10' }, growths: { type: 'string', default: '5' },
    joins: { type: 'string', default: '20' }, height: { type: 'string', default: '360' },
  },
});
const [switches, restarts, growths, joins, height] = /** @type {const} */ (['switches', 'restarts', 'growths', 'joins', 'height']).map((name) => {
  const value = Number(options[name]);
  if (!Number.isInteger(value) || value < 0) throw new Error(`--${name} is a number of times, not '${options[name]}'`);
  return value;
});
if (!switches || !height) throw new Error('--switches and --height are at least 1');
const size = { width: Math.round((height * 16) / 9), height };
/** Between two switches: the old route is closed, bit rates have grown. */
const REST_MS = 3000;

/** @param {number[]} values @param {number} share */
function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? NaN;
}

/** @param {string} what @param {number[]} values @param {number} [goal] that 95 of 100 stay below */
function row(what, values, goal) {
  if (values.length === 0) return;
  const [median, p95, most] = [quantile(values, 0.5), quantile(values, 0.95), Math.max(...values)].map((value) => String(Math.round(value)).padStart(7));
  const verdict = goal === undefined ? '' : quantile(values, 0.95) < goal ? `  < ${goal}` : `  MISSES ${goal}`;
  console.log(`${what.padEnd(46)} ${String(values.length).padStart(4)} ${median} ${p95} ${most}${verdict}`);
}

const root = await webRoot();
const lab = await Lab.start({ webRoot: root });
const browser = await launch();
let failed = 0;
try {
  const path = '/apis/callplane.io/v1alpha1/namespaces/default/callrooms/bench';
  const roomId = await lab.room('bench', { mode: 'P2P' });
  /** @type {Person[]} */
  const people = [];
  for (const [name, frequency] of /** @type {[string, number][]} */ ([['ann', 440], ['bob', 660]])) {
    people.push(await Person.join(browser, name, { url: lab.url, roomId, token: await lab.token(roomId, name), frequency, size }));
  }
  await together(people, 'P2P');

  /** A third one comes and goes: milliseconds from each coming until everybody is shown through the media server. */
  async function grow() {
    if (!growths) return [];
    const auto = { spec: { topology: { mode: 'Auto', stabilizationSeconds: 0 } } };
    await lab.kube('PATCH', path, auto, 'application/merge-patch+json');
    await together(people, 'P2P');
    const all = [];
    for (let at = 0; at < growths; at += 1) {
      await take();
      await sleep(REST_MS);
      measured['no switch (as long)']?.push(...(await take()).map((one) => worst([one])));
      const began = Date.now();
      const third = await Person.join(browser, `cid-${at}`, { url: lab.url, roomId, token: await lab.token(roomId, `cid-${at}`), frequency: 880, size });
      const entered = Date.now();
      await together([...people, third], 'SFU', 120_000);
      all.push(Date.now() - entered + (third.joinMs ?? 0));
      await sleep(800);
      measured['a third comes']?.push(...(await take()).map((one) => worst([one])));
      console.log(`a third: page and devices ${entered - began - (third.joinMs ?? 0)} ms, in the call ${third.joinMs} ms, everybody moved ${all.at(-1)} ms after it asked to join`);
      for (const person of [...people, third]) {
        const { events } = await person.state();
        const last = events.findLast((/** @type {any} */ { name }) => name === 'switched')?.value;
        if (last?.mode === 'SFU') took(person === third ? 'a third comes, the third' : 'a third comes, the others', { ...last.steps, all: last.ms });
      }
      await third.do('leave');
      await third.close();
      await together(people, 'P2P', 120_000);
    }
    return all;
  }
  /** Milliseconds until who has just joined had a picture. @param {Person} person */
  const firstFrame = async (person) => (await person.state()).events.find((/** @type {any} */ { name, value }) => name === 'media' && value.source === 'camera')?.at;

  /** Somebody comes in to the other, again and again. */
  async function joinAgain() {
    const all = [];
    await lab.kube('PATCH', path, { spec: { topology: { mode: 'P2P' } } }, 'application/merge-patch+json');
    await together(people, 'P2P');
    for (let at = 0; at < (joins ?? 0); at += 1) {
      const gone = people.pop();
      await gone?.do('leave');
      await gone?.close();
      const name = `bob-${at}`;
      const bob = await Person.join(browser, name, { url: lab.url, roomId, token: await lab.token(roomId, name), frequency: 660, size });
      people.push(bob);
      await together(people, 'P2P');
      all.push(await firstFrame(bob));
      await sleep(REST_MS);
    }
    return all;
  }

  /** The gateway is killed and comes back: milliseconds from its being there again until both are. */
  async function restartGateway() {
    const all = [];
    for (let at = 0; at < (restarts ?? 0); at += 1) {
      await take();
      await sleep(REST_MS);
      await take();
      await lab.restartGateway();
      const began = Date.now();
      await eventually('both are back', () => Promise.all(people.map((person) => person.state())), (states) => states.every(({ state, participants }) => state === 'joined' && participants.length === 1));
      all.push(Date.now() - began);
      await sleep(800);
      measured['gateway killed']?.push(...(await take()).map((one) => worst([one])));
    }
    return all;
  }

  await sleep(8000);
  const take = () => Promise.all(people.map((person) => person.take()));
  await take();
  /** @type {Record<string, {videoMs: number, silenceMs: number, blank: number}[]>} */
  const measured = { 'no switch (as long)': [], 'P2P → SFU': [], 'SFU → P2P': [], 'gateway killed': [], 'a third comes': [] };
  /** @type {Record<string, number[]>} */
  const times = { 'P2P → SFU': [], 'SFU → P2P': [] };
  /** @type {Record<string, Record<string, number[]>>} when each step was done, by kind */
  const steps = {};
  /** @param {string} kind @param {Record<string, number>} done */
  const took = (kind, done) => {
    const of = (steps[kind] ??= {});
    for (const [step, ms] of Object.entries(done)) (of[step] ??= []).push(ms);
  };
  for (let at = 0; at < switches; at += 1) {
    const mode = at % 2 ? 'P2P' : 'SFU';
    const kind = at % 2 ? 'SFU → P2P' : 'P2P → SFU';
    const { epoch } = (await lab.status('bench')).route;
    await take();
    await sleep(REST_MS);
    measured['no switch (as long)']?.push(...(await take()).map((one) => worst([one])));
    await lab.kube('PATCH', path, { spec: { topology: { mode } } }, 'application/merge-patch+json');
    try {
      await together(people, mode);
      await eventually('the old route is closed', () => lab.status('bench'), ({ route, previousRoute }) => route.epoch > epoch && route.mode === mode && !previousRoute);
    } catch (error) {
      failed += 1;
      console.log(`switch ${at + 1} was lost: ${error instanceof Error ? error.message.slice(0, 300) : error}`);
    }
    await sleep(800);
    measured[kind]?.push(...(await take()).map((one) => worst([one])));
    for (const person of people) {
      const { events } = await person.state();
      const last = events.findLast((/** @type {any} */ { name }) => name === 'switched');
      if (last?.value.mode !== mode) continue;
      times[kind]?.push(last.value.ms);
      took(kind, last.value.steps);
    }
  }
  const back = await restartGateway();
  const third = await grow();
  const first = await joinAgain();
  console.log(`\n${switches} switches between two pages at ${size.width}x${size.height}, ${failed} lost; milliseconds\n`);
  console.log(`${''.padEnd(46)} ${'n'.padStart(4)} ${'p50'.padStart(7)} ${'p95'.padStart(7)} ${'max'.padStart(7)}`);
  for (const [kind, all] of Object.entries(measured)) {
    const isChange = !kind.startsWith('no switch');
    row(`${kind}: longest video interval`, all.map(({ videoMs }) => videoMs), isChange ? 67 : undefined);
    row(`${kind}: silence`, all.map(({ silenceMs }) => silenceMs), isChange ? 20 : undefined);
    row(`${kind}: command → all swapped`, times[kind] ?? [], 1300);
  }
  row('gateway there again → both back', back);
  row('third joins → all three moved', third);
  row('join → first remote frame, peer to peer', first, 400);
  for (const [kind, of] of Object.entries(steps)) {
    console.log('');
    for (const [step, all] of Object.entries(of)) row(`${kind}: ${step}`, all);
  }
  const blank = Object.values(measured).flat().reduce((sum, one) => sum + one.blank, 0);
  console.log(`\nblank frames: ${blank}`);
  if (failed > 0 || blank > 0) process.exitCode = 1;
} finally {
  await browser.close();
  await lab.stop();
  await rm(root, { recursive: true, force: true });
}
