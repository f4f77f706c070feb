// Sessions with mediasoup-client's own fake browser, a room that answers by itself, and event streams that the test holds.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { FakeMediaStreamTrack } from 'fake-mediastreamtrack';
import { Device } from 'mediasoup-client';
import * as fakeParameters from 'mediasoup-client/fakeParameters';
import { FakeHandler } from 'mediasoup-client/handlers/FakeHandler';
import { Session } from '../page/src/session.js';

/** @typedef {import('../page/src/room-api.js').ProducerInfo} ProducerInfo */

const video = (/** @type {string} */ id, /** @type {string} */ participantId) => /** @type {ProducerInfo} */ ({ id, participantId, kind: 'video', paused: false });

/** A room that has what the test says and does what it is asked. */
class FakeRoom {
  epoch = 1;
  /** @type {ProducerInfo[]} */
  producers = [];
  /** @type {string[]} everything that was asked, in order */
  asked = [];
  /** @type {Map<string, {status: number, code: string}>} what is refused, by the beginning of its path */
  refused = new Map();
  #next = 0;

  describe() {
    return {
      id: 'default.demo',
      epoch: this.epoch,
      routerRtpCapabilities: fakeParameters.generateRouterRtpCapabilities(),
      participants: [...new Set(['alice', ...this.producers.map(({ participantId }) => participantId)])].map((id) => ({ id })),
      producers: this.producers,
    };
  }

  /** @param {string} url @param {{method: string, body?: string}} request */
  answer(url, { method, body }) {
    const path = url.replace('/api/rooms/default.demo', '');
    const given = body ? JSON.parse(body) : {};
    this.asked.push(`${method} ${path.replace(/[0-9a-f-]{36}/, '*')}${given.producerId ? ` ${given.producerId}` : ''}`);
    const refusal = [...this.refused].find(([beginning]) => `${path} ${given.producerId ?? ''}`.startsWith(beginning))?.[1];
    if (refusal) return [refusal.status, { code: refusal.code, detail: refusal.code }];
    if (path === '') return [200, this.describe()];
    if (path === '/transports') return [201, fakeParameters.generateTransportRemoteParameters()];
    if (path.endsWith('/produce')) {
      const id = `own-${(this.#next += 1)}`;
      this.producers.push({ id, participantId: 'alice', kind: given.kind });
      return [201, { id }];
    }
    if (path === '/consume') {
      const producer = this.producers.find(({ id }) => id === given.producerId);
      if (!producer) return [404, { code: 'producer-not-found', detail: 'gone' }];
      const codecMimeType = producer.kind === 'audio' ? 'audio/opus' : 'video/VP8';
      return [201, { ...fakeParameters.generateConsumerRemoteParameters({ codecMimeType }), producerId: producer.id, participantId: producer.participantId, producerPaused: false }];
    }
    return [200, {}];
  }
}

/** An event stream that the test speaks on. */
class FakeWebSocket {
  /** @type {FakeWebSocket[]} */
  static all = [];
  /** @type {any} */
  onopen;
  /** @type {any} */
  onclose;
  /** @type {any} */
  onmessage;
  isClosed = false;

  /** @param {URL} url @param {string[]} protocols */
  constructor(url, protocols) {
    this.url = url;
    this.protocols = protocols;
    FakeWebSocket.all.push(this);
    queueMicrotask(() => this.onopen());
  }

  /** @param {string} type @param {any} data */
  say(type, data) {
    this.onmessage({ data: JSON.stringify({ type, data }) });
  }

  close() {
    this.isClosed = true;
  }
}

const real = { fetch: globalThis.fetch, WebSocket: globalThis.WebSocket };
/** @type {FakeRoom} */
let room;
/** @type {any[][]} what the session told, as [what, ...about] */
let told;
/** @type {Session} */
let session;
/** @type {number} the epoch that the server gives tokens for */
let servedEpoch;

beforeEach(() => {
  room = new FakeRoom();
  told = [];
  servedEpoch = 1;
  FakeWebSocket.all = [];
  const fake = {
    location: { href: 'http://localhost/#room=default.demo' },
    WebSocket: FakeWebSocket,
    fetch: async (/** @type {string} */ url, /** @type {any} */ request) => {
      const [status, body] = room.answer(url, request);
      return Response.json(body, { status: Number(status) });
    },
  };
  Object.assign(globalThis, fake);
  const tell = (/** @type {string} */ what) => (/** @type {Session} */ _session, /** @type {any[]} */ ...about) => void told.push([what, ...about]);
  session = new Session({
    callId: 'default.demo',
    user: 'alice',
    epoch: 1,
    device: new Device({ handlerFactory: FakeHandler.createFactory(fakeParameters) }),
    tokens: {
      forEpoch: async (epoch) => ({ token: `token-${epoch}`, epoch, expiresAt: Infinity }),
      refresh: async () => {
        if (servedEpoch === 0) throw new Error('the API server is away');
        return { token: `token-${servedEpoch}`, epoch: servedEpoch, expiresAt: Infinity };
      },
    },
    listener: {
      onParticipant: tell('participant'), onParticipantLeft: tell('left'), onAnnounced: tell('announced'), onTrack: tell('track'),
      onTrackEnded: tell('ended'), onPaused: tell('paused'), onSpeaker: tell('speaker'), onOver: tell('over'), onEvent() {},
    },
  });
});

afterEach(() => {
  session.close();
  Object.assign(globalThis, real);
});

const tracks = () => Promise.resolve(/** @type {any[]} */ ([new FakeMediaStreamTrack({ kind: 'audio' }), new FakeMediaStreamTrack({ kind: 'video' })]));
/** Lets everything that was begun come to its end. */
const settle = () => new Promise((resolve) => setTimeout(resolve, 20));
const of = (/** @type {string} */ what) => told.filter(([kind]) => kind === what).map(([, ...about]) => about);
const consumed = () => of('track').map(([info]) => info.id);
const socket = () => /** @type {FakeWebSocket} */ (FakeWebSocket.all.at(-1));

test('a session publishes what it is given, once each, and consumes what is there', async () => {
  room.producers = [video('bob-video', 'bob')];
  await session.open(tracks());
  await settle();
  assert.deepEqual(room.asked.filter((line) => line.endsWith('/produce')).length, 2);
  assert.deepEqual(room.asked.filter((line) => line.endsWith('/connect')).length, 2);
  assert.deepEqual(consumed(), ['bob-video']);
  assert.ok(room.asked.some((line) => /consumers\/.*\/resume/.test(line)), 'consumers start paused');
  assert.deepEqual(socket().protocols, ['callplane.v1', 'bearer.token-1']);
  assert.deepEqual(of('participant').map(([{ id }]) => id), ['bob']);
});

test('whatever is announced twice is consumed once, and one is never consumed by oneself', async () => {
  await session.open(tracks());
  room.producers.push(video('bob-video', 'bob'));
  socket().say('room', room.describe());
  socket().say('new-producer', video('bob-video', 'bob'));
  socket().say('new-producer', video('own-9', 'alice'));
  await settle();
  assert.deepEqual(consumed(), ['bob-video']);
});

test('a track that ended before it could be consumed is no error, and its successor is consumed', async () => {
  await session.open(tracks());
  socket().say('new-producer', video('short-lived', 'bob'));
  await settle();
  assert.deepEqual(consumed(), []);
  room.producers.push(video('bob-video', 'bob'));
  socket().say('new-producer', video('bob-video', 'bob'));
  await settle();
  assert.deepEqual(consumed(), ['bob-video']);
});

test('the end of a track and of a participant ends what was consumed of it', async () => {
  room.producers = [video('bob-video', 'bob'), video('carol-video', 'carol')];
  await session.open(tracks());
  await settle();
  socket().say('producer-closed', { producerId: 'bob-video', participantId: 'bob' });
  socket().say('participant-left', { id: 'carol' });
  assert.deepEqual(of('ended').map(([info]) => info.id), ['bob-video', 'carol-video']);
  assert.deepEqual(of('left'), [['carol']]);
});

test('when the event stream comes back, what was missed is made up for', async () => {
  room.producers = [video('bob-video', 'bob')];
  await session.open(tracks());
  socket().say('room', room.describe());
  await settle();
  room.producers = [...room.producers.filter(({ participantId }) => participantId === 'alice'), video('carol-video', 'carol')];
  socket().onclose({ code: 1006, reason: '' });
  while (FakeWebSocket.all.length < 2) await settle();
  socket().say('room', room.describe());
  await settle();
  assert.deepEqual(of('ended').map(([info]) => info.id), ['bob-video']);
  assert.deepEqual(consumed(), ['bob-video', 'carol-video']);
  assert.deepEqual(of('over'), []);
});

test('the event stream comes back although nobody can say where the call is', async () => {
  await session.open(tracks());
  servedEpoch = 0;
  socket().onclose({ code: 1006, reason: '' });
  while (FakeWebSocket.all.length < 2) await settle();
  assert.deepEqual(socket().protocols, ['callplane.v1', 'bearer.token-1']);
  assert.deepEqual(of('over'), []);
});

test('a stream that is lost because the call has moved ends the session with the new epoch', async () => {
  await session.open(tracks());
  servedEpoch = 2;
  socket().onclose({ code: 1006, reason: '' });
  while (of('over').length === 0) await settle();
  const why = of('over')[0]?.[0];
  assert.equal(why.kind, 'route-changed');
  assert.equal(why.epoch, 2);
});

test('a node that has forgotten the participant ends the session', async () => {
  await session.open(tracks());
  socket().say('room', room.describe());
  room.producers = [];
  socket().onclose({ code: 1006, reason: '' });
  while (FakeWebSocket.all.length < 2) await settle();
  socket().say('room', room.describe());
  assert.deepEqual(of('over').map(([{ kind }]) => kind), ['transport-failed']);
});

test('whatever ends a session is told once', async () => {
  await session.open(tracks());
  socket().say('route-changed', { reason: 'moved', epoch: 1 });
  socket().say('room-closed', { reason: 'deleted' });
  assert.deepEqual(of('over').map(([{ kind }]) => kind), ['route-changed']);
});

test('being removed is told apart from the call being over', async () => {
  await session.open(tracks());
  socket().say('participant-left', { id: 'alice' });
  assert.deepEqual(of('over').map(([{ kind }]) => kind), ['removed']);
});

test('a refusal tells its code, and nothing is left open', async () => {
  room.refused.set('/transports', { status: 409, code: 'epoch-stale' });
  await assert.rejects(session.open(tracks()), (/** @type {any} */ error) => error.code === 'epoch-stale' && error.status === 409);
  session.close();
  assert.equal(FakeWebSocket.all.length, 0);
});

test('a closed session listens to nothing any more', async () => {
  await session.open(tracks());
  const events = socket();
  session.close();
  assert.ok(events.isClosed);
  events.say('new-producer', video('bob-video', 'bob'));
  await settle();
  assert.deepEqual(consumed(), []);
});
