#!/usr/bin/env node
// Builds the package into `dist/`: `index.js` for bundlers, `callplane.js` with all that it needs for a page, types.

import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import * as esbuild from 'esbuild';

const here = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));
/** A bundle with the settings that everything here is built with. @param {esbuild.BuildOptions} options */
export function bundle(options) {
  return esbuild.build({ bundle: true, format: 'esm', target: 'es2022', sourcemap: true, legalComments: 'eof', logLevel: 'warning', ...options });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const entryPoints = [here('src/index.ts')];
  await bundle({ entryPoints, outfile: here('dist/index.js'), packages: 'external' });
  await bundle({ entryPoints, outfile: here('dist/callplane.js'), minify: true });
  execFileSync(process.execPath, [here('node_modules/typescript/bin/tsc'), '-p', here('tsconfig.json')], { stdio: 'inherit' });
}
