#!/usr/bin/env node
// Bundles the page into `dist/`.

import { cp, mkdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import * as esbuild from 'esbuild';

const here = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));

/** @returns {Promise<string>} where the page is */
export async function build() {
  const dist = here('dist');
  await mkdir(dist, { recursive: true });
  await esbuild.build({
    entryPoints: { page: here('page/src/main.js') },
    outdir: dist,
    bundle: true,
    format: 'esm',
    target: 'chrome120',
    minify: true,
    sourcemap: true,
    legalComments: 'eof',
    logLevel: 'warning',
  });
  for (const name of ['index.html', 'style.css', 'icon.svg', 'muted.svg']) await cp(here(`page/${name}`), `${dist}/${name}`);
  return dist;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.log(await build());
