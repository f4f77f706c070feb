// A call between real browsers, as a library: opens pages, joins, measures, ends.

import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { launchChromium } from './lib/chromium.mjs';
import { missing, receivesAll } from './lib/verdict.mjs';

/** @typedef {import('./lib/verdict.mjs').PageStats} PageStats */

const NAMES = ['alice', 'bob', 'carol', 'dave', 'erin', 'frank', 'grace', 'heidi', 'ivan', 'judy'];
const VIEWPORT = { width: 1120, height: 720 };
const CONSOLE_LINES = 50;
/** A page that does not answer for this long is stuck. */
const ANSWER_TIMEOUT_MS = 30_000;
const POLL_MS = 100;

/** @param {number} count */
export function userNames(count) {
  return Array.from({ length: count }, (_, at) => NAMES[at] ?? `user-${at + 1}`);
}

/** One participant: a page in a browser context of its own. */
class Participant {
  /** @type {string[]} what the page wrote to its console, for when something goes wrong */
  said = [];

  /** @param {string} user @param {import('playwright-core').Page} page */
  constructor(user, page) {
    this.user = user;
    this.page = page;
    const note = (/** @type {string} */ line) => {
      this.said.push(line);
      if (this.said.length > CONSOLE_LINES) this.said.shift();
    };
    page.on('console', (message) => note(`${message.type()}: ${message.text()}`));
    page.on('pageerror', (error) => note(`uncaught: ${error.stack ?? error.message}`));
    page.on('crash', () => note('the page crashed'));
  }

  /** Presses the button, as a person does: browsers play sound only after that. */
  async join() {
    await this.page.getByRole('button', { name: /^Join/ }).click({ timeout: ANSWER_TIMEOUT_MS });
  }

  /** @returns {Promise<PageStats>} */
  stats() {
    return this.#ask('stats');
  }

  async rejoin() {
    await this.page.evaluate(() => void /** @type {any} */ (window).callplane.rejoin());
  }

  async leave() {
    await this.page.evaluate(() => /** @type {any} */ (window).callplane.leave());
  }

  /** @returns {Promise<any>} */
  diagnose() {
    return this.#ask('diagnose');
  }

  /** @param {'stats' | 'diagnose'} what @returns {Promise<any>} */
  async #ask(what) {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`the page of ${this.user} does not answer`)), ANSWER_TIMEOUT_MS);
    });
    try {
      return await Promise.race([this.page.evaluate((name) => /** @type {any} */ (window).callplane[name](), what), late]);
    } finally {
      clearTimeout(timer);
    }
  }
}

/** A running call. */
export class BrowserCall {
  /** @param {import('playwright-core').Browser} browser @param {Participant[]} participants */
  constructor(browser, participants) {
    this.browser = browser;
    this.participants = participants;
  }

  /**
   * Opens the page for everyone and joins; does not wait for media.
   * @param {{url: string, room: string, users: string[]}} options
   */
  static async start({ url, room, users }) {
    const browser = await launchChromium();
    try {
      const participants = await Promise.all(users.map(async (user) => {
        const context = await browser.newContext({ viewport: VIEWPORT });
        const page = await context.newPage();
        const participant = new Participant(user, page);
        await page.goto(`${url}/#${new URLSearchParams({ room, user })}`);
        return participant;
      }));
      const call = new BrowserCall(browser, participants);
      await Promise.all(participants.map((participant) => participant.join()));
      return call;
    } catch (error) {
      await browser.close();
      throw error;
    }
  }

  get users() {
    return this.participants.map(({ user }) => user);
  }

  /** @param {string} user */
  othersThan(user) {
    return this.users.filter((other) => other !== user);
  }

  /** @returns {Promise<PageStats[]>} */
  stats() {
    return Promise.all(this.participants.map((participant) => participant.stats()));
  }

  /**
   * Waits until everyone sees and hears everyone; throws with what is missing when that takes too long, or
   * at once when a page has given up.
   * @param {number} timeoutMs
   * @returns {Promise<import('./lib/verdict.mjs').PageEvent[]>} what happened meanwhile
   */
  async connected(timeoutMs) {
    const until = Date.now() + timeoutMs;
    const events = [];
    for (;;) {
      const pages = await this.stats();
      events.push(...pages.flatMap((page) => page.events.map((event) => ({ ...event, user: page.user }))));
      const waiting = pages.filter((page) => !receivesAll(page, this.othersThan(page.user)));
      if (waiting.length === 0) return events;
      const failed = waiting.some(({ state }) => state === 'failed');
      if (failed || Date.now() > until) {
        const why = failed ? 'a page could not join' : `no call within ${timeoutMs / 1000} s`;
        const log = events.filter(({ type }) => /fail|down|closed|changed/.test(type)).slice(-10);
        throw new Error([
          why,
          ...waiting.map((page) => missing(page, this.othersThan(page.user))),
          ...log.map(({ user, type, detail }) => `${user}: ${type}: ${typeof detail === 'string' ? detail : JSON.stringify(detail)}`),
        ].join('\n  '));
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  async rejoin() {
    await Promise.all(this.participants.map((participant) => participant.rejoin()));
  }

  /** A picture of each page. @param {string} directory @returns {Promise<string[]>} */
  async screenshots(directory) {
    await mkdir(directory, { recursive: true });
    return Promise.all(this.participants.map(async ({ user, page }) => {
      const path = join(directory, `${user}.png`);
      await page.getByRole('button', { name: 'Statistics', pressed: false }).click({ timeout: 1000 }).catch(() => {});
      await page.screenshot({ path, timeout: ANSWER_TIMEOUT_MS });
      return path;
    }));
  }

  /** All that each browser knows, for finding out what went wrong. @param {string} directory @returns {Promise<string[]>} */
  async dump(directory) {
    await mkdir(directory, { recursive: true });
    return Promise.all(this.participants.map(async (participant) => {
      const path = join(directory, `${participant.user}.json`);
      const known = await participant.diagnose().catch((error) => ({ error: String(error) }));
      await writeFile(path, JSON.stringify({ console: participant.said, ...known }, null, 2));
      return path;
    }));
  }

  /** Everyone leaves, and the browser ends. */
  async close() {
    await Promise.allSettled(this.participants.map((participant) => participant.leave()));
    await this.browser.close();
  }
}
