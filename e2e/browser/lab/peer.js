// A participant on plain mediasoup-client whose every step a test asks for.

import { Device } from 'mediasoup-client';

const device = new Device();
/** @type {{api: string, token: string, tcpOnly: boolean, via?: {ip: string, port: number}}} */
let call;
/** @type {any} */
let sender;
/** @type {any} */
let receiver;
/** @type {Map<string, any>} by label */
const channels = new Map();
/** @type {Map<string, {received: string[], consumer: any, isClosed: boolean}>} by label */
const subscriptions = new Map();
/** @type {any[]} */
const events = [];
/** @type {any[]} */
const tracks = [];
/** @type {any[]} */
const producers = [];
/** Of each producer that is watched: when a picture of each width was first shown, in milliseconds since 1970. @type {Map<string, Record<number, number>>} */
const sizes = new Map();
/** @type {AudioContext | undefined} */
let sound;
/** @type {GainNode | undefined} */
let gain;
/** What is heard of each producer that is watched. @type {Map<string, AnalyserNode>} */
const ears = new Map();
/** How often encodings are looked at while they start, in milliseconds. */
const LOOK_MS = 50;

/** @param {string} method @param {string} path @param {object} [body] @returns {Promise<any>} */
async function ask(method, path, body) {
  const answer = await fetch(`${call.api}${path}`, {
    method,
    headers: { authorization: `Bearer ${call.token}`, ...(body ? { 'content-type': 'application/json' } : {}) },
    body: body && JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
  return answer.status === 204 ? undefined : answer.json();
}

/** @param {'send' | 'recv'} direction */
async function transport(direction) {
  const options = await ask('POST', '/transports', { direction, numSctpStreams: device.sctpCapabilities.numStreams });
  if (call.tcpOnly) {
    options.iceCandidates = options.iceCandidates.filter((/** @type {any} */ candidate) => candidate.protocol === 'tcp');
  }
  if (call.via) {
    const { ip, port } = call.via;
    const [candidate] = options.iceCandidates.filter((/** @type {any} */ { protocol }) => protocol === 'udp');
    options.iceCandidates = [{ ...candidate, ip, address: ip, port }];
  }
  const made = direction === 'send' ? device.createSendTransport(options) : device.createRecvTransport(options);
  made.on('connect', ({ dtlsParameters }, done, fail) => {
    ask('POST', `/transports/${made.id}/connect`, { dtlsParameters }).then(done, fail);
  });
  return made;
}

/** What stands for a message when two are compared. @param {string | ArrayBuffer} data */
async function digest(data) {
  if (typeof data === 'string' && data.length < 100) return `text ${data}`;
  const bytes = typeof data === 'string' ? new TextEncoder().encode(data) : data;
  const hash = await crypto.subtle.digest('SHA-256', bytes);
  const hex = [...new Uint8Array(hash)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return `${typeof data === 'string' ? 'text' : 'binary'} of ${bytes.byteLength} bytes, ${hex}`;
}

/** @param {{text?: string, binary?: number, large?: number}} message */
function content({ text, binary, large }) {
  if (text !== undefined) return text;
  if (large !== undefined) return 'ä'.repeat(large / 2);
  return Uint8Array.from({ length: binary ?? 0 }, (_, at) => (at * 7 + at / 256) % 256).buffer;
}

/** What the path that media takes is known to carry, among its other counts. @param {any[]} report */
function pathOf(report) {
  const { selectedCandidatePairId } = report.find((stat) => stat.type === 'transport') ?? {};
  return report.find(({ id }) => id === selectedCandidatePairId);
}

/** The parameters of Opus in a session description. @param {string} sdp */
function opusOf(sdp) {
  const payloadType = /^a=rtpmap:(\d+) opus\//m.exec(sdp)?.[1];
  return new RegExp(`^a=fmtp:${payloadType} (.*?)\\r?$`, 'm').exec(sdp)?.[1] ?? '';
}

/** A slow machine would make the pictures smaller by itself, which is not what is to be seen here. @param {any} producer */
async function keepSize({ rtpSender }) {
  await rtpSender.setParameters({ ...rtpSender.getParameters(), degradationPreference: 'maintain-resolution' });
}

/** A voice that is silent until it is told to speak. */
async function voice() {
  sound ??= new AudioContext();
  await sound.resume();
  const [tone, out] = [new OscillatorNode(sound), sound.createMediaStreamDestination()];
  gain = new GainNode(sound, { gain: 0 });
  tone.connect(gain).connect(out);
  tone.start();
  return out.stream.getAudioTracks()[0];
}

/** @param {string} producerId @param {MediaStreamTrack} track that an element plays: otherwise browsers give no sound of it */
async function listen(producerId, track) {
  sound ??= new AudioContext();
  await sound.resume();
  const ear = new AnalyserNode(sound);
  sound.createMediaStreamSource(new MediaStream([track])).connect(ear);
  ears.set(producerId, ear);
}

/** Root mean square of what is heard right now, 0 to 1. @param {AnalyserNode | undefined} ear */
function loudness(ear) {
  if (!ear) return 0;
  const samples = new Float32Array(ear.fftSize);
  ear.getFloatTimeDomainData(samples);
  return Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length);
}

/** @param {string} producerId @param {HTMLVideoElement} element */
function noteSizes(producerId, element) {
  const seen = /** @type {Record<number, number>} */ ({});
  sizes.set(producerId, seen);
  const look = (/** @type {number} */ _, /** @type {VideoFrameCallbackMetadata} */ { width }) => {
    seen[width] ??= Date.now();
    element.requestVideoFrameCallback(look);
  };
  element.requestVideoFrameCallback(look);
}

Object.assign(window, {
  peer: {
    /** @param {typeof call} options */
    async join(options) {
      call = options;
      const room = await ask('GET', '');
      await device.load({ routerRtpCapabilities: room.routerRtpCapabilities });
      [sender, receiver] = [await transport('send'), await transport('recv')];
      sender.on('producedata', (/** @type {any} */ { sctpStreamParameters, label, protocol, appData }, /** @type {any} */ done, /** @type {any} */ fail) => {
        ask('POST', `/transports/${sender.id}/produce-data`, { sctpStreamParameters, label, protocol, appData }).then(done, fail);
      });
      sender.on('produce', (/** @type {any} */ { kind, rtpParameters, appData }, /** @type {any} */ done, /** @type {any} */ fail) => {
        ask('POST', `/transports/${sender.id}/produce`, { kind, rtpParameters, appData }).then(done, fail);
      });
      const socket = new WebSocket(`${call.api.replace('http', 'ws')}/events`, ['callplane.v1', `bearer.${call.token}`]);
      socket.onmessage = ({ data }) => events.push(JSON.parse(data));
      await new Promise((resolve, reject) => Object.assign(socket, { onopen: resolve, onerror: reject }));
    },

    /** @param {object} options mediasoup-client's for produceData() */
    async openChannel(options) {
      const channel = await sender.produceData(options);
      if (channel.readyState !== 'open') await new Promise((resolve) => channel.on('open', resolve));
      channels.set(channel.label, channel);
      return channel.id;
    },

    /** A channel that the browser opens in band, as pages without mediasoup-client do. @param {string} label */
    async openInBand(label) {
      const channel = sender.handler._pc.createDataChannel(label);
      await new Promise((resolve) => Object.assign(channel, { onopen: resolve }));
      channels.set(label, channel);
      const sctpStreamParameters = { streamId: channel.id, ordered: true };
      return (await ask('POST', `/transports/${sender.id}/produce-data`, { sctpStreamParameters, label })).id;
    },

    /** @param {string} dataProducerId */
    async subscribe(dataProducerId) {
      const offer = await ask('POST', '/consume-data', { transportId: receiver.id, dataProducerId });
      const consumer = await receiver.consumeData(offer);
      consumer.binaryType = 'arraybuffer';
      const subscription = { received: /** @type {string[]} */ ([]), consumer, isClosed: false };
      let last = Promise.resolve();
      consumer.on('message', (/** @type {any} */ data) => {
        last = last.then(async () => void subscription.received.push(await digest(data)));
      });
      consumer.on('close', () => (subscription.isClosed = true));
      subscriptions.set(offer.label, subscription);
      if (consumer.readyState !== 'open') await new Promise((resolve) => consumer.on('open', resolve));
    },

    /** @param {[string, Array<{text?: string, binary?: number, large?: number}>]} what label and messages @returns {Promise<string[]>} */
    async send([label, messages]) {
      const sent = [];
      for (const message of messages) {
        const data = content(message);
        channels.get(label).send(data);
        sent.push(await digest(data));
      }
      return sent;
    },

    /** @param {string} label */
    received: (label) => subscriptions.get(label)?.received ?? [],
    /** @param {string} label */
    isClosed: (label) => subscriptions.get(label)?.isClosed ?? false,
    events: () => events,
    /** Ends everything of this page. */
    leave() {
      for (const producer of producers) producer.track?.stop();
      sender.close();
      receiver.close();
    },
    /** @param {string} dataProducerId */
    closeChannel: (dataProducerId) => ask('DELETE', `/data-producers/${dataProducerId}`),

    /** @param {string[]} [kinds] @returns {Promise<string[]>} producer ids */
    async publishCamera(kinds = ['audio', 'video']) {
      const video = kinds.includes('video') && { width: 320, height: 180 };
      const stream = await navigator.mediaDevices.getUserMedia({ audio: kinds.includes('audio'), video });
      const ids = [];
      for (const track of stream.getTracks()) ids.push((await sender.produce({ track })).id);
      return ids;
    },

    /**
     * A camera, and a voice that is silent until it is told to speak.
     * @param {{width: number, height: number, encodings?: any[]}} camera
     * @returns {Promise<{video: string, audio: string}>} producer ids
     */
    async publishSpeaker({ width, height, encodings }) {
      const stream = await navigator.mediaDevices.getUserMedia({ video: { width, height, frameRate: 30 } });
      const video = await sender.produce({ track: stream.getVideoTracks()[0], encodings });
      if (encodings && encodings.length > 1) await keepSize(video);
      const audio = await sender.produce({ track: await voice() });
      producers.push(video, audio);
      return { video: video.id, audio: audio.id };
    },

    /**
     * A voice alone, silent until it is told to speak.
     * @param {import('mediasoup-client').types.ProducerCodecOptions} codecOptions
     * @returns {Promise<{id: string, sdp: string}>} the producer, and what the two descriptions say of Opus, in one line
     */
    async publishVoice(codecOptions) {
      const producer = await sender.produce({ track: await voice(), codecOptions });
      producers.push(producer);
      const { localDescription, remoteDescription } = sender.handler._pc;
      return { id: producer.id, sdp: `offer ${opusOf(localDescription.sdp)}, answer ${opusOf(remoteDescription.sdp)}` };
    },

    /** @param {number} loudness 0 (silent) to 1 */
    speak(loudness) {
      if (gain) gain.gain.value = loudness;
    },

    /** The browser's own screen, or what it takes for one. */
    async publishScreen() {
      const [track] = (await navigator.mediaDevices.getDisplayMedia({ video: true })).getVideoTracks();
      if (!track) throw new Error('the screen has no track');
      track.contentHint = 'detail';
      const producer = await sender.produce({ track, encodings: [{ maxBitrate: 1_500_000 }], appData: { source: 'screen' } });
      producers.push(producer);
      const { width, height, displaySurface } = track.getSettings();
      return { id: producer.id, width, height, displaySurface };
    },

    /**
     * Publishes the camera by simulcast, and waits until the last encoding is sent in full size.
     * @param {{width: number, height: number, encodings: any[], startBitrate?: number, limitMs: number}} options
     *   `startBitrate` in kbit/s, for the browser to begin with instead of its own
     */
    async rampUp({ width, height, encodings, startBitrate, limitMs }) {
      const stream = await navigator.mediaDevices.getUserMedia({ video: { width, height, frameRate: 30 } });
      const began = Date.now();
      const codecOptions = startBitrate ? { videoGoogleStartBitrate: startBitrate } : {};
      const producer = await sender.produce({ track: stream.getVideoTracks()[0], encodings, codecOptions });
      producers.push(producer);
      await keepSize(producer);
      const started = /** @type {Record<number, number>} */ ({});
      const estimates = /** @type {[number, number][]} */ ([]);
      let sent;
      do {
        const report = [...(await sender.getStats()).values()];
        const after = Date.now() - began;
        sent = report.filter((stat) => stat.type === 'outbound-rtp' && stat.kind === 'video');
        for (const { frameWidth, framesSent } of sent) if (framesSent > 0) started[frameWidth] ??= after;
        const estimate = pathOf(report)?.availableOutgoingBitrate;
        if (estimate !== undefined && estimate !== estimates.at(-1)?.[1]) estimates.push([after, estimate]);
        await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
      } while (started[width] === undefined && Date.now() - began < limitMs);
      const now = sent.map(({ rid, active, frameWidth, framesSent, targetBitrate, qualityLimitationReason }) => (
        { rid, active, frameWidth, framesSent, targetBitrate, qualityLimitationReason }));
      return { id: producer.id, began, started, estimates, now };
    },

    /** What is being sent by now. */
    async sending() {
      const report = [...(await sender.getStats()).values()];
      const pair = pathOf(report);
      const of = report.filter((stat) => stat.type === 'outbound-rtp' && stat.kind === 'video');
      return {
        at: pair?.timestamp ?? 0,
        available: pair?.availableOutgoingBitrate ?? 0,
        bytes: of.reduce((sum, stat) => sum + stat.bytesSent + stat.headerBytesSent, 0),
        widths: of.map((stat) => stat.frameWidth ?? 0),
      };
    },

    /** @param {string} producerId */
    async watch(producerId) {
      const offer = await ask('POST', '/consume', {
        transportId: receiver.id, producerId, rtpCapabilities: device.recvRtpCapabilities ?? device.rtpCapabilities,
      });
      const consumer = await receiver.consume(offer);
      tracks.push(consumer);
      const element = document.createElement(offer.kind === 'video' ? 'video' : 'audio');
      Object.assign(element, { autoplay: true, muted: true, srcObject: new MediaStream([consumer.track]) });
      document.body.append(element);
      if (element instanceof HTMLVideoElement) noteSizes(producerId, element);
      await ask('POST', `/consumers/${consumer.id}/resume`);
      return { ssrc: offer.rtpParameters.encodings[0].ssrc, codec: offer.rtpParameters.codecs[0] };
    },

    /** Listens to what is heard of a producer that is watched, which only works while nobody has to click first. @param {string} producerId */
    async listen(producerId) {
      await listen(producerId, tracks.find((consumer) => consumer.producerId === producerId).track);
    },

    /** As mediasoup-client does when its application asks for it. */
    async restartIce() {
      for (const made of [sender, receiver]) {
        if (made.connectionState === 'new') continue;
        await made.restartIce(await ask('POST', `/transports/${made.id}/restart-ice`, {}));
      }
    },

    /** The ends of the path that each transport has taken, as the page and as the node see them. */
    async ends() {
      const ends = [];
      for (const made of [sender, receiver]) {
        if (made.connectionState === 'new') continue;
        const report = await made.getStats();
        const pair = pathOf([...report.values()]);
        const local = pair && report.get(pair.localCandidateId);
        const [node] = await ask('GET', `/transports/${made.id}/stats`);
        const tuple = node.iceSelectedTuple;
        const [, ufrag] = /^a=ice-ufrag:(\S+)/m.exec(made.handler._pc.remoteDescription?.sdp ?? '') ?? [];
        ends.push({
          state: made.connectionState, address: local?.address, protocol: local?.protocol, ufrag, remote: report.get(pair?.remoteCandidateId)?.address,
          node: tuple && { address: tuple.remoteIp, port: tuple.remotePort },
        });
      }
      return ends;
    },

    /** What is received of each producer that is watched. */
    async watched() {
      const has = /** @type {Record<string, {packets: number, frames: number, width: number, height: number, codec: string, at: number, lost: number, samples: number, fec: number, loudness: number, sizes: Record<number, number>}>} */ ({});
      for (const consumer of tracks) {
        const report = await consumer.getStats();
        const stat = [...report.values()].find(({ type }) => type === 'inbound-rtp');
        has[consumer.producerId] = {
          packets: stat?.packetsReceived ?? 0,
          frames: stat?.framesDecoded ?? 0,
          width: stat?.frameWidth ?? 0,
          height: stat?.frameHeight ?? 0,
          codec: report.get(stat?.codecId)?.mimeType ?? '',
          at: stat?.timestamp ?? 0,
          lost: stat?.packetsLost ?? 0,
          samples: (stat?.totalSamplesReceived ?? 0) - (stat?.concealedSamples ?? 0),
          fec: stat?.fecPacketsReceived ?? 0,
          loudness: loudness(ears.get(consumer.producerId)),
          sizes: sizes.get(consumer.producerId) ?? {},
        };
      }
      return has;
    },

    /** What is received, and by what path. */
    async stats() {
      const has = { frames: 0, samples: 0, lost: 0, paths: /** @type {string[]} */ ([]) };
      for (const consumer of tracks) {
        for (const stat of (await consumer.getStats()).values()) {
          if (stat.type !== 'inbound-rtp') continue;
          has.frames += stat.framesDecoded ?? 0;
          has.samples += (stat.totalSamplesReceived ?? 0) - (stat.concealedSamples ?? 0);
          has.lost += stat.packetsLost ?? 0;
        }
      }
      for (const made of [sender, receiver]) {
        const report = await made.getStats();
        for (const stat of report.values()) {
          if (stat.type !== 'transport') continue;
          const pair = report.get(stat.selectedCandidatePairId);
          const remote = pair && report.get(pair.remoteCandidateId);
          if (remote) has.paths.push(`${remote.protocol} ${remote.address?.includes(':') ? 'IPv6' : 'IPv4'}`);
        }
      }
      return has;
    },
  },
});
