// libdatachannel's tests, in a process of their own: its threads bring it down now and then while it ends, after everything
// was tried and told. So what counts is what each test came to.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const TESTS = 2;
/** How it ends. */
const ENDS = [null, 'SIGABRT', 'SIGSEGV'];

test('libdatachannel, in a process of its own', { timeout: 300_000 }, async (t) => {
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const child = spawn(process.execPath, ['--test-reporter=tap', fileURLToPath(new URL('libdatachannel.mjs', import.meta.url))], {
    env, stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text) => (said += text));
  const [code, signal] = await once(child, 'close');
  const results = [...said.matchAll(/^(ok|not ok) \d+ - (.*)$/gm)].map(([, result, name]) => `${result}: ${name}`);
  for (const result of results) t.diagnostic(result);
  const isWhole = results.length === TESTS && results.every((result) => result.startsWith('ok: '));
  assert.ok(isWhole && !code && ENDS.includes(signal), `it ended with ${signal ?? code}, and said:\n${said}`);
  if (signal) t.diagnostic(`ended with ${signal}, after its tests`);
});
