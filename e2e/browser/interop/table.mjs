// docs/interop.md, made of what the tests have seen. Pure: reads and writes nothing.

/** @typedef {import('./record.mjs').Entry} Entry */
/** @typedef {import('./record.mjs').Row} Row */
/**
 * @typedef {{node: Record<string, string>, python: Record<string, string>, rust: Record<string, string>}} Pins  Versions by package.
 * @typedef {{rows: (Row & {file: string, at: number})[], skipped: import('./record.mjs').Skip[], versions: Map<string, string>}} Run
 */

export const CHROMIUM = 'Chromium with mediasoup-client';
export const PAGE = 'Chromium with RTCPeerConnection alone';
export const FFMPEG = 'FFmpeg';
export const AIORTC = 'aiortc';
export const AIORTC_CLIENT = 'mediasoup-client-aiortc';
export const LIBDATACHANNEL = 'libdatachannel';
export const WERIFT = 'werift';
export const WEBRTC_RS = 'webrtc-rs';

/**
 * In the order of the document. `made` names the program with its version.
 * @type {{client: string, made: (pins: Pins, versions: Map<string, string>) => string}[]}
 */
const CLIENTS = [
  { client: CHROMIUM, made: ({ node }, versions) => `Chromium ${versions.get('Chromium')}, mediasoup-client ${node['mediasoup-client']}` },
  { client: PAGE, made: (_, versions) => `Chromium ${versions.get('Chromium')}, no library` },
  { client: FFMPEG, made: ({ python }) => `the FFmpeg in PyAV ${python.av}` },
  { client: AIORTC, made: ({ python }) => `aiortc ${python.aiortc}` },
  {
    client: AIORTC_CLIENT,
    made: ({ node, python }) => `mediasoup-client-aiortc ${node['mediasoup-client-aiortc']} on aiortc ${python.aiortc}`,
  },
  { client: LIBDATACHANNEL, made: ({ node }) => `the libdatachannel in node-datachannel ${node['node-datachannel']}` },
  { client: WERIFT, made: ({ node }) => `werift ${node.werift}` },
  { client: WEBRTC_RS, made: ({ rust }) => `the crate webrtc ${rust.webrtc}` },
];

/** What begins a time that another run may find otherwise. */
const WHEN_WRITTEN = ' (when this was written: ';

const HEAD = `# Interoperability

Written by \`make interop\`, which puts each of these programs in a room with others on a media node, and fails when this page says
something else than it has seen; \`make interop ARGS=--write\` writes it anew. Each line is what a test asserts: the figures that
vary are in the test's output, and a time in a line is that of the run that wrote it. Everything is real: programs, media node,
sockets, DTLS, SRTP. The sources are in [e2e/browser/interop](../e2e/browser/interop).
`;

/** @param {string} text one JSON object a line @returns {Run} */
export function readRun(text) {
  const entries = text.split('\n').filter(Boolean).map((line) => /** @type {any} */ (JSON.parse(line)));
  entries.sort((a, b) => a.file.localeCompare(b.file, 'en') || a.at - b.at);
  return {
    rows: entries.filter((entry) => 'seen' in entry),
    skipped: entries.filter((entry) => 'why' in entry),
    versions: new Map(entries.filter((entry) => 'version' in entry).map((entry) => [entry.program, entry.version])),
  };
}

/** @param {Run} run @param {Pins} pins */
export function render({ rows, versions }, pins) {
  const unknown = rows.find(({ client }) => !CLIENTS.some((one) => one.client === client));
  if (unknown) throw new Error(`table.mjs does not know the client ${unknown.client}`);
  const parts = CLIENTS.flatMap(({ client, made }) => {
    const own = rows.filter((row) => row.client === client);
    if (own.length === 0) return [];
    const lines = own.map(({ what, seen, took }) => `| ${cell(what)} | ${cell(seen)}${took ? `${WHEN_WRITTEN}${cell(took)})` : ''} |`);
    return [`\n## ${client}\n\n${sentence(made(pins, versions))}\n\n| what | what it showed |\n|---|---|\n${lines.join('\n')}\n`];
  });
  return HEAD + parts.join('');
}

/**
 * What the page says and the run did not show, or the other way round; nothing when they agree. Versions of what the
 * machine has are not compared, nor how long something took: they change without us.
 * @param {string} page @param {Run} run @param {Pins} pins
 * @returns {string[]}
 */
export function differences(page, run, pins) {
  const said = rowsOf(withoutTimes(page));
  const seen = new Map(run.rows.map(({ client, what, seen: text }) => [key(client, what), text]));
  const skipped = new Set(run.skipped.map(({ client, what }) => key(client, what)));
  const found = [];
  for (const [name, text] of seen) {
    const before = said.get(name);
    if (before === undefined) found.push(`not on the page: ${name}: ${text}`);
    else if (before !== cell(text)) found.push(`${name}: the page says «${before}», the run showed «${text}»`);
  }
  for (const name of said.keys()) {
    if (!seen.has(name) && !skipped.has(name)) found.push(`on the page, and not shown: ${name}`);
  }
  if (found.length === 0 && skipped.size === 0 && comparable(page) !== comparable(render(run, pins))) {
    found.push('the rows agree, and the rest of the page does not');
  }
  return found;
}

/** @param {string} page @returns {Map<string, string>} what was seen, by client and feature */
function rowsOf(page) {
  const rows = new Map();
  let client = '';
  for (const line of page.split('\n')) {
    const heading = /^## (.*)$/.exec(line);
    if (heading) client = heading[1] ?? '';
    const row = /^\| (.*?) \| (.*) \|$/.exec(line);
    if (row && row[1] !== 'what') rows.set(key(client, row[1] ?? ''), row[2] ?? '');
  }
  return rows;
}

const key = (/** @type {string} */ client, /** @type {string} */ what) => `${client}: ${cell(what)}`;
const cell = (/** @type {string} */ text) => text.replaceAll('|', '/').replaceAll('\n', ' ');
const sentence = (/** @type {string} */ text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
const withoutTimes = (/** @type {string} */ page) => page.replaceAll(/ \(when this was written: [^()]*\)/g, '');
const comparable = (/** @type {string} */ page) => withoutTimes(page).replaceAll(/Chromium \d[\d.]*\d/g, 'Chromium');
