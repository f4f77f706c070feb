// One track from a camera through a media node and back to the same page, for looking at codecs and layers.

import { Device } from 'mediasoup-client';
import { EventStream } from '../page/src/events.js';
import { RoomApi } from '../page/src/room-api.js';
import { Tokens } from '../page/src/tokens.js';

/** @typedef {import('mediasoup-client').types.RtpEncodingParameters} Encoding */
/** @typedef {{mimeType: string, parameters?: Record<string, unknown>, encodings?: Encoding[], width: number, height: number, kind?: 'audio' | 'video', opusDtx?: boolean, red?: {heard: boolean}}} Wanted */

/**
 * mediasoup-client settles on one codec of a track, and redundant audio (RFC 2198) is two: it, and what it carries. So both
 * are named in the answer that the library makes, and in what is told to the node. Browsers send it where it comes first.
 */
class RedundantAudio {
  /** @type {{payloadType: number, carried: number} | undefined} as the browser offers it */
  offered;

  /** @param {import('mediasoup-client').types.Transport} transport */
  constructor(transport) {
    const connection = /** @type {any} */ (transport.handler)._pc;
    const set = connection.setRemoteDescription.bind(connection);
    connection.setRemoteDescription = (/** @type {RTCSessionDescriptionInit} */ { type, sdp = '' }) => set({ type, sdp: this.#answer(sdp, connection.localDescription.sdp) });
  }

  /** @param {string} answer @param {string} offer */
  #answer(answer, offer) {
    const red = /^a=rtpmap:(\d+) red\/48000\/2\r$/m.exec(offer)?.[1];
    const opus = new RegExp(`^a=fmtp:${red} (\\d+)/`, 'm').exec(offer)?.[1];
    if (!red || !opus) return answer;
    this.offered = { payloadType: Number(red), carried: Number(opus) };
    return answer
      .replace(new RegExp(`^(m=audio .*SAVPF) ${opus}\r$`, 'm'), `$1 ${red} ${opus}\r`)
      .replace(new RegExp(`^a=rtpmap:${opus} `, 'm'), `a=rtpmap:${red} red/48000/2\r\na=fmtp:${red} ${opus}/${opus}\r\n$&`);
  }

  /** @param {import('mediasoup-client').types.RtpParameters} parameters of Opus @returns {import('mediasoup-client').types.RtpParameters} */
  of(parameters) {
    if (!this.offered) return parameters;
    const { payloadType, carried } = this.offered;
    const red = { mimeType: 'audio/red', payloadType, clockRate: 48_000, channels: 2, parameters: { '': `${carried}/${carried}` }, rtcpFeedback: [] };
    return { ...parameters, codecs: [red, ...parameters.codecs] };
  }
}

/** One user of a room. */
class Peer {
  /** @type {{type: string, data: any}[]} */
  told = [];
  /** @type {RedundantAudio | undefined} */
  red;

  /** @param {string} room @param {string} user */
  constructor(room, user) {
    const tokens = new Tokens({ room, user });
    const token = async () => (await tokens.toJoin()).token;
    this.api = new RoomApi(room, token);
    this.device = new Device();
    this.events = new EventStream(room, { token, onEvent: (event) => void this.told.push(event), onState() {} });
  }

  /** @param {'send' | 'recv'} direction */
  async transport(direction) {
    if (!this.device.loaded) await this.device.load({ routerRtpCapabilities: (await this.api.room()).routerRtpCapabilities });
    const offered = await this.api.createTransport(direction);
    const transport = direction === 'send' ? this.device.createSendTransport(offered) : this.device.createRecvTransport(offered);
    transport.on('connect', ({ dtlsParameters }, done, fail) => void this.api.connect(offered.id, dtlsParameters).then(done, fail));
    transport.on('produce', (track, done, fail) => void this.api.produce(offered.id, { ...track, rtpParameters: this.red?.of(track.rtpParameters) ?? track.rtpParameters }).then(done, fail));
    return transport;
  }
}

class Lab {
  /** @param {string} room @param {Wanted} wanted */
  async start(room, { mimeType, parameters = {}, encodings, width, height, kind = 'video', opusDtx, red }) {
    const [ann, bob] = [new Peer(room, 'ann'), new Peer(room, 'bob')];
    const constraints = kind === 'video' ? { video: { width, height, frameRate: 30 } } : { audio: true };
    const [track] = (await navigator.mediaDevices.getUserMedia(constraints)).getTracks();
    const [send, recv] = [await ann.transport('send'), await bob.transport('recv')];
    const isWanted = (/** @type {any} */ codec) => codec.mimeType.toLowerCase() === mimeType.toLowerCase()
      && Object.entries(parameters).every(([name, value]) => codec.parameters[name] === value);
    const codec = ann.device.rtpCapabilities.codecs?.find(isWanted);
    if (!codec) return { missing: `the browser does not send ${mimeType} ${JSON.stringify(parameters)}` };
    if (red) ann.red = new RedundantAudio(send);
    const producer = await send.produce({
      track, codec, encodings, codecOptions: { videoGoogleStartBitrate: 1000, opusDtx, opusFec: true },
    });
    const capabilities = { ...bob.device.recvRtpCapabilities };
    if (red && !red.heard) capabilities.codecs = capabilities.codecs?.filter((c) => c.mimeType.toLowerCase() !== 'audio/red');
    const info = await bob.api.consume(recv.id, producer.id, capabilities);
    const consumer = await recv.consume(info);
    const view = /** @type {HTMLVideoElement} */ (document.getElementById('view'));
    view.srcObject = new MediaStream([consumer.track]);
    await bob.api.resume(info.id);
    Object.assign(this, { ann, bob, producer, consumer, info, track });
    return { type: info.type, producer: producer.rtpParameters, consumer: info.rtpParameters };
  }

  /** @param {number} spatialLayer @param {number} [temporalLayer] */
  prefer(spatialLayer, temporalLayer) {
    const { bob, info } = /** @type {any} */ (this);
    return bob.api.preferLayers(info.id, { spatialLayer, temporalLayer });
  }

  async stats() {
    const { ann, bob, producer, consumer } = /** @type {any} */ (this);
    const pick = async (/** @type {any} */ from, /** @type {string} */ type) => {
      const all = [...(await from.getStats()).values()];
      const codec = (/** @type {any} */ stat) => all.find(({ id }) => id === stat.codecId);
      return all.filter((stat) => stat.type === type).map((stat) => ({ ...stat, codec: codec(stat)?.mimeType, fmtp: codec(stat)?.sdpFmtpLine }));
    };
    const [received] = await pick(consumer, 'inbound-rtp');
    return {
      received,
      sent: await pick(producer, 'outbound-rtp'),
      layers: bob.told.filter((/** @type {any} */ { type }) => type === 'layers-changed').map((/** @type {any} */ { data }) => data),
      wanted: ann.told.filter((/** @type {any} */ { type }) => type === 'producer-layers-wanted').map((/** @type {any} */ { data }) => data),
    };
  }

  /** Leaves the layers above this one to nobody. @param {number} spatialLayer */
  setMaxSpatialLayer(spatialLayer) {
    return /** @type {any} */ (this).producer.setMaxSpatialLayer(spatialLayer);
  }

  close() {
    const { ann, bob, producer, consumer, track } = /** @type {any} */ (this);
    for (const part of [ann?.events, bob?.events, producer, consumer]) part?.close();
    track?.stop();
  }
}

Object.assign(window, { lab: new Lab() });
