#!/usr/bin/env node
// A call in the web app between browsers that reach nobody but through a TURN server.
//
// Speaks as `demo.mjs --hold` does: one JSON line a second on standard output, until standard input says "quit" or ends.

import { createServer, connect } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { launchChromium } from './lib/chromium.mjs';
import { relayOnly } from './lib/relayed.mjs';

const HELP = `usage: node relay.mjs --gateway HOST:PORT --link PATH --person NAME=udp|tcp|tls [--person ...]
  --gateway HOST:PORT     where the gateway is
  --link PATH             where people join, with what stands after the #: /join/default.room#token
  --person NAME=WAY       somebody, and how their browser talks to the TURN server
  --tls URL               the turns: URL for WAY tls, where the gateway tells of none
  --connect-timeout N     seconds until everyone must see everyone [60]`;

const { values: options } = parseArgs({
  options: {
    gateway: { type: 'string', default: '' },
    link: { type: 'string', default: '' },
    person: { type: 'string', multiple: true, default: [] },
    tls: { type: 'string' },
    'connect-timeout': { type: 'string', default: '60' },
    help: { type: 'boolean', short: 'h' },
  },
});
/** TURN servers are told by their addresses, and by TCP browsers treat these as names. */
const ADDRESSES = '*.*.*.*';
/** @typedef {{user: string, page: import('playwright-core').Page, said: string[]}} Person */
/** @param {object} value */
const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

if (options.help || !options.gateway || !options.link || options.person.length === 0) {
  console.error(HELP);
  process.exitCode = 2;
} else {
  process.exitCode = await run().catch((error) => {
    console.error(`error: ${error.message}`);
    say({ type: 'result', ok: false, failures: [error.message] });
    return 2;
  });
}

/** Browsers give camera and microphone to pages of localhost, and the gateway is elsewhere. @returns {Promise<import('node:net').Server>} */
async function bringHere() {
  const [host = '', port = ''] = options.gateway.split(':');
  const server = createServer((here) => {
    const there = connect(Number(port), host);
    for (const [one, other] of /** @type {const} */ ([[here, there], [there, here]])) {
      one.pipe(other);
      one.on('error', () => other.destroy());
      one.on('close', () => other.destroy());
    }
  });
  await new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => resolve(undefined));
  });
  return server;
}

/** @param {import('playwright-core').Browser} browser @param {string} person @param {string} url @returns {Promise<Person>} */
async function enter(browser, person, url) {
  const [user = '', way = ''] = person.split('=');
  const context = await browser.newContext({ viewport: { width: 960, height: 600 }, permissions: ['camera', 'microphone'] });
  await context.addInitScript(relayOnly, { way: /** @type {import('./lib/relayed.mjs').Way} */ (way), user, ...(way === 'tls' && options.tls ? { server: options.tls } : {}) });
  const page = await context.newPage();
  /** @type {string[]} */
  const said = [];
  page.on('console', (message) => void said.push(`${message.type()}: ${message.text()}`));
  page.on('pageerror', (error) => void said.push(`uncaught: ${error.message}`));
  page.setDefaultTimeout(Number(options['connect-timeout']) * 1000);
  await page.goto(`${url}${options.link}`);
  await page.getByLabel('Your name').fill(user);
  await page.getByRole('button', { name: 'Join' }).click();
  return { user, page, said };
}

/** @param {Person[]} people @returns {Promise<import('./lib/relayed.mjs').RelayedStats[]>} */
function ask(people) {
  return Promise.all(people.map(({ page }) => page.evaluate(() => /** @type {any} */ (window).relayed.stats())));
}

async function run() {
  const server = await bringHere();
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
  // The certificate of a TURN server under test is nobody's whom a browser knows.
  const browser = await launchChromium({ args: ['--ignore-certificate-errors'], hosts: [ADDRESSES] });
  const stop = new AbortController();
  for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) process.once(signal, () => stop.abort());
  const commands = createInterface({ input: process.stdin });
  commands.on('close', () => stop.abort());
  commands.on('line', (line) => line.trim() === 'quit' && stop.abort());
  /** @type {Person[]} */
  const people = [];
  try {
    for (const person of options.person) people.push(await enter(browser, person, `http://localhost:${port}`));
    const until = Date.now() + Number(options['connect-timeout']) * 1000;
    for (;;) {
      const pages = await ask(people);
      const isThere = (/** @type {import('./lib/relayed.mjs').RelayedStats} */ { remotes }) => Object.values(remotes).filter(({ framesPresented, audio }) => framesPresented > 0 && audio.realSamples > 0).length >= people.length - 1;
      if (pages.every(isThere)) break;
      if (stop.signal.aborted) throw new Error('told to stop before everyone saw everyone');
      if (Date.now() > until) throw new Error(`no call within ${options['connect-timeout']} s: ${JSON.stringify(pages)}`);
      await sleep(200);
    }
    say({ type: 'connected' });
    while (!stop.signal.aborted) {
      await sleep(1000, undefined, { signal: stop.signal }).catch(() => {});
      say({ type: 'stats', at: Date.now(), pages: await ask(people) });
    }
    say({ type: 'result', ok: true, failures: [] });
    return 0;
  } catch (error) {
    for (const { user, page, said } of people) {
      const text = await page.locator('body').innerText().catch(() => 'nothing');
      console.error(`${user}'s page shows: ${text.replaceAll('\n', ' | ').slice(0, 400)}`);
      for (const line of said.slice(-6)) console.error(`${user}: ${line}`);
    }
    throw error;
  } finally {
    commands.close();
    await browser.close();
    server.close();
  }
}
