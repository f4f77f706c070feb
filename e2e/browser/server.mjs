#!/usr/bin/env node
// A development server for the call page.
//
// It hands a join token for any room to whoever asks, under any name, so it listens on the loopback
// address alone and refuses other sites' pages. It is a tool for developing and for tests, not the way into
// callplane: users come in through the gateway, which knows who they are.

import { rmSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { build } from './build.mjs';
import { startServer } from './lib/dev-server.mjs';
import { DIRECTORY_HELP, DIRECTORY_OPTIONS, openDirectory } from './lib/options.mjs';

const HELP = `Serves the call page to this machine.

usage: node server.mjs [options]
  --port NUMBER           [8090; 0 takes a free one]
  --host ADDRESS          [127.0.0.1] anyone who reaches it can join any room
  --pid-file FILE         written when it listens, removed when it ends
${DIRECTORY_HELP}`;

const { values: options } = parseArgs({
  options: {
    ...DIRECTORY_OPTIONS,
    port: { type: 'string', default: '8090' },
    host: { type: 'string', default: '127.0.0.1' },
    'pid-file': { type: 'string' },
    help: { type: 'boolean', short: 'h' },
  },
});

if (options.help) {
  console.log(HELP);
} else {
  await run().catch((error) => {
    console.error(`error: ${error.message}`);
    process.exitCode = 1;
  });
}

async function run() {
  const dist = await build();
  const directory = await openDirectory(options);
  const server = await startServer({ directory, dist, host: options.host, port: Number(options.port) }).catch(async (error) => {
    await directory.close();
    throw error;
  });
  const pidFile = options['pid-file'];
  if (pidFile) {
    writeFileSync(pidFile, `${process.pid}\n`);
    process.once('exit', () => rmSync(pidFile, { force: true }));
  }
  console.log(`calls on ${directory.describe()}`);
  console.log(`${server.url}/#room=default.demo`);
  for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
    process.once(signal, () => void server.close().then(() => process.exit(0)));
  }
}
