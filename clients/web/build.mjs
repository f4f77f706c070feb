#!/usr/bin/env node
// Builds the web app into `dist/`: what the gateway serves from its `--web-root`.

import { cp, mkdir, rm } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { bundle } from '../js/build.mjs';

const here = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));

/** @returns {Promise<string>} the directory */
export async function buildApp() {
  const dist = here('dist');
  await rm(dist, { recursive: true, force: true });
  await mkdir(`${dist}/assets`, { recursive: true });
  await bundle({
    entryPoints: [here('src/main.ts')],
    alias: { '@callplane/client': here('../js/src/index.ts') },
    outfile: `${dist}/assets/app.js`,
    minify: true,
    sourcemap: false,
  });
  await cp(here('index.html'), `${dist}/index.html`);
  for (const name of ['style.css', 'icon.svg']) await cp(here(name), `${dist}/assets/${name}`);
  return dist;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.log(await buildApp());
