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

const FLAGS = ['--allow-loopback-in-peer-connection', '--auto-accept-this-tab-capture', '--auto-select-desktop-capture-source=Entire screen'];
/** Pictures, and samples of sound at 48 kHz, of somebody that are more than a leftover. */
const MORE = { pictures: 10, sounds: 9600 };
/** How long a picture through a media node is waited for, in milliseconds. */
const RESTS_MS = 20_000;

/** A browser that reaches media on loopback, and picks a screen by itself. @param {string[]} [flags] more of them: of one name the last counts */
export const launch = (flags = []) => launchChromium({ args: [...FLAGS, ...flags] });

/** Puts the pages of the tests beside what a gateway serves. @param {string} [app] the built web app @returns {Promise<string>} the directory */
export async function webRoot(app) {
  const root = await mkdtemp(join(tmpdir(), 'callplane-web-'));
  if (app) await cp(app, root, { recursive: true });
  const entryPoints = ['lab', 'plain'].map((name) => here(`../lab/${name}.js`));
  await esbuild.build({ entryPoints, outdir: `${root}/assets`, bundle: true, format: 'esm', target: 'es2022', logLevel: 'warning' });
  if (!app) await cp(here('../lab/lab.html'), `${root}/index.html`);
  for (const name of ['lab.html', 'plain.html', 'lab.css', 'meter.js']) await cp(here(`../lab/${name}`), `${root}/assets/${name}`);
  return root;
}

/**
 * `prepare` does something to the page before anything of it runs.
 * @typedef {import('playwright-core').BrowserContext} Context
 * @typedef {{token?: string, linkToken?: string, displayName?: string, frequency?: number, size?: object, prepare?: (context: Context) => Promise<unknown>}} PersonOptions
 */

/** As behind a proxy that knows no WebSockets: they fail. @param {Context} context */
export const withoutWebSockets = (context) => context.addInitScript(blockWebSockets);

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
   * @param {{url: string, roomId: string} & PersonOptions} options
   */
  static async join(browser, name, { url, prepare, ...options }) {
    const context = await browser.newContext({ viewport: { width: 1000, height: 640 }, permissions: ['camera', 'microphone'] });
    const person = new Person(name, await context.newPage(), { frequency: 440, ...options });
    await prepare?.(context);
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

  /** What comes of everybody: pictures by participant, real samples by stream. @returns {Promise<{pictures: Record<string, number>, sounds: Record<string, number>}>} */
  comes() {
    return this.page.evaluate(() => /** @type {any} */ (window).lab.comes());
  }

  /** What it sends, by stream. @returns {Promise<{kind: string, active: boolean, packetsSent: number}[]>} */
  sends() {
    return this.page.evaluate(() => /** @type {any} */ (window).lab.sends());
  }

  /** Keeps back what it asks of media nodes, until the returned function is called. @returns {Promise<() => Promise<void>>} */
  async holdMedia() {
    const pattern = '**/api/rooms/**';
    /** @type {() => void} */
    let release = () => {};
    const released = new Promise((resolve) => (release = () => resolve(undefined)));
    await this.page.route(pattern, async (route) => {
      await released;
      // The page may have given up on it.
      await route.continue().catch(() => {});
    });
    return async () => {
      release();
      await this.page.unroute(pattern);
    };
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

/**
 * Sound of everybody comes to everybody and goes on coming, and so do pictures peer to peer. A media node lets pictures rest for
 * which a path has no room (docs/media.md), as that to a page which gets little of the processor: that is told and no more.
 * @param {Person[]} people
 */
export async function flowing(people) {
  const look = () => Promise.all(people.map(async (person) => ({ ...(await person.comes()), mode: (await person.state()).mode })));
  const before = await look();
  /** @typedef {{pictures: Record<string, number>, sounds: Record<string, number>, mode: string}} Came */
  const goesOn = (/** @type {'pictures' | 'sounds'} */ what) => (/** @type {Came[]} */ all) => all.every(({ [what]: now, mode }, at) => {
    const those = Object.entries(now).filter(([key, count]) => count > (before[at]?.[what][key] ?? 0) + MORE[what]);
    return those.length >= people.length - 1 || (what === 'pictures' && mode === 'SFU' && Date.now() > until);
  });
  const until = Date.now() + RESTS_MS;
  await eventually('sound of everybody comes to everybody', look, goesOn('sounds'));
  await eventually('pictures of everybody come to everybody', look, goesOn('pictures'));
  if (Date.now() > until) console.log('a picture rests for want of bandwidth');
}

/** The worst that anybody saw and heard of anybody. @param {Record<string, {videoMs: number, silenceMs: number, blank: number}>[]} takes */
export function worst(takes) {
  const all = takes.flatMap((take) => Object.values(take));
  const most = (/** @type {'videoMs' | 'silenceMs' | 'blank'} */ field) => Math.max(0, ...all.map((one) => one[field]));
  return { videoMs: most('videoMs'), silenceMs: most('silenceMs'), blank: most('blank') };
}
