// What a page is given before anything else of it runs, so that it reaches nobody but through a TURN server, and so that
// somebody can ask how that goes. The page's own code is not touched: it does not know.

/** @typedef {'udp' | 'tcp' | 'tls'} Way  How the page talks to the TURN server. */
/** @typedef {import('./verdict.mjs').PageStats & {paths: string[]}} RelayedStats */

/** Runs in the page, so it refers to nothing outside of itself. @param {{way: Way, user: string, server?: string}} options */
export function relayOnly({ way, user, server }) {
  /** @type {Record<Way, RegExp>} */
  const urls = { udp: /^turn:.*transport=udp$/, tcp: /^turn:.*transport=tcp$/, tls: /^turns:/ };
  /** @type {RTCPeerConnection[]} */
  const connections = [];
  /** @type {Map<string, {last: number, longest: number, frames: number, shown: number, video?: HTMLVideoElement}>} by participant */
  const seen = new Map();
  /** @type {WeakSet<HTMLVideoElement>} */
  const watched = new WeakSet();
  /** @type {Map<string, {at: number, frames: number}>} */
  const before = new Map();
  const Plain = window.RTCPeerConnection;

  /** @param {RTCConfiguration} configuration @returns {RTCConfiguration} */
  function relayed(configuration) {
    const told = configuration.iceServers ?? [];
    const all = told.map((one) => ({ ...one, urls: [one.urls].flat().filter((url) => urls[way].test(url)) }));
    // A server that the gateway does not tell of is asked with the credentials that it gave.
    const iceServers = server && told[0] ? [{ ...told[0], urls: [server] }] : all.filter((one) => one.urls.length > 0);
    return { ...configuration, iceServers, iceTransportPolicy: 'relay' };
  }

  window.RTCPeerConnection = class extends Plain {
    /** @param {RTCConfiguration} [configuration] */
    constructor(configuration = {}) {
      super(relayed(configuration));
      this.addEventListener('icecandidateerror', (event) => {
        const { errorCode, errorText, url } = /** @type {RTCPeerConnectionIceErrorEvent} */ (event);
        console.error(`${url}: ${errorCode} ${errorText}`);
      });
      connections.push(this);
    }

    /** @param {RTCConfiguration} configuration */
    setConfiguration(configuration) {
      super.setConfiguration(relayed(configuration));
    }
  };

  /** Pictures as they come on the screen. @param {HTMLVideoElement} video @param {string} of */
  function watch(video, of) {
    watched.add(video);
    /** @param {number} _now @param {VideoFrameCallbackMetadata} metadata */
    const picture = (_now, { presentationTime, presentedFrames }) => {
      if (!video.isConnected) return;
      video.requestVideoFrameCallback(picture);
      const clock = seen.get(of) ?? { last: 0, longest: 0, frames: 0, shown: 0 };
      // A busy page does not hear of every picture, but hears how many there were.
      const count = clock.video === video ? Math.max(1, presentedFrames - clock.shown) : 1;
      if (clock.last > 0) clock.longest = Math.max(clock.longest, (presentationTime - clock.last) / count);
      seen.set(of, { ...clock, last: presentationTime, frames: clock.frames + count, shown: presentedFrames, video });
    };
    video.requestVideoFrameCallback(picture);
  }

  setInterval(() => {
    for (const tile of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll('.tile:not(.self)'))) {
      for (const video of tile.querySelectorAll('video')) if (!watched.has(video)) watch(video, tile.dataset.user ?? '');
    }
  }, 100);

  /** @returns {Promise<RelayedStats>} */
  async function stats() {
    const now = performance.now();
    /** @type {string[]} */
    const paths = [];
    /** @type {any[]} */
    const received = [];
    for (const connection of connections) {
      if (connection.connectionState === 'closed') continue;
      const report = await connection.getStats();
      for (const stat of report.values()) {
        if (stat.type === 'inbound-rtp' && stat.packetsReceived > 0) received.push(stat);
        if (stat.type !== 'transport') continue;
        const local = report.get(report.get(stat.selectedCandidatePairId)?.localCandidateId);
        if (local) paths.push([local.candidateType, local.relayProtocol].filter(Boolean).join(' by '));
      }
    }
    const remotes = Object.fromEntries([...seen].map(([of, clock]) => {
      const track = /** @type {MediaStream | null | undefined} */ (clock.video?.srcObject)?.getVideoTracks()[0]?.id;
      const video = received.find(({ kind, trackIdentifier }) => kind === 'video' && trackIdentifier === track);
      const last = before.get(of);
      const fps = last ? (1000 * (clock.frames - last.frames)) / Math.max(1, now - last.at) : 0;
      before.set(of, { at: now, frames: clock.frames });
      const longestGapMs = Math.max(clock.longest, now - clock.last);
      clock.longest = 0;
      // Who is heard cannot be told from whom: all of it.
      const audio = received.filter(({ kind }) => kind === 'audio');
      const realSamples = audio.reduce((sum, one) => sum + (one.totalSamplesReceived ?? 0) - (one.concealedSamples ?? 0), 0);
      return [of, {
        name: of, longestGapMs, framesPresented: clock.frames,
        video: { fps, framesDecoded: video?.framesDecoded ?? 0, packetsReceived: video?.packetsReceived ?? 0 },
        audio: { level: Math.max(0, ...audio.map(({ audioLevel }) => audioLevel ?? 0)), realSamples },
      }];
    }));
    const state = document.querySelector('#mode')?.textContent ?? '';
    // @ts-expect-error What nobody asks of these pages is not counted.
    return { at: Date.now(), state, detail: '', user, rejoins: connections.length, remotes, events: [], paths };
  }

  Object.assign(window, { relayed: { stats } });
}
