#!/usr/bin/env node
// Makes a call between headless browsers, and says what each had of the others.

import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { build } from './build.mjs';
import { BrowserCall, userNames } from './call.mjs';
import { startServer } from './lib/dev-server.mjs';
import { DIRECTORY_HELP, DIRECTORY_OPTIONS, openDirectory } from './lib/options.mjs';
import { DEFAULT_CRITERIA, failures, summarize, table } from './lib/verdict.mjs';

const HELP = `Makes a call between headless browsers through a real media node.

usage: node demo.mjs [options]
  --room ID               <namespace>.<name> of the CallRoom [default.demo]
  --participants NUMBER   [2]
  --seconds NUMBER        how long to watch once everyone sees everyone [10]
  --connect-timeout N     seconds until everyone must see everyone [30]
  --min-fps NUMBER        [${DEFAULT_CRITERIA.minFps}]
  --max-first-frame MS    [${DEFAULT_CRITERIA.maxFirstFrameMs}]
  --out DIRECTORY         a screenshot of each page, and what each browser knows when the call fails
  --server URL            use a server that runs already (node server.mjs)
  --json                  one JSON object on stdout instead of the table
  --hold                  keep the call until told to stop: one JSON line of statistics a second on stdout;
                          on stdin the lines "stats" (one now), "rejoin" and "quit" (so does its end)
${DIRECTORY_HELP}

Exit code: 0 when everyone saw and heard everyone well enough, 1 when not, 2 when there was no call.`;

const { values: options } = parseArgs({
  options: {
    ...DIRECTORY_OPTIONS,
    room: { type: 'string', default: 'default.demo' },
    participants: { type: 'string', default: '2' },
    seconds: { type: 'string', default: '10' },
    'connect-timeout': { type: 'string', default: '30' },
    'min-fps': { type: 'string', default: String(DEFAULT_CRITERIA.minFps) },
    'max-first-frame': { type: 'string', default: String(DEFAULT_CRITERIA.maxFirstFrameMs) },
    out: { type: 'string' },
    server: { type: 'string' },
    json: { type: 'boolean', default: false },
    hold: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h' },
  },
});
const criteria = { minFps: Number(options['min-fps']), maxFirstFrameMs: Number(options['max-first-frame']) };
/** Standard output is for the machine when it asked for JSON. */
const forPeople = options.json || options.hold ? console.error : console.log;
/** @param {object} value */
const forMachines = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

if (options.help) {
  console.log(HELP);
} else {
  process.exitCode = await run().catch((error) => {
    console.error(`error: ${error.message}`);
    if (options.json || options.hold) forMachines({ type: 'result', ok: false, failures: [error.message], rows: [] });
    return 2;
  });
}

async function run() {
  const users = userNames(Number(options.participants));
  const server = options.server ? undefined : await startServer({ dist: await build(), directory: await openDirectory(options) });
  const url = options.server?.replace(/\/+$/, '') ?? server?.url ?? '';
  /** @type {BrowserCall | undefined} */
  let call;
  const interrupted = new AbortController();
  for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) process.once(signal, () => interrupted.abort());
  try {
    forPeople(`${users.join(', ')} join ${options.room}; you can join, too: ${url}/#room=${options.room}`);
    call = await BrowserCall.start({ url, room: options.room, users });
    const events = await call.connected(Number(options['connect-timeout']) * 1000);
    const samples = options.hold ? await hold(call, events, interrupted.signal) : await watch(call, interrupted.signal);
    return await conclude(call, samples);
  } catch (error) {
    if (call && options.out) for (const path of await call.dump(options.out)) forPeople(`wrote ${path}`);
    throw error;
  } finally {
    await call?.close();
    await server?.close();
  }
}

/** @param {BrowserCall} call @param {AbortSignal} interrupted */
async function watch(call, interrupted) {
  const samples = [await call.stats()];
  const end = Date.now() + Number(options.seconds) * 1000;
  while (Date.now() < end && !interrupted.aborted) {
    await sleep(Math.min(1000, Math.max(0, end - Date.now())));
    samples.push(await call.stats());
  }
  return samples;
}

/**
 * Until told to stop. Only the first and the last samples and the worst gap matter in the end, so a long
 * watch does not grow: all of it was printed.
 * @param {BrowserCall} call
 * @param {import('./lib/verdict.mjs').PageEvent[]} events
 * @param {AbortSignal} interrupted
 */
async function hold(call, events, interrupted) {
  const stop = new AbortController();
  const samples = [await call.stats()];
  forMachines({ type: 'connected', at: Date.now(), users: call.users, events });
  const print = async () => {
    const pages = await call.stats();
    samples.push(pages);
    if (samples.length > 1000) samples.splice(1, 1);
    forMachines({ type: 'stats', at: Date.now(), pages });
  };
  interrupted.addEventListener('abort', () => stop.abort());
  const commands = createInterface({ input: process.stdin });
  commands.on('close', () => stop.abort());
  commands.on('line', (line) => {
    const command = line.trim();
    if (command === 'quit') stop.abort();
    else if (command === 'rejoin') void call.rejoin().catch((error) => forPeople(`rejoin: ${error.message}`));
    else if (command === 'stats') void print().catch((error) => forPeople(`stats: ${error.message}`));
    else if (command) forPeople(`unknown command "${command}": stats, rejoin or quit`);
  });
  while (!stop.signal.aborted && !interrupted.aborted) {
    await sleep(1000, undefined, { signal: stop.signal }).catch(() => {});
    if (!stop.signal.aborted) await print();
  }
  commands.close();
  samples.push(await call.stats());
  return samples;
}

/** @param {BrowserCall} call @param {import('./lib/verdict.mjs').PageStats[][]} samples */
async function conclude(call, samples) {
  const rows = summarize(samples);
  const bad = failures(rows, call.users, criteria);
  const screenshots = options.out ? await call.screenshots(options.out) : [];
  if (bad.length > 0 && options.out) await call.dump(options.out);
  forPeople(`\n${table(rows)}\n`);
  for (const path of screenshots) forPeople(`wrote ${path}`);
  for (const failure of bad) forPeople(`failed: ${failure}`);
  if (bad.length === 0) forPeople('Everyone saw and heard everyone.');
  if (options.json || options.hold) {
    forMachines({ type: 'result', ok: bad.length === 0, failures: bad, rows, pages: samples.at(-1), screenshots });
  }
  return bad.length === 0 ? 0 : 1;
}
