// Whether a call was good: pure functions from what the pages said to a table and a list of failures.

/**
 * @typedef {{
 *   name: string, firstFrameMs?: number, longestGapMs?: number, framesPresented: number,
 *   video: {codec?: string, width: number, height: number, fps: number, framesDecoded: number, freezeCount: number,
 *           freezeSeconds: number, packetsReceived: number, packetsLost: number},
 *   audio: {codec?: string, level: number, realSamples: number, concealedSamples: number, packetsReceived: number, packetsLost: number},
 * }} RemoteStats  What one page measured of one other participant.
 * @typedef {{at: number, type: string, detail?: any, epoch?: number}} PageEvent
 * @typedef {{
 *   at: number, state: string, detail: string, user: string, epoch?: number, rejoins: number,
 *   send?: any, recv?: any, remotes: Record<string, RemoteStats>, events: PageEvent[],
 * }} PageStats
 * @typedef {{minFps: number, maxFirstFrameMs: number}} Criteria
 * @typedef {{
 *   viewer: string, remote: string, frames: number, fps: number, width: number, height: number, codec?: string,
 *   level: number, realSamples: number, firstFrameMs?: number, longestGapMs: number, freezes: number, lost: number,
 *   videoPackets: number, audioPackets: number,
 * }} Row  What a viewer had of another participant over the whole run.
 */

/** @type {Criteria} */
export const DEFAULT_CRITERIA = { minFps: 24, maxFirstFrameMs: 15_000 };

/** Something is seen and heard of everyone. @param {PageStats} page @param {string[]} others */
export function receivesAll(page, others) {
  return others.every((id) => {
    const remote = page.remotes[id];
    return remote !== undefined && remote.video.framesDecoded > 0 && remote.audio.realSamples > 0;
  });
}

/** What is missing, for a person to read. @param {PageStats} page @param {string[]} others */
export function missing(page, others) {
  const wants = others.flatMap((id) => {
    const remote = page.remotes[id];
    if (!remote) return [`does not know of ${id}`];
    return [
      ...(remote.video.framesDecoded > 0 ? [] : [`decoded no picture of ${id} (${remote.video.packetsReceived} packets came)`]),
      ...(remote.audio.realSamples > 0 ? [] : [`heard nothing of ${id} (${remote.audio.packetsReceived} packets came)`]),
    ];
  });
  const connection = (/** @type {any} */ c) => (c ? `ICE ${c.iceState}, DTLS ${c.dtlsState}` : 'not made');
  return `${page.user} is ${page.state}${page.detail ? ` ("${page.detail}")` : ''}: ${wants.join('; ') || 'nothing is missing'}`
    + ` [sending connection: ${connection(page.send)}; receiving: ${connection(page.recv)}]`;
}

/**
 * @param {PageStats[][]} samples one array of pages' statistics per second, oldest first
 * @returns {Row[]}
 */
export function summarize(samples) {
  const [first, last] = [samples[0] ?? [], samples.at(-1) ?? []];
  return last.flatMap((page) => Object.entries(page.remotes).map(([id, end]) => {
    const began = first.find(({ user }) => user === page.user);
    const begin = began?.remotes[id];
    const all = samples.map((pages) => pages.find(({ user }) => user === page.user)?.remotes[id]).filter((r) => r !== undefined);
    const seconds = (page.at - (began?.at ?? page.at)) / 1000;
    const frames = end.video.framesDecoded - (begin?.video.framesDecoded ?? 0);
    return {
      viewer: page.user,
      remote: id,
      frames: end.video.framesDecoded,
      fps: seconds > 0 ? Math.round((frames / seconds) * 10) / 10 : 0,
      width: end.video.width,
      height: end.video.height,
      codec: [end.video.codec, end.audio.codec].map((codec) => codec?.split('/')[1]).filter(Boolean).join(' + '),
      level: Math.max(0, ...all.map(({ audio }) => audio.level)),
      realSamples: end.audio.realSamples,
      firstFrameMs: end.firstFrameMs,
      // The first sample's gap reaches back before the run.
      longestGapMs: Math.max(0, ...all.slice(1).map(({ longestGapMs }) => longestGapMs ?? 0)),
      freezes: end.video.freezeCount,
      lost: end.video.packetsLost + end.audio.packetsLost,
      videoPackets: end.video.packetsReceived,
      audioPackets: end.audio.packetsReceived,
    };
  }));
}

/**
 * @param {Row[]} rows
 * @param {string[]} users everyone in the call
 * @param {Criteria} criteria
 * @returns {string[]} what was not good enough; empty when all was
 */
export function failures(rows, users, { minFps, maxFirstFrameMs }) {
  return users.flatMap((viewer) => users.filter((remote) => remote !== viewer).flatMap((remote) => {
    const row = rows.find((one) => one.viewer === viewer && one.remote === remote);
    if (!row) return [`${viewer} does not have ${remote} in the call`];
    const seen = `${viewer} sees ${remote}`;
    return [
      ...(row.frames > 0 ? [] : [`${viewer} decoded no picture of ${remote}`]),
      ...(row.fps >= minFps ? [] : [`${seen} at ${row.fps} frames/s, less than ${minFps}`]),
      ...(row.level > 0 ? [] : [`${viewer} hears nothing of ${remote}`]),
      ...(row.firstFrameMs !== undefined && row.firstFrameMs <= maxFirstFrameMs ? []
        : [`${seen} ${row.firstFrameMs ?? 'never'} ms after joining, later than ${maxFirstFrameMs} ms`]),
    ];
  }));
}

/** @param {Row[]} rows */
export function table(rows) {
  const cells = rows.map((row) => [
    row.viewer, row.remote, String(row.frames), `${row.width}x${row.height}`, row.fps.toFixed(1), row.codec ?? '',
    row.level > 0 ? `${(20 * Math.log10(row.level)).toFixed(0)} dB` : 'silent',
    row.firstFrameMs === undefined ? 'never' : `${row.firstFrameMs} ms`,
    `${row.longestGapMs} ms`, String(row.freezes), String(row.lost),
  ]);
  const head = ['viewer', 'sees', 'frames', 'size', 'fps', 'codecs', 'sound', 'first frame', 'longest gap', 'freezes', 'lost'];
  const widths = head.map((title, at) => Math.max(title.length, ...cells.map((row) => row[at]?.length ?? 0)));
  const numeric = new Set([2, 3, 4, 6, 7, 8, 9, 10]);
  const line = (/** @type {string[]} */ row) => row.map((cell, at) => {
    const width = widths[at] ?? 0;
    return numeric.has(at) ? cell.padStart(width) : cell.padEnd(width);
  }).join('  ').trimEnd();
  return [line(head), line(widths.map((width) => '-'.repeat(width))), ...cells.map(line)].join('\n');
}
