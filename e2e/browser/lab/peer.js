// A participant on plain mediasoup-client whose every step a test asks for.

import { Device } from 'mediasoup-client';

const device = new Device();
/** @type {{api: string, token: string, tcpOnly: boolean}} */
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
    /** @param {string} dataProducerId */
    closeChannel: (dataProducerId) => ask('DELETE', `/data-producers/${dataProducerId}`),

    async publishCamera() {
      const stream = await navigator.mediaDevices.getUserMedia({ audio: true, video: { width: 320, height: 180 } });
      const ids = [];
      for (const track of stream.getTracks()) ids.push((await sender.produce({ track })).id);
      return ids;
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
      await ask('POST', `/consumers/${consumer.id}/resume`);
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
