#!/usr/bin/env node
// Measures what two people see and hear while their call goes from one route to another, again and again.
//
// bench.mjs [switches=30] [height=360]: each switch is asked for by `spec.topology.mode` of the CallRoom, and goes through
// operator, gateway and media node as any other.

import { rm } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { Lab } from '../../../../e2e/browser/lib/lab.mjs';
import { eventually, launch, Person, together, webRoot, worst } from '../support/browser.mjs';

const [switches = 30, height = 360] = process.argv.slice(2).map(Number);
const size = { width: Math.round((height * 16) / 9), height };
/** Between two switches: the old route is closed, bit rates have grown. */
const REST_MS = 3000;

/** @param {number[]} values @param {number} share */
function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? NaN;
}

/** @param {string} what @param {number[]} values */
function row(what, values) {
  const [median, p95, most] = [quantile(values, 0.5), quantile(values, 0.95), Math.max(...values)].map((value) => String(Math.round(value)).padStart(7));
  console.log(`${what.padEnd(46)} ${String(values.length).padStart(4)} ${median} ${p95} ${most}`);
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
  const joined = (await people[1]?.state()).events;
  const first = joined.find((/** @type {any} */ { name, value }) => name === 'media' && value.source === 'camera')?.at;
  console.log(`join → first remote frame, peer to peer: ${first} ms`);
  await sleep(8000);
  const take = () => Promise.all(people.map((person) => person.take()));
  await take();
  /** @type {Record<string, {videoMs: number, silenceMs: number, blank: number}[]>} */
  const measured = { 'no switch (as long)': [], 'P2P → SFU': [], 'SFU → P2P': [] };
  /** @type {Record<string, number[]>} */
  const times = { 'P2P → SFU': [], 'SFU → P2P': [] };
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
      if (last?.value.mode === mode) times[kind]?.push(last.value.ms);
    }
  }
  console.log(`\n${switches} switches between two pages at ${size.width}x${size.height}, ${failed} lost; milliseconds\n`);
  console.log(`${''.padEnd(46)} ${'n'.padStart(4)} ${'p50'.padStart(7)} ${'p95'.padStart(7)} ${'max'.padStart(7)}`);
  for (const [kind, all] of Object.entries(measured)) {
    row(`${kind}: longest video interval`, all.map(({ videoMs }) => videoMs));
    row(`${kind}: silence`, all.map(({ silenceMs }) => silenceMs));
    if (times[kind]) row(`${kind}: command → all swapped`, times[kind] ?? []);
  }
  const blank = Object.values(measured).flat().reduce((sum, one) => sum + one.blank, 0);
  console.log(`\nblank frames: ${blank}`);
  if (failed > 0 || blank > 0) process.exitCode = 1;
} finally {
  await browser.close();
  await lab.stop();
  await rm(root, { recursive: true, force: true });
}
