// A media node of one's own, without Kubernetes, for as long as a test needs it.

import { execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { Standalone } from './standalone.mjs';
import { signingKey } from './token.mjs';

const READY_MS = 20_000;
/** How much of what it says is kept for when it fails. */
const LINES = 30;

/** Where the program is, if it has been built. @returns {string | undefined} */
export function mediaNodeProgram() {
  const built = join(process.env.CARGO_TARGET_DIR ?? '../../target', 'debug', 'callplane-media-node');
  return [process.env.CALLPLANE_MEDIA_NODE, built].find((path) => path !== undefined && existsSync(path));
}

/** An address of this machine: browsers want a real one once it has several. */
export function address() {
  const all = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  return all.find(({ family, internal }) => family === 'IPv4' && !internal)?.address ?? '127.0.0.1';
}

/**
 * @param {string} program
 * @param {...string} options more of its command line
 */
export const startMediaNode = (program, ...options) => startMediaNodeAt(program, address(), ...options);

/**
 * @param {string} program
 * @param {string} media the address that it has media at
 * @param {...string} options more of its command line
 * @returns {Promise<{directory: Standalone, stop(): Promise<void>}>}
 */
export async function startMediaNodeAt(program, media, ...options) {
  const keys = await mkdtemp(join(tmpdir(), 'callplane-node-'));
  await promisify(execFile)(program, ['keygen', '--out', keys]);
  const child = spawn(program, [
    '--standalone', '--api-listen', '127.0.0.1:0', '--admin-listen', '127.0.0.1:0',
    '--rtc-listen', `${media.includes(':') ? `[${media}]` : media}:0`, '--announce', media, '--workers', '1', '--public-keys', join(keys, 'jwks.json'), ...options,
  ], { stdio: ['ignore', 'ignore', 'pipe'] });
  /** @type {string[]} */
  const said = [];
  const api = await new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`the media node is not ready: ${said.join('\n')}`)), READY_MS);
    child.once('exit', () => reject(new Error(`the media node has ended: ${said.join('\n')}`)));
    createInterface(child.stderr).on('line', (line) => {
      said.push(line);
      if (said.length > LINES) said.shift();
      const fields = JSON.parse(line).fields;
      if (fields?.message !== 'ready') return;
      clearTimeout(timer);
      resolve(`http://${fields.api}`);
    });
  }).catch((error) => {
    child.kill('SIGKILL');
    throw error;
  });
  return {
    directory: new Standalone(api, signingKey(await readFile(join(keys, 'signing.pem'), 'utf8'))),
    async stop() {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      // It waits for calls to end; the test has none left.
      child.kill('SIGKILL');
      await ended;
      await rm(keys, { recursive: true });
    },
  };
}
