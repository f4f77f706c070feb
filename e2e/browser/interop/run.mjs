#!/usr/bin/env node
// Runs the tests of real programs, and holds docs/interop.md against what they have seen.
//
// usage: run.mjs [--write] [NAME...]
//
// With names only the files whose names contain one of them are run, and the page is left alone.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { mediaNodeProgram } from '../lib/media-node.mjs';
import { differences, readRun, render } from './table.mjs';

const here = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));
const PAGE = here('../../../docs/interop.md');

/** @returns {Promise<import('./table.mjs').Pins>} */
async function pins() {
  const { dependencies, devDependencies } = JSON.parse(await readFile(here('../package.json'), 'utf8'));
  const lines = (await readFile(here('python/requirements.txt'), 'utf8')).split('\n').filter((line) => line.includes('=='));
  const crates = [...(await readFile(here('../../../Cargo.lock'), 'utf8')).matchAll(/^name = "(.*)"\nversion = "(.*)"$/gm)];
  return {
    node: { ...dependencies, ...devDependencies },
    python: Object.fromEntries(lines.map((line) => line.split('=='))),
    rust: Object.fromEntries(crates.map(([, name, version]) => [name, version])),
  };
}

/** @param {string[]} files @param {string} record @returns {Promise<number>} how the tests ended */
async function test(files, record) {
  // One after the other: each wants the cores for itself.
  const child = spawn(process.execPath, ['--test', '--test-concurrency=1', ...files.map((file) => here(file))], {
    stdio: 'inherit', env: { ...process.env, CALLPLANE_INTEROP_RECORD: record },
  });
  const [code] = await once(child, 'exit');
  return code ?? 1;
}

async function main(/** @type {string[]} */ options) {
  const names = options.filter((option) => !option.startsWith('--'));
  const unknown = options.find((option) => option.startsWith('--') && option !== '--write');
  if (unknown) throw new Error(`${unknown}: the only option is --write`);
  if (!mediaNodeProgram()) throw new Error('no media node has been built: cargo build -p callplane-media-node');
  const all = (await readdir(here('.'))).filter((file) => file.endsWith('.test.mjs')).sort();
  const files = all.filter((file) => names.length === 0 || names.some((name) => file.includes(name)));
  if (files.length === 0) throw new Error(`no test is named ${names.join(' or ')}: there are ${all.join(', ')}`);

  const directory = await mkdtemp(join(tmpdir(), 'callplane-interop-run-'));
  try {
    const record = join(directory, 'seen.jsonl');
    await writeFile(record, '');
    const code = await test(files, record);
    if (code !== 0 || files.length < all.length) return code;
    return judge(readRun(await readFile(record, 'utf8')), options.includes('--write'));
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** @param {import('./table.mjs').Run} run @param {boolean} writes @returns {Promise<number>} */
async function judge(run, writes) {
  for (const { client, what, why } of run.skipped) console.log(`interop: not shown here: ${client}: ${what}: ${why}`);
  if (writes) {
    await writeFile(PAGE, render(run, await pins()));
    console.log(`interop: written: ${PAGE}`);
    return 0;
  }
  const found = differences(await readFile(PAGE, 'utf8').catch(() => ''), run, await pins());
  for (const one of found) console.error(`interop: ${one}`);
  if (found.length > 0) console.error('interop: docs/interop.md is not what this run has seen: `make interop ARGS=--write` writes it anew');
  else console.log(`interop: docs/interop.md is what this run has seen: ${run.rows.length} rows`);
  return found.length > 0 ? 1 : 0;
}

process.exitCode = await main(process.argv.slice(2));
