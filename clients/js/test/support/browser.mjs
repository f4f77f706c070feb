// Participants in pages of a real Chromium.

import { mkdtemp, cp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import * as esbuild from 'esbuild';
import { launchChromium } from '../../../../e2e/browser/lib/chromium.mjs';

const LATE_MS = 90_000;
const here = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));

/** A browser that reaches media on loopback, and picks a screen by itself. */
export const launch = () => launchChromium({ args: ['--allow-loopback-in-peer-connection', '--auto-accept-this-tab-capture', '--auto-select-desktop-capture-source=Entire screen'] });

/** Puts the pages of the tests beside what a gateway serves. @param {string} [app] the built web app @returns {Promise<string>} the directory */
export async function webRoot(app) {
  const root = await mkdtemp(join(tmpdir(), 'callplane-web-'));
  if (app) await cp(app, root, { recursive: true });
  await esbuild.build({ entryPoints: [here('../lab/lab.js')], outfile: `${root}/assets/lab.js`, bundle: true, format: 'esm', target: 'es2022', logLevel: 'warning' });
  if (!app) await cp(here('../lab/lab.html'), `${root}/index.html`);
  for (const name of ['lab.html', 'lab.css', 'meter.js']) await cp(here(`../lab/${name}`), `${root}/assets/${name}`);
  return root;
}

/** As behind a proxy that knows no WebSockets: they fail. */
function blockWebSockets() {
  class Blocked {
    /** @type {((event: Event) => void) | undefined} */
    onerror;

    constructor() {
      setTimeout(() => this.onerror?.(new Event('error')), 50);
    }

    close() {}
  }
  Object.assign(window, { WebSocket: Blocked });
}

/** One participant. */
export class Person {
  /** @type {string[]} what the page wrote to its console */
  said = [];

  /** @param {string} name @param {import('playwright-core').Page} page @param {object} options */
  constructor(name, page, options) {
    this.name = name;
    this.page = page;
    this.options = options;
    page.on('console', (message) => this.said.push(`${message.type()}: ${message.text()}`));
    page.on('pageerror', (error) => this.said.push(`uncaught: ${error.message}`));
  }

  /**
   * @param {import('playwright-core').Browser} browser
   * @param {string} name
   * @param {{url: string, roomId: string, token?: string, linkToken?: string, displayName?: string, frequency?: number, size?: object, withoutWebSockets?: boolean}} options
   */
  static async join(browser, name, { url, withoutWebSockets = false, ...options }) {
    const context = await browser.newContext({ viewport: { width: 1000, height: 640 }, permissions: ['camera', 'microphone'] });
    const person = new Person(name, await context.newPage(), { frequency: 440, ...options });
    if (withoutWebSockets) await context.addInitScript(blockWebSockets);
    await person.page.goto(`${url}/assets/lab.html`);
    await person.enter();
    return person;
  }

  async enter() {
    await this.page.mouse.click(5, 5);
    this.joinMs = await this.page.evaluate((options) => /** @type {any} */ (window).lab.join(options), this.options);
  }

  /** @returns {Promise<any>} */
  state() {
    return this.page.evaluate(() => /** @type {any} */ (window).lab.state());
  }

  /** @returns {Promise<Record<string, {frames: number, videoMs: number, silenceMs: number, blank: number}>>} */
  take() {
    return this.page.evaluate(() => /** @type {any} */ (window).lab.take());
  }

  /** @param {string} name @param {...any} args */
  do(name, ...args) {
    return this.page.evaluate((what) => /** @type {any} */ (window).lab.do(what), { name, args });
  }

  /** Reloads the page and joins again, as the same participant. @param {object} [options] */
  async reload(options = {}) {
    Object.assign(this.options, options);
    await this.page.reload();
    await this.enter();
  }

  async close() {
    await this.page.context().close();
  }
}

/**
 * Asks until the answer will do; throws with the last one when that takes too long.
 * @template T
 * @param {string} what
 * @param {() => T | Promise<T>} ask
 * @param {(answer: T) => boolean} isGood
 * @returns {Promise<T>}
 */
export async function eventually(what, ask, isGood, withinMs = LATE_MS) {
  const until = Date.now() + withinMs;
  for (;;) {
    const answer = await ask();
    if (isGood(answer)) return answer;
    if (Date.now() > until) throw new Error(`not within ${withinMs / 1000} s: ${what}: ${JSON.stringify(answer, null, 1).slice(0, 4000)}`);
    await sleep(100);
  }
}

/** Everybody sees everybody, in this mode. @param {Person[]} people @param {'P2P' | 'SFU'} mode */
export function together(people, mode, withinMs = LATE_MS) {
  return eventually(`${people.map(({ name }) => name)} together by ${mode}`, async () => {
    const states = await Promise.all(people.map((person) => person.state()));
    const seen = await Promise.all(people.map((person) => person.page.evaluate(() => [.../** @type {any} */ (document).querySelectorAll('#grid video')].filter((video) => video.readyState >= 2).length)));
    return people.map(({ said }, at) => ({ ...states[at], seen: seen[at], said: said.slice(-8) }));
  }, (all) => all.every(({ mode: is, isSwitching, participants, seen }) => is === mode && !isSwitching && participants.length === people.length - 1 && seen >= people.length - 1), withinMs);
}

/** The worst that anybody saw and heard of anybody. @param {Record<string, {videoMs: number, silenceMs: number, blank: number}>[]} takes */
export function worst(takes) {
  const all = takes.flatMap((take) => Object.values(take));
  const most = (/** @type {'videoMs' | 'silenceMs' | 'blank'} */ field) => Math.max(0, ...all.map((one) => one[field]));
  return { videoMs: most('videoMs'), silenceMs: most('silenceMs'), blank: most('blank') };
}
