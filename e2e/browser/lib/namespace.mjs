// A network of its own for a browser, with one cable to this machine (Linux, root): whatever addresses a test gives to
// it are all that the browser has.

import { execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, readlink, rm, writeFile } from 'node:fs/promises';
import { createServer, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);
const READY_MS = 20_000;
const POLL_MS = 20;

/** Why there can be none here, if so. @returns {string | undefined} */
export function namespaceMissing() {
  if (process.getuid?.() !== 0) return 'only root may make networks';
  try {
    execFileSync('unshare', ['--net', 'ip', '-6', 'address', 'add', '::2/128', 'dev', 'lo'], { stdio: 'pipe' });
    return undefined;
  } catch (error) {
    return `this machine makes no networks with IPv6: ${/** @type {any} */ (error).stderr ?? error}`;
  }
}

export class Namespace {
  /** @type {import('node:net').Server[]} */
  #doors = [];

  /** @param {import('node:child_process').ChildProcess} holder @param {string} cable its end on this machine @param {string} directory */
  constructor(holder, cable, directory) {
    this.holder = holder;
    this.cable = cable;
    this.directory = directory;
  }

  /** @param {string} own address of this machine's end, with its prefix length */
  static async make(own) {
    // It holds the network for as long as its input is open, which is no longer than the test runs.
    const holder = spawn('unshare', ['--net', 'cat'], { stdio: ['pipe', 'ignore', 'ignore'] });
    const cable = `cp${process.pid}`.slice(0, 15);
    const namespace = new Namespace(holder, cable, await mkdtemp(join(tmpdir(), 'callplane-network-')));
    try {
      const ours = await readlink('/proc/self/ns/net');
      const late = Date.now() + READY_MS;
      while ((await readlink(`/proc/${holder.pid}/ns/net`).catch(() => ours)) === ours) {
        if (Date.now() > late || holder.exitCode !== null) throw new Error('no network was made');
        await sleep(POLL_MS);
      }
      await run('ip', ['link', 'add', cable, 'type', 'veth', 'peer', 'name', 'cable', 'netns', String(holder.pid)]);
      await run('ip', ['address', 'add', own, 'dev', cable, 'nodad']);
      await run('ip', ['link', 'set', cable, 'up']);
      await namespace.ip('link', 'set', 'lo', 'up');
      await namespace.ip('link', 'set', 'cable', 'up');
    } catch (error) {
      await namespace.remove();
      throw error;
    }
    return namespace;
  }

  /** `ip` inside of it. @param {...string} args */
  async ip(...args) {
    return (await run('nsenter', [`--net=/proc/${this.holder.pid}/ns/net`, 'ip', ...args])).stdout;
  }

  /** A program that starts this one inside of it. @param {string} program @returns {Promise<string>} */
  async wrapper(program) {
    const path = join(this.directory, 'run');
    await writeFile(path, `#!/bin/sh\nexec nsenter --net=/proc/${this.holder.pid}/ns/net '${program}' "$@"\n`);
    await chmod(path, 0o700);
    return path;
  }

  /** A port of this machine's end that leads to one of its loopback. @param {string} host @param {number} target @returns {Promise<number>} */
  async door(host, target) {
    const door = createServer((outer) => {
      const inner = connect(target, '127.0.0.1');
      for (const [one, other] of [[outer, inner], [inner, outer]]) {
        one?.on('error', () => other?.destroy());
        if (other) one?.pipe(other);
      }
    });
    this.#doors.push(door);
    door.listen(0, host);
    await once(door, 'listening');
    return /** @type {import('node:net').AddressInfo} */ (door.address()).port;
  }

  async remove() {
    for (const door of this.#doors) door.close();
    // The cable goes with its other end, which the kernel takes its time for.
    await run('ip', ['link', 'delete', this.cable]).catch(() => {});
    if (this.holder.exitCode === null) {
      this.holder.kill('SIGKILL');
      await once(this.holder, 'exit');
    }
    await rm(this.directory, { recursive: true, force: true });
  }
}
