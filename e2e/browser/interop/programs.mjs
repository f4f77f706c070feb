// The programs that meet in a room: a media node, FFmpeg, aiortc, and browsers without a library.

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { mediaNodeProgram } from '../lib/media-node.mjs';
import { Standalone } from '../lib/standalone.mjs';
import { mintToken, signingKey } from '../lib/token.mjs';

const run = promisify(execFile);
const here = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));
const EPOCH = 1;
const KEPT_LINES = 200;

/** A program whose lines are read. */
export class Program {
  /** @type {string[]} */
  lines = [];

  /** @param {string} command @param {string[]} args */
  constructor(command, args) {
    this.name = [command, ...args.slice(0, 1)].join(' ');
    this.child = spawn(command, args, { stdio: 'pipe' });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      createInterface({ input: stream }).on('line', (line) => {
        this.lines.push(line);
        if (this.lines.length > KEPT_LINES) this.lines.shift();
      });
    }
    this.ended = once(this.child, 'exit');
  }

  /**
   * The first line that `found` makes something of.
   * @template T
   * @param {(line: string) => T | undefined} found
   * @param {number} [timeoutMs]
   * @returns {Promise<T>}
   */
  async until(found, timeoutMs = 60_000) {
    const until = Date.now() + timeoutMs;
    for (;;) {
      for (const line of this.lines) {
        const value = found(line);
        if (value !== undefined) return value;
      }
      if (Date.now() > until || this.child.exitCode !== null) {
        throw new Error(`${this.name} did not say what it was to:\n${this.lines.slice(-40).join('\n')}`);
      }
      await sleep(50);
    }
  }

  /** Ends its input, which ends it. */
  async finish() {
    this.child.stdin.end();
    await this.#end(15_000);
    return this.lines;
  }

  /** @param {number} timeoutMs */
  async #end(timeoutMs) {
    if (this.child.exitCode !== null) return;
    const late = sleep(timeoutMs).then(() => this.child.kill('SIGKILL'));
    await Promise.race([this.ended, late]);
    await this.ended;
  }

  async kill() {
    this.child.kill('SIGTERM');
    await this.#end(3000);
  }
}

/** A media node without Kubernetes. */
export class Node {
  /** @param {Program} program @param {string} api @param {string} directory @param {import('../lib/token.mjs').SigningKey} key */
  constructor(program, api, directory, key) {
    this.program = program;
    this.api = api;
    this.directory = directory;
    this.key = key;
    this.calls = new Standalone(api, key);
  }

  static async start() {
    const binary = mediaNodeProgram();
    if (!binary) throw new Error('no media node has been built: cargo build -p callplane-media-node');
    const directory = await mkdtemp(join(tmpdir(), 'callplane-interop-'));
    await run(binary, ['keygen', '--out', directory]);
    const key = signingKey(await readFile(join(directory, 'signing.pem')));
    const program = new Program(binary, [
      '--standalone', '--public-keys', join(directory, 'jwks.json'), '--cors-origin', '*', '--log-format', 'text',
      '--api-listen', '127.0.0.1:0', '--admin-listen', '127.0.0.1:0', '--rtc-listen', '0.0.0.0:0', '--workers', '1',
      '--ice-server', 'stun:stun.invalid:3478',
    ]);
    const api = await program.until((line) => /ready.* api=(\S+)/.exec(line.replace(/\x1b\[[0-9;]*m/g, ''))?.[1]);
    return new Node(program, `http://${api}`, directory, key);
  }

  /** @param {string} room @param {string} user */
  token(room, user) {
    return mintToken(this.key, { callId: room, user, epoch: EPOCH }, Date.now()).token;
  }

  /** @param {string} room */
  async create(room) {
    await this.calls.serving(room);
  }

  async stop() {
    await this.program.kill();
    await rm(this.directory, { recursive: true, force: true });
  }
}

/** @type {Promise<string> | undefined} */
let installed;

/** The interpreter that has the packages of `python/requirements.txt`. @returns {Promise<string>} */
export function python() {
  installed ??= run(here('python/install.sh')).then(({ stdout }) => stdout.trim());
  return installed;
}

/** @param {string} name @param {string[]} args */
async function pythonProgram(name, args) {
  return new Program(await python(), [here(`python/${name}`), ...args]);
}

/** @param {Node} node @param {string} room @param {string} user @param {string[]} flags */
export async function ffmpegPublishes(node, room, user, ...flags) {
  const program = await pythonProgram('ffmpeg_whip.py', [`${node.api}/whip/${room}`, node.token(room, user), ...flags]);
  await program.until((line) => (line === 'publishing' ? true : undefined));
  return program;
}

/** @param {Node} node @param {string} room @param {string} user */
export async function aiortcPublishes(node, room, user) {
  const program = await pythonProgram('aiortc_whip.py', [`${node.api}/whip/${room}`, node.token(room, user)]);
  await program.until((line) => (line === 'publishing' ? true : undefined));
  return program;
}

/** @param {Node} node @param {string} room @param {string} user @param {string} [query] */
export function aiortcPlays(node, room, user, query = '') {
  return pythonProgram('aiortc_whep.py', [`${node.api}/whep/${room}${query}`, node.token(room, user)]);
}

/** What an aiortc player has by now. @param {Program} player @returns {any} */
export function played(player) {
  return player.lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line)).at(-1);
}

/**
 * A server of one empty page: browsers let no page of elsewhere talk to this machine.
 * @returns {Promise<{url: string, close(): Promise<void>}>}
 */
export async function serveEmptyPage() {
  const server = createServer((_, answer) => {
    answer.setHeader('content-type', 'text/html');
    answer.end('<!doctype html><link rel="icon" href="data:,"><body>');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
  return {
    url: `http://127.0.0.1:${port}/`,
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** A page in a context of its own. @param {import('playwright-core').Browser} browser @param {string} url */
export async function openPage(browser, url) {
  const page = await (await browser.newContext()).newPage();
  await page.goto(url);
  return page;
}

/**
 * A page publishes its camera with nothing but RTCPeerConnection and fetch. With `rids`, by simulcast: the last one in
 * full size, each one before at half of the next.
 * @param {import('playwright-core').Page} page @param {Node} node @param {string} room @param {string} user
 * @param {string[]} [rids]
 * @param {string} [audio] media type of the codec that it prefers for its sound; the browser knows one by itself
 * @returns {Promise<{status: number, location: string | null, etag: string | null, link: string | null}>}
 */
export function pagePublishes(page, node, room, user, rids = [], audio) {
  return page.evaluate(async ({ url, token, rids, audio }) => {
    const size = rids.length > 0 ? { width: 640, height: 360 } : { width: 320, height: 180 };
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true, video: size });
    const connection = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
    const encodings = rids.map((rid, at) => ({ rid, scaleResolutionDownBy: 2 ** (rids.length - 1 - at) }));
    for (const track of stream.getTracks()) {
      const sendEncodings = track.kind === 'video' ? encodings : [];
      const transceiver = connection.addTransceiver(track, { direction: 'sendonly', streams: [stream], sendEncodings });
      if (!audio || track.kind !== 'audio') continue;
      const codecs = RTCRtpSender.getCapabilities('audio')?.codecs ?? [];
      const isFirst = (/** @type {RTCRtpCodec} */ { mimeType }) => Number(mimeType.toLowerCase() === audio);
      transceiver.setCodecPreferences([...codecs].sort((a, b) => isFirst(b) - isFirst(a)));
    }
    await connection.setLocalDescription();
    const answer = await fetch(url, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/sdp' },
      body: connection.localDescription?.sdp,
    });
    const sdp = await answer.text();
    if (answer.status !== 201) throw new Error(`${answer.status} ${sdp}`);
    await connection.setRemoteDescription({ type: 'answer', sdp });
    const [location, etag, link] = ['location', 'etag', 'link'].map((name) => answer.headers.get(name));
    Object.assign(window, { session: { connection, url: new URL(location ?? '', url).href, token, etag } });
    return { status: answer.status, location: location ?? null, etag: etag ?? null, link: link ?? null };
  }, { url: `${node.api}/whip/${room}`, token: node.token(room, user), rids, audio });
}

/**
 * A page plays with nothing but RTCPeerConnection and fetch.
 * @param {import('playwright-core').Page} page @param {Node} node @param {string} room @param {string} user @param {string} [query]
 */
export function pagePlays(page, node, room, user, query = '') {
  return page.evaluate(async ({ url, token }) => {
    const connection = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
    const video = document.createElement('video');
    Object.assign(video, { autoplay: true, muted: true, srcObject: new MediaStream() });
    document.body.append(video);
    connection.ontrack = ({ track }) => /** @type {MediaStream} */ (video.srcObject).addTrack(track);
    for (const kind of ['video', 'audio']) connection.addTransceiver(kind, { direction: 'recvonly' });
    await connection.setLocalDescription();
    const answer = await fetch(url, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/sdp' },
      body: connection.localDescription?.sdp,
    });
    const sdp = await answer.text();
    if (answer.status !== 201) throw new Error(`${answer.status} ${sdp}`);
    await connection.setRemoteDescription({ type: 'answer', sdp });
    const etag = answer.headers.get('etag');
    Object.assign(window, { session: { connection, url: new URL(answer.headers.get('location') ?? '', url).href, token, etag } });
  }, { url: `${node.api}/whep/${room}${query}`, token: node.token(room, user) });
}

/**
 * What a page's connection has received.
 * @param {import('playwright-core').Page} page
 * @returns {Promise<{state: string, frames: number, width: number, codec: string, ssrc: number, samples: number, copies: number, lost: number, freezes: number, pair: string}>}
 */
export function received(page) {
  return page.evaluate(async () => {
    const { connection } = /** @type {any} */ (window).session;
    /** @type {any[]} */
    const report = [...(await connection.getStats()).values()];
    const of = (/** @type {string} */ kind) => report.find((stat) => stat.type === 'inbound-rtp' && stat.kind === kind) ?? {};
    const [video, audio] = [of('video'), of('audio')];
    return {
      state: connection.connectionState,
      frames: video.framesDecoded ?? 0,
      width: video.frameWidth ?? 0,
      codec: report.find(({ id }) => id === video.codecId)?.mimeType ?? '',
      ssrc: video.ssrc ?? 0,
      samples: (audio.totalSamplesReceived ?? 0) - (audio.concealedSamples ?? 0),
      // A copy of what it has counts as discarded.
      copies: audio.packetsDiscarded ?? 0,
      lost: (video.packetsLost ?? 0) + (audio.packetsLost ?? 0),
      freezes: video.freezeCount ?? 0,
      pair: report.find((stat) => stat.type === 'transport')?.selectedCandidatePairId ?? '',
    };
  });
}

/**
 * Restarts ICE by PATCH, as RFC 9725 §4.3.3 has it: a new offer's credentials go up in a fragment, and the node's
 * come back in one, which takes the place of those in the answer.
 * @param {import('playwright-core').Page} page
 * @returns {Promise<{status: number, etag: string | null, pair: string}>}
 */
export function restartIce(page) {
  return page.evaluate(async () => {
    const { session } = /** @type {any} */ (window);
    const { connection, url, token } = session;
    const answer = connection.remoteDescription.sdp;
    connection.restartIce();
    await connection.setLocalDescription();
    const line = (/** @type {string} */ sdp, /** @type {string} */ key) => new RegExp(`^a=${key}:(.*)$`, 'm').exec(sdp)?.[1]?.trim() ?? '';
    const offer = connection.localDescription.sdp;
    const response = await fetch(url, {
      method: 'PATCH',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/trickle-ice-sdpfrag', 'if-match': '*' },
      body: `a=ice-ufrag:${line(offer, 'ice-ufrag')}\r\na=ice-pwd:${line(offer, 'ice-pwd')}\r\n`,
    });
    const fragment = await response.text();
    if (response.status !== 200) throw new Error(`${response.status} ${fragment}`);
    const sdp = answer
      .replaceAll(/^a=ice-ufrag:.*$/gm, `a=ice-ufrag:${line(fragment, 'ice-ufrag')}`)
      .replaceAll(/^a=ice-pwd:.*$/gm, `a=ice-pwd:${line(fragment, 'ice-pwd')}`);
    await connection.setRemoteDescription({ type: 'answer', sdp });
    session.etag = response.headers.get('etag');
    return { status: response.status, etag: session.etag, pair: line(fragment, 'ice-ufrag') };
  });
}

/** Ends a page's session. @param {import('playwright-core').Page} page @returns {Promise<number>} */
export function endSession(page) {
  return page.evaluate(async () => {
    const { connection, url, token } = /** @type {any} */ (window).session;
    const answer = await fetch(url, { method: 'DELETE', headers: { authorization: `Bearer ${token}` } });
    connection.close();
    return answer.status;
  });
}

/**
 * Asks until the answer will do; throws with the last one when that takes too long.
 * @template T
 * @param {string} what
 * @param {() => T | Promise<T>} ask
 * @param {(answer: T) => boolean} isGood
 * @returns {Promise<T>}
 */
export async function eventually(what, ask, isGood, timeoutMs = 40_000) {
  const until = Date.now() + timeoutMs;
  for (;;) {
    const answer = await ask();
    if (isGood(answer)) return answer;
    if (Date.now() > until) throw new Error(`not within ${timeoutMs / 1000} s: ${what}: ${JSON.stringify(answer)}`);
    await sleep(250);
  }
}
