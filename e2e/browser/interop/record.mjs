// What the tests of real programs have seen, as `run.mjs` collects it for docs/interop.md.
//
// A line for each thing, in a file that `$CALLPLANE_INTEROP_RECORD` names. Without one, as when a test is run by hand,
// nothing is written.

import { appendFileSync } from 'node:fs';
import { basename } from 'node:path';

/**
 * @typedef {{client: string, what: string, seen: string, took?: string}} Row  One line of the table.
 * @typedef {{client: string, what: string, why: string}} Skip  What this machine's programs cannot show.
 * @typedef {{program: string, version: string}} Version  Of a program that the machine has, not the project.
 * @typedef {{file: string, at: number} & (Row | Skip | Version)} Entry  `at` is its place in the file.
 */

let written = 0;

/** @param {Row | Skip | Version} what @param {number} [at] */
function write(what, at = place()) {
  const path = process.env.CALLPLANE_INTEROP_RECORD;
  if (path) appendFileSync(path, `${JSON.stringify({ file: basename(process.argv[1] ?? ''), at, ...what })}\n`);
}

/** A place for what a test will have seen that runs beside others, so that it is the same whichever ends first. */
export const place = () => (written += 1);

/**
 * Said after the assertions, in words that hold in every run: figures that vary go to `t.diagnostic`.
 * @param {string} client as in `table.mjs`
 * @param {string} what codec, feature or way
 * @param {string} seen what was asserted, as a phrase
 * @param {{took?: string, at?: number}} [more] how long it took, for the page alone: no run is held against it; and its place
 */
export const shown = (client, what, seen, { took, at } = {}) => write({ client, what, seen, ...(took ? { took } : {}) }, at);

/** @param {string} client @param {string} what @param {string} why */
export const notHere = (client, what, why) => write({ client, what, why });

/** @param {string} program @param {string} version */
export const ranWith = (program, version) => write({ program, version });
