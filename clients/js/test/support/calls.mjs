// Calls for one file of tests: the programs, a browser, and the people in it.

import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { after, afterEach, before } from 'node:test';
import { Lab } from '../../../../e2e/browser/lib/lab.mjs';
import { eventually, launch, Person, webRoot, worst } from './browser.mjs';

/** Nothing that a person would call a gap, on whatever machine runs the tests. The figures are in docs/client.md. */
const GAP_MS = 2000;

export class Calls {
  /** @type {Person[]} */
  people = [];
  /** @type {Lab | undefined} */
  #lab;
  /** @type {import('playwright-core').Browser | undefined} */
  #browser;
  #root = '';
  #rooms = 0;

  /** To be made once in a file, outside of its tests. */
  constructor() {
    before(async () => {
      this.#root = await webRoot();
      this.#lab = await Lab.start({ webRoot: this.#root });
      this.#browser = await launch();
    });
    after(async () => {
      await this.#browser?.close();
      await this.#lab?.stop();
      await rm(this.#root, { recursive: true, force: true });
    });
    afterEach(async () => {
      await Promise.all(this.people.splice(0).map((person) => person.close()));
    });
  }

  get lab() {
    if (!this.#lab) throw new Error('the lab is not there yet');
    return this.#lab;
  }

  get browser() {
    if (!this.#browser) throw new Error('the browser is not there yet');
    return this.#browser;
  }

  /** @param {object} [topology] @param {number} [maxParticipants] */
  async room(topology, maxParticipants) {
    this.#rooms += 1;
    const name = `call-${this.#rooms}`;
    return { name, roomId: await this.lab.room(name, topology, maxParticipants) };
  }

  /** Joins with a token of a backend, or as the options say. @param {string} roomId @param {string} name @param {string} [role] @param {import('./browser.mjs').PersonOptions} [options] */
  async joins(roomId, name, role, options = {}) {
    const admission = options.token || options.linkToken ? {} : { token: await this.lab.token(roomId, name, role) };
    const frequency = 330 + 110 * this.people.length;
    const person = await Person.join(this.browser, name, { url: this.lab.url, roomId, frequency, ...admission, ...options });
    this.people.push(person);
    return person;
  }

  /** @param {Person} person */
  async leaves(person) {
    this.people.splice(this.people.indexOf(person), 1);
    await person.do('leave');
    await person.close();
  }

  /** Begins to look for gaps. */
  async watch() {
    await Promise.all(this.people.map((person) => person.take()));
  }

  /** What everybody saw and heard since is no gap. @param {string} what @param {Person[]} [who] @param {number} [withinMs] */
  async noGap(what, who = this.people, withinMs = GAP_MS) {
    const seen = worst(await Promise.all(who.map((person) => person.take())));
    console.log(`${what}: longest video interval ${seen.videoMs} ms, silence ${seen.silenceMs} ms, blank frames ${seen.blank}`);
    assert.equal(seen.blank, 0, `${what}: a picture was blank`);
    assert.ok(seen.videoMs < withinMs && seen.silenceMs < withinMs, `${what}: ${JSON.stringify(seen)}`);
  }

  /** The route before is closed, and this mode is what is left. @param {string} name @param {'P2P' | 'SFU'} mode @returns {Promise<any>} the status */
  oneRoute(name, mode) {
    return eventually('one route is left', () => this.lab.status(name), (status) => status.previousRoute === undefined && status.route.mode === mode);
  }

  /** Changes how a room's media may flow. @param {string} name @param {object} topology */
  async retopologize(name, topology) {
    await this.lab.kube('PATCH', `/apis/callplane.io/v1alpha1/namespaces/default/callrooms/${name}`, { spec: { topology } }, 'application/merge-patch+json');
  }
}
