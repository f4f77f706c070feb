// docs/signalling.md with plain `socket.io-client` against the real gateway: each event, each payload, what is refused.
// `active-speaker` and `layers-changed` need real media: they are in browser/calls.test.mjs.

import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { after, afterEach, before, test } from 'node:test';
import { Lab } from '../../../../e2e/browser/lib/lab.mjs';
import { mintToken, peekClaims, signingKey } from '../../../../e2e/browser/lib/token.mjs';
import { Client, until } from '../support/client.mjs';

/** @type {Lab} */
let lab;
/** @type {Client[]} */
let clients = [];
let rooms = 0;

before(async () => {
  // The shortest life that tokens may have: `token` comes after 45 s.
  lab = await Lab.start({ args: ['--token-ttl', '1m'] });
});
after(() => lab?.stop());
afterEach(() => {
  for (const client of clients.splice(0)) client.close();
});

/** @param {object} [topology] @param {number} [maxParticipants] */
async function newRoom(topology = { mode: 'P2P' }, maxParticipants = 4) {
  rooms += 1;
  const name = `protocol-${rooms}`;
  return { name, roomId: await lab.room(name, topology, maxParticipants) };
}

/** @param {string} roomId @param {string} user @param {string} [role] @param {object} [more] */
async function joins(roomId, user, role, more) {
  const client = await Client.join(lab.url, roomId, await lab.token(roomId, user, role), more);
  clients.push(client);
  return client;
}

async function connected(/** @type {Partial<import('socket.io-client').ManagerOptions>} */ options = {}) {
  const client = await Client.connect(lab.url, options);
  clients.push(client);
  return client;
}

/** The names of an object's fields, sorted. @param {object} data */
const fields = (data) => Object.keys(data).sort();

/** A media node's API as this participant asks it, through the gateway. @param {Client} client */
function api({ joined: { roomId, token } }) {
  return async (/** @type {string} */ method, /** @type {string} */ path, /** @type {object | undefined} */ body = undefined) => {
    const answer = await fetch(`${lab.url}/api/rooms/${roomId}${path}`, {
      method,
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      ...(body ? { body: JSON.stringify(body) } : {}),
    });
    assert.ok(answer.ok, `${method} ${path}: ${answer.status}`);
    return /** @type {any} */ (answer.status === 204 ? undefined : await answer.json());
  };
}

/** Publishes sound that never comes. @param {Client} client @param {string} cname */
async function produce(client, cname) {
  const ask = api(client);
  const transport = await ask('POST', '/transports', { direction: 'send' });
  return ask('POST', `/transports/${transport.id}/produce`, {
    kind: 'audio',
    rtpParameters: {
      mid: '0',
      codecs: [{ mimeType: 'audio/opus', payloadType: 111, clockRate: 48000, channels: 2, parameters: { minptime: 10, useinbandfec: 1 }, rtcpFeedback: [] }],
      headerExtensions: [],
      encodings: [{ ssrc: 1000 + Math.floor(Math.random() * 1e9) }],
      rtcp: { cname, reducedSize: true },
    },
  });
}

test('a call of two: each event and its payload', async () => {
  const { roomId } = await newRoom();
  const ann = await joins(roomId, 'ann', 'host');
  const ofPeers = ['apiUrl', 'chat', 'expiresAt', 'iceServers', 'initiator', 'locked', 'p2pMaxParticipants', 'participants', 'resumed', 'roomId', 'route', 'self', 'seq', 'session', 'token'];
  assert.deepEqual(fields(ann.joined), ofPeers);
  assert.deepEqual(await ann.expect('call:joined'), ann.joined, 'the event says what the answer does');
  assert.deepEqual(fields(ann.joined.self), ['displayName', 'isMuted', 'isVideoOn', 'joinedAt', 'role', 'userId']);
  assert.deepEqual([ann.joined.route, ann.joined.participants, ann.joined.initiator, ann.joined.p2pMaxParticipants], [{ epoch: 1, mode: 'P2P' }, [], [], 4]);
  const bob = await joins(roomId, 'bob', undefined, { isMuted: true, isVideoOn: false });
  assert.deepEqual([bob.joined.initiator, bob.joined.participants], [['ann'], [ann.joined.self]]);
  const { seq, ...came } = await ann.expect('call:participant-joined');
  assert.deepEqual([came, typeof seq], [bob.joined.self, 'string']);
  assert.deepEqual([came.isMuted, came.isVideoOn], [true, false]);

  for (const event of ['webrtc:offer', 'webrtc:answer']) {
    assert.deepEqual(await bob.ask(event, { targetUserId: 'ann', sdp: 'v=0\r\n', epoch: 1 }), {});
    assert.deepEqual(await ann.expect(event), { sourceUserId: 'bob', sdp: 'v=0\r\n', epoch: 1 });
  }
  for (const candidate of [{ candidate: 'candidate:1 1 udp 1 192.0.2.1 9 typ host', sdpMid: '0', sdpMLineIndex: 0 }, null]) {
    assert.deepEqual(await ann.ask('webrtc:ice-candidate', { targetUserId: 'bob', candidate, epoch: 1 }), {});
    assert.deepEqual(await bob.expect('webrtc:ice-candidate'), { sourceUserId: 'ann', candidate, epoch: 1 });
  }
  assert.deepEqual(await bob.ask('update-state', { isMuted: false }), {});
  const changed = await ann.expect('state-changed');
  assert.deepEqual([changed.userId, changed.isMuted, changed.isVideoOn, fields(changed)], ['bob', false, false, ['isMuted', 'isVideoOn', 'seq', 'userId']]);

  const html = '<img src=x onerror="alert(1)"> & "quotes" \u2028';
  const written = await bob.ask('chat', { text: html });
  for (const client of [ann, bob]) {
    const line = await client.expect('chat');
    assert.deepEqual([line.id, line.at, line.text, line.userId, line.displayName], [written.id, written.at, html, 'bob', 'bob'], 'as it was written');
  }
  assert.deepEqual(await bob.ask('quality', { epoch: 1, packetLossPercent: 9, rttMs: 40, bitrate: 1e6 }), {});
  const { userId, level } = await ann.expect('quality');
  assert.deepEqual([userId, level], ['bob', 'poor']);
  assert.deepEqual(await bob.ask('quality', { epoch: 1, packetLossPercent: 0, level: 'fair' }), {});
  assert.equal((await ann.expect('quality')).level, 'fair');
  const fresh = await bob.ask('refresh-token');
  assert.deepEqual(fields(fresh), ['expiresAt', 'iceServers', 'token']);
  assert.deepEqual([peekClaims(fresh.token)?.sub, peekClaims(fresh.token)?.roomId], ['bob', roomId]);
  assert.deepEqual(await bob.ask('route-ack', { epoch: 1, success: true }), {});
  assert.ok(await bob.heardNothingOf('webrtc:offer', 'quality', 'call:participant-joined'), 'of one’s own doings one knows');

  assert.deepEqual(await ann.ask('host:mute', { userId: 'bob' }), {});
  assert.deepEqual(await bob.expect('call:muted'), { by: 'ann' });
  for (const locked of [true, false]) {
    assert.deepEqual(await ann.ask('host:lock', { locked }), {});
    assert.deepEqual(await bob.expect('call:locked'), { locked, by: 'ann' });
  }
  assert.deepEqual(await bob.ask('leave-room'), {});
  const left = await ann.expect('call:participant-left');
  assert.deepEqual([left.userId, left.reason], ['bob', 'left']);
  const again = await bob.join(roomId, await lab.token(roomId, 'bob'));
  assert.deepEqual(again.chat.map((/** @type {any} */ { text }) => text), [html], 'who comes later reads what was written');
  await ann.expect('call:participant-joined');
  assert.deepEqual(await ann.ask('host:remove', { userId: 'bob' }), {});
  assert.deepEqual(await bob.expect('call:removed'), { by: 'ann' });
  await bob.expect('disconnect');
  assert.equal((await ann.expect('call:participant-left')).reason, 'removed');
  const late = await joins(roomId, 'cid');
  assert.deepEqual(await ann.ask('host:end'), {});
  for (const client of [ann, late]) {
    assert.deepEqual(await client.expect('call:ended'), { reason: 'ended' });
    await client.expect('disconnect');
  }
});

test('what cannot be is refused by its code, its status and the field', async () => {
  const { roomId } = await newRoom();
  const nobody = await connected();
  for (const event of ['leave-room', 'refresh-token', 'host:end']) assert.equal(await nobody.refusal(event), 'not-joined 409', event);
  await joins(roomId, 'ann', 'host');
  const guest = await joins(roomId, 'gus', 'guest');
  const described = { targetUserId: 'ann', sdp: 'v=0', epoch: 1 };
  /** @type {[string, any, string][]} */
  const wrong = [
    ['webrtc:offer', { ...described, sdp: 'x'.repeat(65_537) }, 'too-large 413 sdp'],
    ['webrtc:offer', { ...described, sdp: 7 }, 'invalid 422 sdp'],
    ['webrtc:answer', { sdp: 'v=0', epoch: 1 }, 'invalid 422 targetUserId'],
    ['webrtc:answer', { ...described, targetUserId: 'zoe' }, 'participant-not-found 404'],
    ['webrtc:ice-candidate', { targetUserId: 'ann', candidate: { candidate: 'x'.repeat(5000) }, epoch: 1 }, 'too-large 413 candidate'],
    ['webrtc:ice-candidate', { targetUserId: 'ann', candidate: 'x', epoch: 1 }, 'invalid 422 candidate'],
    ['route-ack', { epoch: 1 }, 'invalid 422 success'],
    ['update-state', { isMuted: 'no' }, 'invalid 422 isMuted'],
    ['chat', { text: ' \n' }, 'invalid 422 text'],
    ['chat', { text: 'a\u0007' }, 'invalid 422 text'],
    ['chat', { text: 'ö'.repeat(2049) }, 'too-large 413 text'],
    ['quality', { epoch: 1, packetLossPercent: 101 }, 'invalid 422 packetLossPercent'],
    ['resume-consumer', { consumerId: '../../x' }, 'invalid 422 consumerId'],
    ['pause-consumer', { consumerId: 'c-1' }, 'room-not-ready 503'],
    ['join-room', { roomId, token: 'x' }, 'conflict 409'],
    ['host:mute', { userId: 'ann' }, 'not-permitted 403'],
    ['host:remove', { userId: 'ann' }, 'not-permitted 403'],
    ['host:lock', { locked: true }, 'not-permitted 403'],
    ['host:end', {}, 'not-permitted 403'],
    ['constructor', {}, 'no-such-event 404'],
  ];
  for (const [event, data, expected] of wrong) assert.equal(await guest.refusal(event, data), expected, `${event} ${JSON.stringify(data).slice(0, 80)}`);
  for (const data of [null, 7, 'text', [], [[]]]) assert.match(await guest.refusal('chat', data) ?? '', /^invalid 422/, JSON.stringify(data));
});

test('only the right token lets in, once for whom it was made', async () => {
  const { roomId, name } = await newRoom({ mode: 'P2P' }, 2);
  const other = await newRoom();
  const token = await lab.token(roomId, 'ann', 'host');
  const claims = /** @type {any} */ (peekClaims(token));
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const admission = { callId: roomId, roomUid: claims.roomUid, user: 'eve', epoch: 1, role: 'host' };
  const foreign = mintToken({ key: privateKey, kid: header(token).kid }, admission, Date.now()).token;
  const expired = await mint(admission, Date.now() - 3_600_000);
  const [head, body, signature] = token.split('.');
  const of = (/** @type {object} */ what) => Buffer.from(JSON.stringify(what)).toString('base64url');
  const client = await connected();
  /** @type {[string, string, string][]} */
  const wrong = [
    [roomId, '', 'credentials-invalid 401'],
    [roomId, foreign, 'credentials-invalid 401'],
    [roomId, `${of({ alg: 'none', typ: 'JWT' })}.${body}.`, 'credentials-invalid 401'],
    [roomId, `${head}.${of({ ...claims, role: 'admin', sub: 'eve' })}.${signature}`, 'credentials-invalid 401'],
    [roomId, expired, 'credentials-expired 401'],
    [other.roomId, token, 'wrong-room 403'],
    ['default.nothing', token, 'wrong-room 403'],
  ];
  for (const [room, bearer, expected] of wrong) assert.equal(await client.refusal('join-room', { roomId: room, token: bearer }), expected, bearer.slice(0, 20));
  for (const odd of ['', '.', 'default', '../default.x', 'default/x', 'DEFAULT.X', 'default.x\u0000', 'default.ü', `default.${'x'.repeat(300)}`, '__proto__.x', '%2e%2e.x']) {
    const refusal = await client.refusal('join-room', { roomId: odd, token });
    assert.match(refusal ?? '', /^(room-not-found 404 roomId|wrong-room 403)$/, JSON.stringify(odd));
  }
  assert.equal(await client.refusal('join-room', { token }), 'invalid 422 roomId');
  assert.equal(await client.refusal('join-room', { roomId: 7, token }), 'invalid 422 roomId');

  const ann = await joins(roomId, 'ann', 'host');
  const replayed = await lab.token(roomId, 'bob');
  const bob = await Client.join(lab.url, roomId, replayed);
  clients.push(bob);
  const cid = await mint({ ...admission, user: 'cid', role: 'participant' });
  assert.equal(await client.refusal('join-room', { roomId, token: cid }), 'room-full 409');
  assert.deepEqual(await ann.ask('host:remove', { userId: 'bob' }), {});
  assert.equal(await client.refusal('join-room', { roomId, token: replayed }), 'removed 403');
  assert.deepEqual(await ann.ask('host:lock', { locked: true }), {});
  await ann.expect('call:locked');
  assert.equal(await client.refusal('join-room', { roomId, token: cid }), 'room-locked 403');

  // A room of the same name is another room.
  await lab.kube('DELETE', `/apis/callplane.io/v1alpha1/namespaces/default/callrooms/${name}`);
  assert.deepEqual(await ann.expect('call:ended'), { reason: 'deleted' });
  await lab.room(name, { mode: 'P2P' });
  await until('the new room is known', () => client.refusal('join-room', { roomId, token: cid }), (code) => code === 'wrong-room 403');
  const ended = await lab.token(other.roomId, 'eve');
  await lab.rest('PUT', `/v1/rooms/${other.roomId}/end`);
  await until('the end is known', () => client.refusal('join-room', { roomId: other.roomId, token: ended }), (code) => code === 'room-ended 410');
});

/** @param {string} token */
const header = (token) => JSON.parse(Buffer.from(token.split('.')[0] ?? '', 'base64url').toString());

/** A token as the gateway would make it, if it would. @param {import('../../../../e2e/browser/lib/token.mjs').Admission} admission */
async function mint(admission, now = Date.now()) {
  const { roomId } = await newRoom();
  const { kid } = header(await lab.token(roomId, 'whoever'));
  return mintToken(signingKey(await lab.joinKey(), kid), admission, now).token;
}

test('long polling carries the same', async () => {
  const { roomId } = await newRoom();
  const ann = await joins(roomId, 'ann');
  const bob = await connected({ transports: ['polling'] });
  assert.equal((await bob.join(roomId, await lab.token(roomId, 'bob'))).initiator[0], 'ann');
  assert.equal(bob.socket.io.engine.transport.name, 'polling');
  for (const text of ['one', 'two', 'three']) await bob.ask('chat', { text });
  for (const text of ['one', 'two', 'three']) assert.equal((await ann.expect('chat')).text, text);
  await ann.ask('webrtc:offer', { targetUserId: 'bob', sdp: 'v=0', epoch: 1 });
  assert.equal((await bob.expect('webrtc:offer')).sourceUserId, 'ann');
  // It may go on as a WebSocket.
  const cid = await connected({ transports: ['polling', 'websocket'] });
  await cid.join(roomId, await lab.token(roomId, 'cid'));
  await until('the upgrade', () => cid.socket.io.engine.transport.name, (transport) => transport === 'websocket');
  await cid.ask('chat', { text: 'four' });
  assert.equal((await bob.expect('chat', ({ text }) => text === 'four')).userId, 'cid');
});

test('through a media node: its events, its capabilities, its consumers', async () => {
  const { roomId } = await newRoom({ mode: 'SFU' });
  const ann = await joins(roomId, 'ann');
  assert.deepEqual([ann.joined.route.mode, ann.joined.initiator], ['SFU', []]);
  // Told, unless the node took its time.
  const rtpCapabilities = ann.joined.rtpCapabilities ?? (await api(ann)('GET', '')).routerRtpCapabilities;
  assert.ok(rtpCapabilities.codecs.length > 0);
  assert.equal((await ann.expect('room')).epoch, 1);
  assert.deepEqual(await ann.expect('active-speaker'), { epoch: 1 }, 'nobody speaks, and whoever comes is told so');
  const bob = await joins(roomId, 'bob');
  assert.deepEqual(await bob.expect('active-speaker'), { epoch: 1 });
  const { id } = await produce(bob, 'bob');
  const told = await ann.expect('new-producer');
  assert.deepEqual([told.id, told.participantId, told.kind, told.epoch], [id, 'bob', 'audio', 1]);
  const ask = api(ann);
  const transport = await ask('POST', '/transports', { direction: 'recv' });
  const consumer = await ask('POST', '/consume', { transportId: transport.id, producerId: id, rtpCapabilities });
  for (const event of ['resume-consumer', 'pause-consumer']) assert.equal((await ann.ask(event, { consumerId: consumer.id })).error, undefined, event);
  assert.equal((await ann.ask('pause-consumer', { consumerId: 'unknown' })).error.status, 404, 'the problem of the media node');

  const subscription = { consumerId: consumer.id, producerId: id, epoch: 1 };
  for (const [path, event] of [['pause', 'consumer-paused'], ['resume', 'consumer-resumed']]) {
    await api(bob)('POST', `/producers/${id}/${path}`);
    assert.deepEqual(await ann.expect(event ?? ''), { ...subscription, reason: 'producer' });
  }
  // One is told of what one has to send, not of what others have.
  assert.deepEqual(await bob.expect('producer-layers-wanted'), { producerId: id, spatialLayer: null, epoch: 1 }, 'nobody hears it');
  await api(bob)('DELETE', `/producers/${id}`);
  assert.deepEqual(await ann.expect('consumer-closed'), subscription);
  assert.deepEqual(await ann.expect('producer-closed'), { producerId: id, participantId: 'bob', epoch: 1 });
  assert.ok(await ann.heardNothingOf('producer-layers-wanted'));
  assert.ok(await bob.heardNothingOf('consumer-closed', 'producer-closed'), 'of one’s own doings one knows');
});

test('who is asked to be silent and is not, is silenced at the media node', async () => {
  const { roomId } = await newRoom({ mode: 'SFU' });
  const host = await joins(roomId, 'ann', 'host');
  const bob = await joins(roomId, 'bob');
  const [{ id }, own] = [await produce(bob, 'bob'), await produce(host, 'ann')];
  await host.ask('host:mute', { userId: 'bob' });
  await bob.expect('call:muted');
  assert.equal((await host.expect('producer-closed')).producerId, id);
  const { producers } = await api(host)('GET', '');
  assert.deepEqual(producers.map((/** @type {any} */ one) => one.id), [own.id], 'and nobody else');
});

test('who leaves is let go by the media node at once, in the middle of a switch too', async () => {
  const { name, roomId } = await newRoom({ mode: 'P2P' });
  const [ann, bob, cid] = [await joins(roomId, 'ann'), await joins(roomId, 'bob'), await joins(roomId, 'cid')];
  await lab.kube('PATCH', `/apis/callplane.io/v1alpha1/namespaces/default/callrooms/${name}`, { spec: { topology: { mode: 'SFU' } } }, 'application/merge-patch+json');
  const switches = await Promise.all([ann, bob, cid].map((client) => client.expect('call:mode-switch')));
  const { rtpCapabilities: _, ...told } = switches[0];
  assert.deepEqual(fields(told), ['apiUrl', 'epoch', 'expiresAt', 'iceServers', 'initiator', 'mode', 'reason', 'token']);
  assert.deepEqual([switches[0].epoch, switches[0].mode, switches[0].reason], [2, 'SFU', 'Requested']);
  for (const [at, client] of [ann, bob, cid].entries()) client.joined = { ...client.joined, ...switches[at] };
  for (const client of [ann, cid]) assert.deepEqual(await client.ask('route-ack', { epoch: 2, success: true }), {});
  // Transports that nobody will ever connect.
  for (const client of [bob, cid]) for (const direction of ['send', 'recv']) await api(client)('POST', '/transports', { direction });
  const there = async () => (await api(ann)('GET', '')).participants.map((/** @type {any} */ { id }) => id);
  assert.ok((await there()).includes('bob'));
  assert.deepEqual(await bob.ask('leave-room'), {});
  assert.deepEqual(await ann.expect('call:mode-switched'), { epoch: 2, mode: 'SFU', success: true }, 'it was bob who had not moved');
  await until('bob is let go', there, (ids) => !ids.includes('bob'));
  await lab.rest('POST', `/v1/rooms/${roomId}/leave`, { userId: 'cid' });
  assert.deepEqual(await cid.expect('call:removed'), {}, 'by nobody in the call');
  assert.equal((await ann.expect('call:participant-left', ({ userId }) => userId === 'cid')).reason, 'removed');
  await until('cid is let go', there, (ids) => !ids.includes('cid'));
});

test('one’s own leaving by REST is told to the others', async () => {
  const { roomId } = await newRoom();
  const ann = await joins(roomId, 'ann');
  const token = await lab.token(roomId, 'bob');
  clients.push(await Client.join(lab.url, roomId, token));
  const answer = await fetch(`${lab.url}/v1/rooms/${roomId}/leave`, { method: 'POST', headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' }, body: '{}' });
  assert.equal(answer.status, 200);
  assert.equal((await ann.expect('call:participant-left')).reason, 'left');
});

test('a second socket of the same user takes over; a dropped one resumes', async () => {
  const { roomId } = await newRoom();
  const ann = await joins(roomId, 'ann');
  const first = await joins(roomId, 'bob');
  await ann.expect('call:participant-joined');
  const second = await joins(roomId, 'bob');
  assert.deepEqual(await first.expect('call:replaced'), {});
  await first.expect('disconnect');
  assert.equal((await ann.expect('call:participant-left')).reason, 'disconnected');
  await ann.expect('call:participant-joined');
  second.socket.io.engine.close();
  await second.expect('disconnect');
  await ann.ask('chat', { text: 'while you were away' });
  const back = await connected();
  const joined = await back.join(roomId, second.joined.token, { resume: second.resume });
  assert.equal(joined.resumed, true);
  assert.deepEqual(joined.missed.map((/** @type {any} */ { event, data }) => [event, data.text]), [['chat', 'while you were away']]);
  assert.ok(await ann.heardNothingOf('call:participant-left', 'call:participant-joined'));
  const stale = await connected();
  const anew = await stale.join(roomId, second.joined.token, { resume: { session: 'x', seq: second.resume.seq } });
  assert.deepEqual([anew.resumed, anew.missed], [false, undefined]);
});

test('a new token comes before the old one ends', async () => {
  const { roomId } = await newRoom();
  const ann = await joins(roomId, 'ann');
  const fresh = await ann.expect('token');
  assert.deepEqual(fields(fresh), ['expiresAt', 'iceServers', 'token']);
  assert.ok(Date.parse(fresh.expiresAt) > Date.parse(ann.joined.expiresAt));
  const again = await connected();
  assert.equal((await again.join(roomId, fresh.token)).error, undefined, 'it lets a new socket in');
});
