// mediasoup-client on aiortc instead of a browser: consumes a page's tracks, and publishes them anew.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { launchChromium } from '../lib/chromium.mjs';
import { mediaNodeProgram, startMediaNode } from '../lib/media-node.mjs';
import { eventually, joinRoom } from '../lib/peer.mjs';
import { Participant } from './participant.mjs';
import { python } from './programs.mjs';
import { ranWith, shown } from './record.mjs';
import { AIORTC_CLIENT } from './table.mjs';

const program = mediaNodeProgram();
const skip = program ? false : 'no media node has been built: cargo build -p callplane-media-node';
const ROOM = 'aiortc';

/** @type {Awaited<ReturnType<typeof startMediaNode>>} */
let node;
/** @type {import('playwright-core').Browser} */
let browser;
/** @type {any} */
let worker;
/** @type {any} `Device` of the mediasoup-client that this handler was made for, which is not the pages' */
let Device;

before(async () => {
  if (!program) return;
  node = await startMediaNode(program, '--cors-origin', '*');
  await node.directory.create(ROOM);
  browser = await launchChromium();
  ranWith('Chromium', browser.version());
  // It looks for its interpreter when it is loaded.
  process.env.PYTHON = await python();
  const { createWorker } = await import('mediasoup-client-aiortc');
  worker = await createWorker({ logLevel: 'warn' });
  const require = createRequire(createRequire(import.meta.url).resolve('mediasoup-client-aiortc'));
  ({ Device } = require('mediasoup-client'));
});

after(async () => {
  worker?.close();
  await browser?.close();
  await node?.stop();
});

/**
 * With a device of its own: all transports of one factory are the same connection here.
 * @param {Participant} participant @param {'send' | 'recv'} direction
 */
async function transport(participant, direction) {
  const device = new Device({ handlerFactory: worker.createHandlerFactory() });
  await device.load({ routerRtpCapabilities: (await participant.ask('GET', '')).routerRtpCapabilities });
  const options = await participant.ask('POST', '/transports', { direction, enableSctp: true });
  const made = direction === 'send' ? device.createSendTransport(options) : device.createRecvTransport(options);
  const produce = (/** @type {string} */ path) => (/** @type {any} */ body, /** @type {any} */ done, /** @type {any} */ fail) => {
    participant.ask('POST', `/transports/${made.id}/${path}`, body).then(done, fail);
  };
  made.on('connect', (/** @type {any} */ { dtlsParameters }, /** @type {any} */ done, /** @type {any} */ fail) => {
    participant.ask('POST', `/transports/${made.id}/connect`, { dtlsParameters }).then(done, fail);
  });
  made.on('produce', produce('produce'));
  made.on('producedata', produce('produce-data'));
  return { made, rtpCapabilities: device.rtpCapabilities };
}

test('mediasoup-client on aiortc takes a page\'s tracks and messages, and publishes its own', { skip, timeout: 180_000 }, async () => {
  const [ann, bob] = [await joinRoom(browser, node.directory, ROOM, 'ann'), await joinRoom(browser, node.directory, ROOM, 'bob')];
  const published = await ann('publishCamera');
  const ofAnn = await ann('openChannel', { label: 'from the page' });

  const participant = new Participant(node.directory, ROOM, 'aiortc');
  const { made: sender } = await transport(participant, 'send');
  const { made: receiver, rtpCapabilities } = await transport(participant, 'recv');
  const again = [];
  for (const producerId of published) {
    const offer = await participant.ask('POST', '/consume', { transportId: receiver.id, producerId, rtpCapabilities });
    const consumer = await receiver.consume(offer);
    await participant.ask('POST', `/consumers/${offer.id}/resume`);
    // Decoded by aiortc, and encoded anew.
    again.push(await sender.produce({ track: consumer.track, stopTracks: false }));
  }
  for (const { id } of again) await bob('watch', id);
  const has = await eventually('pictures and sound', () => bob('stats'), ({ frames, samples }) => frames >= 30 && samples >= 48_000, 90_000);
  assert.deepEqual(has.paths, ['udp IPv4']);
  const watched = await bob('watched');
  const video = again.find(({ kind }) => kind === 'video');
  assert.deepEqual([watched[video.id].codec, watched[video.id].width], ['video/VP8', 320]);

  const channel = await sender.produceData({ label: 'from aiortc' });
  await bob('subscribe', channel.id);
  if (channel.readyState !== 'open') await new Promise((resolve) => channel.on('open', resolve));
  channel.send('hello');
  await eventually('its message', () => bob('received', 'from aiortc'), (all) => all.includes('text hello'));
  const subscribed = await receiver.consumeData(await participant.ask('POST', '/consume-data', { transportId: receiver.id, dataProducerId: ofAnn }));
  /** @type {string[]} */
  const heard = [];
  subscribed.on('message', (/** @type {string} */ message) => heard.push(message));
  if (subscribed.readyState !== 'open') await new Promise((resolve) => subscribed.on('open', resolve));
  await ann('send', ['from the page', [{ text: 'one' }, { text: 'two' }]]);
  assert.deepEqual(await eventually('both', () => heard, (all) => all.length >= 2), ['one', 'two']);
  shown(AIORTC_CLIENT, 'media', 'consumes VP8 and Opus of a page, and publishes what it decoded; another page decodes that at 320 pixels, with sound');
  shown(AIORTC_CLIENT, 'data channels', 'messages to a page and from it');
});
