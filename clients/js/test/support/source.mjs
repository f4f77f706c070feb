// The TypeScript sources, for tests in Node.

import { mkdir, writeFile } from 'node:fs/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import * as esbuild from 'esbuild';

const root = fileURLToPath(new URL('../../', import.meta.url));

/**
 * What these modules of `src/` export, together.
 * @param {...string} names
 * @returns {Promise<any>}
 */
export async function source(...names) {
  const contents = names.map((name) => `export * from './src/${name}.ts';`).join('\n');
  const built = await esbuild.build({
    stdin: { contents, resolveDir: root, loader: 'ts' }, bundle: true, format: 'esm', platform: 'node', packages: 'external', write: false,
  });
  const directory = `${root}node_modules/.cache`;
  await mkdir(directory, { recursive: true });
  const file = `${directory}/${names.join('-')}.mjs`;
  await writeFile(file, built.outputFiles[0]?.text ?? '');
  return import(pathToFileURL(file).href);
}
