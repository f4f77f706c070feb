// libdatachannel (through node-datachannel) plays, publishes, and exchanges data with browsers.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import datachannel from 'node-datachannel';
import { eventually as eventuallyPeer, joinRoom } from '../lib/peer.mjs';
import { startEmptyPageAndNode } from './page-and-node.mjs';
import { dataAnswer, dtlsOf, midOf, Participant, vp8KeyFrame } from './participant.mjs';
import { endSession, eventually, openPage, pagePlays, pagePublishes, received } from './programs.mjs';
import { shown } from './record.mjs';
import { LIBDATACHANNEL } from './table.mjs';

/** @typedef {import('node-datachannel').PeerConnection} PeerConnection */

const [MEDIA_ROOM, DATA_ROOM] = ['libdatachannel-media', 'libdatachannel-data'];
const [VP8, OPUS, SSRC] = [96, 111, 20_000_001];

/** @type {PeerConnection[]} */
const connections = [];

const world = startEmptyPageAndNode([MEDIA_ROOM, DATA_ROOM], connections);
// Its threads would keep the program.
after(() => datachannel.cleanup());

/** @param {string} name */
function connect(name) {
  const connection = new datachannel.PeerConnection(name, { iceServers: [], disableAutoNegotiation: true });
  connections.push(connection);
  return connection;
}

/** @param {PeerConnection} connection @returns {Promise<string>} its offer, with all candidates */
async function offerOf(connection) {
  const gathered = new Promise((resolve) => connection.onGatheringStateChange((state) => state === 'complete' && resolve(undefined)));
  connection.setLocalDescription('offer');
  await gathered;
  return connection.localDescription()?.sdp ?? '';
}

const isRtcp = (/** @type {Buffer} */ packet) => ((packet[1] ?? 0) & 0x7f) >= 64 && ((packet[1] ?? 0) & 0x7f) < 96;
/** Payload-specific feedback, picture loss (RFC 4585 §6.3.1). */
const asksForKeyFrame = (/** @type {Buffer} */ packet) => packet[1] === 206 && ((packet[0] ?? 0) & 0x1f) === 1;

/** Fixed header, sources and extension. @param {Buffer} packet */
function headerLength(packet) {
  const fixed = 12 + 4 * ((packet[0] ?? 0) & 0x0f);
  return (packet[0] ?? 0) & 0x10 ? fixed + 4 + 4 * packet.readUInt16BE(fixed + 2) : fixed;
}

/** The same packet as one of another stream, without extensions. @param {Buffer} packet */
function restamped(packet) {
  const copy = Buffer.concat([packet.subarray(0, 12), packet.subarray(headerLength(packet))]);
  // Neither extension nor sources; padding, if any, stays at the end.
  copy[0] = (packet[0] ?? 0) & 0xe0;
  copy[1] = ((packet[1] ?? 0) & 0x80) | VP8;
  copy.writeUInt32BE(SSRC, 8);
  return copy;
}

test('libdatachannel plays a page by WHEP, and publishes by WHIP what another page decodes', { timeout: 120_000 }, async () => {
  const { node, browser, empty } = world;
  const [camera, viewer] = [await openPage(browser, empty.url), await openPage(browser, empty.url)];
  await pagePublishes(camera, node, MEDIA_ROOM, 'camera');

  const has = { pictures: 0, sound: 0, size: /** @type {[number, number] | undefined} */ (undefined) };
  const player = connect('player');
  const video = new datachannel.Video('video', 'RecvOnly');
  video.addVP8Codec(VP8);
  const audio = new datachannel.Audio('audio', 'RecvOnly');
  audio.addOpusCodec(OPUS);
  const [pictures, sound] = [player.addTrack(video), player.addTrack(audio)];
  pictures.setMediaHandler(new datachannel.RtcpReceivingSession());
  sound.setMediaHandler(new datachannel.RtcpReceivingSession());
  const playing = await new Participant(node.calls, MEDIA_ROOM, 'player').whep(await offerOf(player), '?participant=camera');

  const publisher = connect('publisher');
  const outgoing = new datachannel.Video('video', 'SendOnly');
  outgoing.addVP8Codec(VP8);
  outgoing.addSSRC(SSRC, 'libdatachannel', 'libdatachannel', 'video');
  const out = publisher.addTrack(outgoing);
  out.onMessage((packet) => void (asksForKeyFrame(packet) && pictures.requestKeyframe()));
  const publishing = await new Participant(node.calls, MEDIA_ROOM, 'libdatachannel').whip(await offerOf(publisher));

  pictures.onMessage((packet) => {
    if (isRtcp(packet)) return;
    has.size ??= vp8KeyFrame(packet.subarray(headerLength(packet)));
    if (has.size) has.pictures += (packet[1] ?? 0) >> 7;
    if (out.isOpen()) out.sendMessageBinary(restamped(packet));
  });
  sound.onMessage((packet) => void (has.sound += isRtcp(packet) ? 0 : 1));
  player.setRemoteDescription(playing.sdp, 'answer');
  publisher.setRemoteDescription(publishing.sdp, 'answer');
  await pagePlays(viewer, node, MEDIA_ROOM, 'viewer', '?participant=libdatachannel');

  await eventually('it has the camera', () => has, ({ pictures: frames, sound: packets }) => frames >= 30 && packets >= 50);
  assert.deepEqual(has.size, [320, 180]);
  const seen = await eventually('the page has libdatachannel', () => received(viewer), ({ frames }) => frames >= 30);
  assert.deepEqual([seen.codec, seen.width], ['video/VP8', 320]);
  assert.equal(await playing.end(), 200);
  assert.equal(await publishing.end(), 200);
  await endSession(camera);
  shown(LIBDATACHANNEL, 'WHEP', 'plays VP8 at 320x180 and Opus of a page from a key frame on, and deletes its session');
  shown(LIBDATACHANNEL, 'WHIP', 'publishes VP8 that a page decodes, answers its requests for key frames, and deletes its session');
});

test('libdatachannel exchanges messages with a page', { timeout: 120_000 }, async () => {
  const { node, browser } = world;
  const participant = new Participant(node.calls, DATA_ROOM, 'libdatachannel');
  const page = await joinRoom(browser, node.calls, DATA_ROOM, 'page');
  const ofPage = await page('openChannel', { label: 'from the page' });

  /** @param {'send' | 'recv'} direction @param {import('node-datachannel').DataChannelInitConfig} options */
  const channel = async (direction, options) => {
    const transport = await participant.ask('POST', '/transports', { direction, enableSctp: true });
    const stream = direction === 'recv'
      ? await participant.ask('POST', '/consume-data', { transportId: transport.id, dataProducerId: ofPage })
      : { sctpStreamParameters: { streamId: 0, ordered: !options.unordered } };
    const { streamId } = stream.sctpStreamParameters;
    const connection = connect(direction);
    const made = connection.createDataChannel(direction, { ...options, negotiated: true, id: streamId });
    const opened = new Promise((resolve) => made.onOpen(() => resolve(undefined)));
    const offer = await offerOf(connection);
    await participant.ask('POST', `/transports/${transport.id}/connect`, { dtlsParameters: dtlsOf(offer) });
    connection.setRemoteDescription(dataAnswer(transport, midOf(offer)), 'answer');
    await opened;
    return { made, transport };
  };

  const out = await channel('send', { unordered: true });
  const { id } = await participant.ask('POST', `/transports/${out.transport.id}/produce-data`, {
    sctpStreamParameters: { streamId: 0, ordered: false }, label: 'from libdatachannel',
  });
  await page('subscribe', id);
  assert.ok(out.made.sendMessage('hello'));
  assert.ok(out.made.sendMessageBinary(Buffer.alloc(200_000, 7)));
  const got = await eventuallyPeer('both', () => page('received', 'from libdatachannel'), (all) => all.length >= 2);
  assert.ok(got.includes('text hello'));
  assert.ok(got.some((/** @type {string} */ one) => one.startsWith('binary of 200000 bytes')));

  const into = await channel('recv', {});
  /** @type {(string | number)[]} */
  const heard = [];
  into.made.onMessage((message) => void heard.push(typeof message === 'string' ? message : message.byteLength));
  await page('send', ['from the page', [{ text: 'one' }, { binary: 150_000 }, { text: 'three' }]]);
  assert.deepEqual(await eventuallyPeer('all three', () => heard, (all) => all.length >= 3), ['one', 150_000, 'three']);
  shown(LIBDATACHANNEL, 'data channels', 'text and 200 000 bytes to a page, unordered; text and 150 000 bytes from it, in order');
});
