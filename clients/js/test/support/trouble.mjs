// Networks that let some connections through and not others, or lose packets on the way, for pages that do not know.

import { createSocket } from 'node:dgram';

/** @typedef {import('playwright-core').BrowserContext} Context */

const LOOPBACK = '127.0.0.1';
/** Every so manieth packet of media is lost. */
const LOST = 4;

/** Connections to peers, or to media nodes, find no way. @param {'P2P' | 'SFU'} mode @returns {(context: Context) => Promise<unknown>} */
export const noWay = (mode) => (context) => context.addInitScript(blockConnections, mode);

/** Runs in the page, so it refers to nothing outside of itself. @param {'P2P' | 'SFU'} mode */
function blockConnections(mode) {
  const Plain = window.RTCPeerConnection;
  /** mediasoup-client says this of its connections, and a peer's does not. @param {RTCConfiguration} configuration */
  const modeOf = ({ rtcpMuxPolicy }) => (rtcpMuxPolicy === 'require' ? 'SFU' : 'P2P');
  /** Without a relay there is nothing that could be tried. @type {RTCConfiguration} */
  const nowhere = { iceServers: [], iceTransportPolicy: 'relay' };
  window.RTCPeerConnection = class extends Plain {
    #isBlocked;

    /** @param {RTCConfiguration} [configuration] */
    constructor(configuration = {}) {
      const isBlocked = modeOf(configuration) === mode;
      super(isBlocked ? { ...configuration, ...nowhere } : configuration);
      this.#isBlocked = isBlocked;
    }

    /** @override @param {RTCConfiguration} configuration */
    setConfiguration(configuration) {
      super.setConfiguration(this.#isBlocked ? { ...configuration, ...nowhere } : configuration);
    }
  };
}

/** Paths between peers on which each fourth packet is lost. */
export class LossyPaths {
  /** @type {import('node:dgram').Socket[]} */
  #sockets = [];
  lost = 0;

  /** A page whose peers are met by such paths alone. @param {Context} context */
  async lead(context) {
    await context.exposeFunction('lossyPath', (/** @type {string} */ candidate) => this.#to(candidate));
    await context.addInitScript(takeOnlyLossy);
  }

  /** A candidate that leads to this one by a lossy path, if there is one. @param {string} candidate @returns {Promise<string | undefined>} */
  async #to(candidate) {
    const [foundation, component, protocol = '', priority, address, port, ...rest] = candidate.split(' ');
    if (protocol.toLowerCase() !== 'udp' || address !== LOOPBACK) return undefined;
    const target = Number(port);
    /** @type {number | undefined} */
    let other;
    let media = 0;
    const socket = createSocket('udp4');
    this.#sockets.push(socket);
    socket.on('message', (packet, { port: from }) => {
      if (from !== target) other = from;
      const to = from === target ? other : target;
      // RTP and RTCP (RFC 7983); what makes the connection gets through.
      const isMedia = (packet[0] ?? 0) >= 128 && (packet[0] ?? 0) < 192;
      if (isMedia) media += 1;
      if (isMedia && media % LOST === 0) this.lost += 1;
      else if (to !== undefined) socket.send(packet, to, LOOPBACK, () => {});
    });
    await new Promise((resolve) => socket.bind(0, LOOPBACK, () => resolve(undefined)));
    return [foundation, component, protocol, priority, LOOPBACK, socket.address().port, ...rest].join(' ');
  }

  close() {
    for (const socket of this.#sockets.splice(0)) socket.close();
  }
}

/** Runs in the page, so it refers to nothing outside of itself. Of connections to media nodes the candidates are in the description. */
function takeOnlyLossy() {
  const Plain = window.RTCPeerConnection;
  window.RTCPeerConnection = class extends Plain {
    /** @override @param {RTCSessionDescriptionInit} description */
    setRemoteDescription(description) {
      const isNode = /^a=ice-lite/m.test(description.sdp ?? '');
      return super.setRemoteDescription(isNode ? description : { ...description, sdp: (description.sdp ?? '').replace(/^a=candidate:.*\r\n/gm, '') });
    }

    /** @override @param {RTCIceCandidateInit | null} [candidate] */
    async addIceCandidate(candidate) {
      if (!candidate?.candidate) return super.addIceCandidate(candidate);
      const line = await /** @type {any} */ (window).lossyPath(candidate.candidate);
      if (line) await super.addIceCandidate({ ...candidate, candidate: line });
    }
  };
}
