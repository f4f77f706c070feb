// A participant with plain `socket.io-client` and plain `mediasoup-client`, as docs/signalling.md and docs/api.md have them:
// nothing of ours between them and the call.

import { Device } from 'mediasoup-client';
import { io } from 'socket.io-client';

const ANSWER_MS = 20_000;
const socket = io(location.origin, { transports: ['websocket'], autoConnect: false });
const device = new Device();
/** @type {{name: string, data: any}[]} */
const events = [];
/** @type {any} */
let call;
/** @type {import('mediasoup-client').types.Transport | undefined} */
let transport;

socket.onAny((name, data) => events.push({ name, data }));

/** @param {string} event @param {object} data */
async function ask(event, data) {
  const answer = await socket.timeout(ANSWER_MS).emitWithAck(event, data);
  if (answer.error) throw new Error(`${event}: ${answer.error.code}`);
  return answer;
}

/** @param {string} method @param {string} path @param {object} [body] */
async function api(method, path, body) {
  const headers = { authorization: `Bearer ${call.token}`, 'content-type': 'application/json' };
  const answer = await fetch(call.apiUrl + path, { method, headers, ...(body ? { body: JSON.stringify(body) } : {}) });
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}

Object.assign(window, {
  plain: {
    /** @param {{roomId: string, token: string}} admission */
    async join(admission) {
      const connected = new Promise((resolve) => socket.once('connect', () => resolve(undefined)));
      socket.connect();
      await connected;
      call = await ask('join-room', admission);
      await device.load({ routerRtpCapabilities: call.rtpCapabilities ?? (await api('GET', '')).routerRtpCapabilities });
      const made = device.createRecvTransport(await api('POST', '/transports', { direction: 'recv' }));
      made.on('connect', ({ dtlsParameters }, done, fail) => {
        api('POST', `/transports/${made.id}/connect`, { dtlsParameters }).then(() => done(), fail);
      });
      transport = made;
    },
    /** @param {string} producerId @returns {Promise<string>} the consumer's id */
    async consume(producerId) {
      if (!transport) throw new Error('not in the call');
      const offer = await api('POST', '/consume', { transportId: transport.id, producerId, rtpCapabilities: device.recvRtpCapabilities, paused: true });
      const consumer = await transport.consume(offer);
      await ask('resume-consumer', { consumerId: consumer.id });
      return consumer.id;
    },
    /** @param {string} event @param {object} data */
    ask,
    /** @param {string} consumerId @param {number} spatialLayer */
    prefer: (consumerId, spatialLayer) => api('POST', `/consumers/${consumerId}/preferred-layers`, { spatialLayer }),
    events: () => events,
    leave: () => socket.disconnect(),
  },
});
