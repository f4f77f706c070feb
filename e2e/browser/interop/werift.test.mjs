// werift, WebRTC in TypeScript alone, plays, publishes, and exchanges data with browsers.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MediaStreamTrack, RTCPeerConnection, useOPUS, useVP8 } from 'werift';
import { eventually as eventuallyPeer, joinRoom } from '../lib/peer.mjs';
import { startEmptyPageAndNode } from './page-and-node.mjs';
import { dataAnswer, dtlsOf, midOf, Participant, vp8KeyFrame } from './participant.mjs';
import { endSession, eventually, openPage, pagePlays, pagePublishes, received } from './programs.mjs';
import { shown } from './record.mjs';
import { WERIFT } from './table.mjs';

const [MEDIA_ROOM, DATA_ROOM] = ['werift-media', 'werift-data'];

/** @type {RTCPeerConnection[]} */
const connections = [];

const world = startEmptyPageAndNode([MEDIA_ROOM, DATA_ROOM], connections);

/** A connection that has failed is made anew so often. */
const ATTEMPTS = 20;

/**
 * Connects, again where it fails: werift begins its key exchange anew when the node repeats its flight, and then
 * the two do not agree. The node does so after 100 ms, in which a busy machine gets through no handshake in JavaScript.
 * @template T
 * @param {(connection: RTCPeerConnection) => Promise<T>} begin prepares the connection, and tells the node of it
 * @param {(made: T) => Promise<unknown>} end
 * @returns {Promise<T>}
 */
async function connected(begin, end) {
  for (let attempt = 1; ; attempt += 1) {
    const connection = connect();
    const settled = new Promise((resolve) => connection.connectionStateChange.subscribe((state) => {
      if (state === 'connected' || state === 'failed') resolve(state);
    }));
    const made = await begin(connection);
    const state = await settled;
    if (state === 'connected') return made;
    await end(made);
    assert.ok(attempt < ATTEMPTS, `${ATTEMPTS} connections have failed`);
  }
}

function connect() {
  const connection = new RTCPeerConnection({
    // Its own asks a server on the internet.
    iceServers: [],
    bundlePolicy: 'max-bundle',
    codecs: { video: [useVP8()], audio: [useOPUS()] },
  });
  connections.push(connection);
  return connection;
}

/** @param {RTCPeerConnection} connection @returns {Promise<string>} its offer */
async function offerOf(connection) {
  await connection.setLocalDescription(await connection.createOffer());
  return connection.localDescription?.sdp ?? '';
}

test('werift plays a page by WHEP, and publishes by WHIP what another page decodes', { timeout: 240_000 }, async () => {
  const { node, browser, empty } = world;
  const [camera, viewer] = [await openPage(browser, empty.url), await openPage(browser, empty.url)];
  await pagePublishes(camera, node, MEDIA_ROOM, 'camera');

  const has = { pictures: 0, sound: 0, size: /** @type {[number, number] | undefined} */ (undefined) };
  const end = (/** @type {{session: import('./participant.mjs').Session}} */ { session }) => session.end();
  const outgoing = new MediaStreamTrack({ kind: 'video' });
  let askForKeyFrame = () => {};
  const publishing = await connected(async (connection) => {
    const { sender } = connection.addTransceiver(outgoing, { direction: 'sendonly' });
    sender.onPictureLossIndication.subscribe(() => askForKeyFrame());
    const session = await new Participant(node.calls, MEDIA_ROOM, 'werift').whip(await offerOf(connection));
    await connection.setRemoteDescription({ type: 'answer', sdp: session.sdp });
    return { session };
  }, end);
  const playing = await connected(async (connection) => {
    const [video, audio] = ['video', 'audio'].map((kind) => connection.addTransceiver(/** @type {'video'} */ (kind), { direction: 'recvonly' }));
    video?.onTrack.subscribe((track) => track.onReceiveRtp.subscribe((packet) => {
      askForKeyFrame = () => void video.receiver.sendRtcpPLI(packet.header.ssrc);
      has.size ??= vp8KeyFrame(packet.payload);
      if (has.size && packet.header.marker) has.pictures += 1;
      const copy = packet.clone();
      copy.header.extensions = [];
      outgoing.writeRtp(copy);
    }));
    audio?.onTrack.subscribe((track) => track.onReceiveRtp.subscribe(() => void (has.sound += 1)));
    const session = await new Participant(node.calls, MEDIA_ROOM, 'player').whep(await offerOf(connection), '?participant=camera');
    await connection.setRemoteDescription({ type: 'answer', sdp: session.sdp });
    return { session };
  }, end);
  await pagePlays(viewer, node, MEDIA_ROOM, 'viewer', '?participant=werift');

  await eventually('it has the camera', () => has, ({ pictures, sound }) => pictures >= 30 && sound >= 50);
  assert.deepEqual(has.size, [320, 180]);
  const seen = await eventually('the page has werift', () => received(viewer), ({ frames }) => frames >= 30);
  assert.deepEqual([seen.codec, seen.width], ['video/VP8', 320]);
  assert.equal(await playing.session.end(), 200);
  assert.equal(await publishing.session.end(), 200);
  await endSession(camera);
  shown(WERIFT, 'WHEP', 'plays VP8 at 320x180 and Opus of a page from a key frame on, and deletes its session');
  shown(WERIFT, 'WHIP', 'publishes VP8 that a page decodes, answers its requests for key frames, and deletes its session');
});

test('werift exchanges messages with a page', { timeout: 240_000 }, async () => {
  const { node, browser } = world;
  const participant = new Participant(node.calls, DATA_ROOM, 'werift');
  const page = await joinRoom(browser, node.calls, DATA_ROOM, 'page');
  const ofPage = await page('openChannel', { label: 'from the page' });

  /** @param {'send' | 'recv'} direction */
  const channel = (direction) => connected(async (connection) => {
    const transport = await participant.ask('POST', '/transports', { direction, enableSctp: true });
    const stream = direction === 'recv'
      ? await participant.ask('POST', '/consume-data', { transportId: transport.id, dataProducerId: ofPage })
      : { sctpStreamParameters: { streamId: 0, ordered: true } };
    const made = connection.createDataChannel(direction, { negotiated: true, id: stream.sctpStreamParameters.streamId });
    const opened = new Promise((resolve) => made.stateChanged.subscribe((state) => state === 'open' && resolve(undefined)));
    const offer = await offerOf(connection);
    await participant.ask('POST', `/transports/${transport.id}/connect`, { dtlsParameters: dtlsOf(offer) });
    await connection.setRemoteDescription({ type: 'answer', sdp: dataAnswer(transport, midOf(offer)) });
    return { made, transport, opened };
  }, ({ transport }) => participant.ask('DELETE', `/transports/${transport.id}`));

  const out = await channel('send');
  await out.opened;
  const { id } = await participant.ask('POST', `/transports/${out.transport.id}/produce-data`, {
    sctpStreamParameters: { streamId: 0, ordered: true }, label: 'from werift',
  });
  await page('subscribe', id);
  out.made.send('hello');
  out.made.send(Buffer.alloc(50_000, 7));
  const got = await eventuallyPeer('both', () => page('received', 'from werift'), (all) => all.length >= 2);
  assert.equal(got[0], 'text hello');
  assert.match(got[1], /^binary of 50000 bytes/);

  const into = await channel('recv');
  await into.opened;
  /** @type {(string | number)[]} */
  const heard = [];
  into.made.onMessage.subscribe((message) => void heard.push(typeof message === 'string' ? message : message.byteLength));
  await page('send', ['from the page', [{ text: 'one' }, { binary: 50_000 }, { text: 'three' }]]);
  assert.deepEqual(await eventuallyPeer('all three', () => heard, (all) => all.length >= 3), ['one', 50_000, 'three']);
  shown(WERIFT, 'data channels', 'text and 50 000 bytes to a page and from it, in order');
});
