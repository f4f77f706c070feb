// One stay in a call, on one route: the transports, what is published on them, what is consumed.

import { Device } from 'mediasoup-client';
import { EventStream } from './events.js';
import { ApiError, RoomApi } from './room-api.js';

/**
 * @typedef {import('mediasoup-client').types.Transport} Transport
 * @typedef {import('mediasoup-client').types.Consumer} Consumer
 * @typedef {import('mediasoup-client').types.Producer} Producer
 * @typedef {import('./room-api.js').ProducerInfo} ProducerInfo
 * @typedef {import('./room-api.js').Participant} Participant
 * @typedef {import('./room-api.js').Room} Room
 * @typedef {import('./tokens.js').Tokens} Tokens
 *
 * @typedef {{
 *   onParticipant(session: Session, participant: Participant): void,
 *   onParticipantLeft(session: Session, participantId: string): void,
 *   onAnnounced(session: Session, producer: ProducerInfo): void,
 *   onTrack(session: Session, producer: ProducerInfo, consumer: Consumer): void,
 *   onTrackEnded(session: Session, producer: ProducerInfo, consumer: Consumer): void,
 *   onPaused(session: Session, producer: ProducerInfo, paused: boolean): void,
 *   onSpeaker(session: Session, participantId: string | undefined): void,
 *   onOver(session: Session, why: Over): void,
 *   onEvent(session: Session, type: string, data: unknown): void,
 * }} SessionListener
 * @typedef {{kind: 'route-changed' | 'room-closed' | 'transport-failed' | 'removed', detail: string, epoch?: number}} Over
 */

/** The picture is good from the start: without it the estimate begins at 300 kbit/s and the size at 180p. */
const START_BITRATE_KBPS = 1000;
const MAX_VIDEO_BITRATE = 1_500_000;

export class Session {
  /** @type {Transport | undefined} */
  sendTransport;
  /** @type {Transport | undefined} */
  recvTransport;
  /** @type {Map<string, {info: ProducerInfo, consumer?: Consumer}>} consumed producers, by id */
  consumed = new Map();
  /** @type {Map<string, Producer>} by kind */
  producers = new Map();
  /** @type {EventStream | undefined} */
  events;
  closed = false;
  /** Another session is taking over: what is new is its to consume. */
  isHandingOver = false;
  /** Set by the first sign that this stay has come to its end from outside. */
  over = false;
  #device;
  #roomsSeen = 0;

  /**
   * @param {{callId: string, user: string, epoch: number, tokens: Pick<Tokens, 'forEpoch' | 'refresh'>, listener: SessionListener, device?: Device}} options
   */
  constructor({ callId, user, epoch, tokens, listener, device = new Device() }) {
    this.#device = device;
    this.user = user;
    this.epoch = epoch;
    this.tokens = tokens;
    this.listener = listener;
    this.callId = callId;
    // A session speaks for its own epoch only: a token of a later one would be for another node.
    this.api = new RoomApi(callId, async () => (await tokens.forEpoch(epoch)).token);
  }

  /**
   * Everything that does not wait for something else is asked at once.
   * @param {Promise<MediaStreamTrack[]>} tracks published as soon as they are there
   */
  async open(tracks) {
    const [room, send, recv] = await Promise.all([
      this.api.room(),
      this.api.createTransport('send'),
      this.api.createTransport('recv'),
    ]);
    await this.#device.load({ routerRtpCapabilities: room.routerRtpCapabilities });
    if (this.closed) return;
    this.sendTransport = this.#wire(this.#device.createSendTransport(send));
    this.recvTransport = this.#wire(this.#device.createRecvTransport(recv));
    this.sendTransport.on('produce', ({ kind, rtpParameters, appData }, done, fail) => {
      this.api.produce(send.id, { kind, rtpParameters, appData }).then(done, fail);
    });
    this.#learn(room);
    // Its first event is the room as it is by then, so nothing that happened in between is missed.
    this.#listen();
    await Promise.all((await tracks).map((track) => this.publish(track)));
  }

  /** Whether one of the connections has lost its other end, for now. */
  get isDisconnected() {
    return [this.sendTransport, this.recvTransport].some((transport) => transport?.connectionState === 'disconnected');
  }

  /** The connections end here; the node notices by itself (DTLS close_notify). */
  close() {
    if (this.closed) return;
    this.closed = true;
    this.events?.close();
    this.sendTransport?.close();
    this.recvTransport?.close();
  }

  #listen() {
    this.events = new EventStream(this.callId, {
      token: async (first) => {
        // The connection was lost: maybe the call has moved, and nobody could tell us.
        // Whoever knows that may be away: then back to where we were.
        if (!first) await this.lookForNewRoute().catch(() => {});
        return (await this.tokens.forEpoch(this.epoch)).token;
      },
      onEvent: ({ type, data }) => this.#onEvent(type, data ?? {}),
      onState: (state, detail) => this.listener.onEvent(this, `events-${state}`, detail),
    });
  }

  /** Asks where the call is now; if elsewhere, this stay is over. */
  async lookForNewRoute() {
    const { epoch } = await this.tokens.refresh();
    if (epoch > this.epoch) this.#end({ kind: 'route-changed', detail: 'the call has moved', epoch });
  }

  /** @param {string} type @param {any} data */
  #onEvent(type, data) {
    this.listener.onEvent(this, type, data);
    switch (type) {
      case 'room':
        this.#roomsSeen += 1;
        if (this.#roomsSeen > 1 && this.#isForgotten(data)) return this.#end({ kind: 'transport-failed', detail: 'the media node has restarted' });
        return this.#learn(data);
      case 'participant-joined':
        return this.listener.onParticipant(this, data);
      case 'participant-left':
        return this.#forget(data.id ?? data.participantId);
      case 'new-producer':
        return this.#consume(data);
      case 'producer-closed':
        return this.#drop(data.producerId ?? data.id);
      case 'consumer-closed':
        return this.#drop(data.producerId ?? this.#producerOf(data.consumerId ?? data.id)?.info.id);
      case 'consumer-paused':
      case 'consumer-resumed': {
        const entry = this.consumed.get(data.producerId) ?? this.#producerOf(data.consumerId ?? data.id);
        if (entry) this.listener.onPaused(this, entry.info, type === 'consumer-paused');
        return undefined;
      }
      case 'active-speaker':
        return this.listener.onSpeaker(this, data.participantId);
      case 'route-changed':
        return this.#end({ kind: 'route-changed', detail: data.reason ?? 'the call has moved', epoch: data.epoch });
      case 'room-closed':
        return this.#end({ kind: 'room-closed', detail: data.reason ?? 'the call was closed', epoch: data.epoch });
      default:
        return undefined;
    }
  }

  /** The room as a whole: on joining, and whenever the event stream is back and may have missed something. @param {Room} room */
  #learn(room) {
    const present = new Set(room.producers.map(({ id }) => id));
    for (const participant of room.participants) {
      if (participant.id !== this.user) this.listener.onParticipant(this, participant);
    }
    for (const id of this.consumed.keys()) if (!present.has(id)) this.#drop(id);
    for (const producer of room.producers) this.#consume(producer);
  }

  /** The other session did not come to be: on with this one, and with what it has missed. */
  async takeBack() {
    this.isHandingOver = false;
    this.#learn(await this.api.room());
  }

  /** @param {ProducerInfo} info */
  #consume(info) {
    if (this.closed || this.isHandingOver || info.participantId === this.user || this.consumed.has(info.id)) return;
    this.consumed.set(info.id, { info });
    this.listener.onAnnounced(this, info);
    this.#consumeNow(info).catch((error) => {
      this.consumed.delete(info.id);
      // It ended before we came to it, or we did.
      if (this.closed || (error instanceof ApiError && error.status === 404)) return;
      this.listener.onEvent(this, 'consume-failed', `${info.participantId} ${info.kind}: ${error.message}`);
    });
  }

  /** @param {ProducerInfo} info */
  async #consumeNow(info) {
    const transport = this.recvTransport;
    if (!transport) throw new Error('no transport to receive on');
    const offer = await this.api.consume(transport.id, info.id, this.#device.recvRtpCapabilities);
    const consumer = await transport.consume({
      id: offer.id,
      producerId: info.id,
      kind: offer.kind,
      rtpParameters: offer.rtpParameters,
      // One stream id per participant keeps sound and picture in step.
      streamId: info.participantId,
    });
    const entry = this.consumed.get(info.id);
    if (!entry || this.closed) return consumer.close();
    entry.consumer = consumer;
    this.listener.onTrack(this, info, consumer);
    if (offer.producerPaused || info.paused) this.listener.onPaused(this, info, true);
    await this.api.resume(consumer.id);
  }

  /** @param {string | undefined} producerId */
  #drop(producerId) {
    const entry = producerId === undefined ? undefined : this.consumed.get(producerId);
    if (!entry) return;
    this.consumed.delete(entry.info.id);
    entry.consumer?.close();
    if (entry.consumer) this.listener.onTrackEnded(this, entry.info, entry.consumer);
  }

  /** A node that was restarted knows the room again, but nothing that was in it. @param {Room} room */
  #isForgotten(room) {
    const own = [...this.producers.values()].map(({ id }) => id);
    return own.length > 0 && !room.producers.some(({ id }) => own.includes(id));
  }

  /** @param {string} participantId */
  #forget(participantId) {
    if (participantId === this.user) return this.#end({ kind: 'removed', detail: 'You were removed from the call.' });
    for (const { info } of [...this.consumed.values()]) if (info.participantId === participantId) this.#drop(info.id);
    this.listener.onParticipantLeft(this, participantId);
  }

  /** @param {string | undefined} consumerId */
  #producerOf(consumerId) {
    return [...this.consumed.values()].find(({ consumer }) => consumer?.id === consumerId);
  }

  /** @param {MediaStreamTrack} track */
  async publish(track) {
    if (this.closed || !this.sendTransport) return;
    const video = track.kind === 'video';
    const vp8 = this.#device.sendRtpCapabilities.codecs?.find(({ mimeType }) => mimeType.toLowerCase() === 'video/vp8');
    const producer = await this.sendTransport.produce({
      track,
      // The same track goes on to the next session.
      stopTracks: false,
      ...(video
        ? {
            codec: vp8,
            encodings: [{ maxBitrate: MAX_VIDEO_BITRATE }],
            codecOptions: { videoGoogleStartBitrate: START_BITRATE_KBPS },
          }
        : {}),
    });
    this.producers.set(track.kind, producer);
    if (!track.enabled) await this.pause(track.kind, true);
  }

  /** @param {string} kind @param {boolean} paused */
  async pause(kind, paused) {
    const producer = this.producers.get(kind);
    if (producer) await this.api.pause(producer.id, paused);
  }

  /** @param {string} kind */
  async unpublish(kind) {
    const producer = this.producers.get(kind);
    if (!producer) return;
    this.producers.delete(kind);
    producer.close();
    await this.api.unpublish(producer.id);
  }

  /** @param {Transport} transport */
  #wire(transport) {
    transport.on('connect', ({ dtlsParameters }, done, fail) => {
      this.api.connect(transport.id, dtlsParameters).then(done, fail);
    });
    transport.on('connectionstatechange', (state) => {
      if (this.closed) return;
      this.listener.onEvent(this, `transport-${state}`, transport.direction);
      if (state === 'failed') this.#end({ kind: 'transport-failed', detail: `the ${transport.direction} connection failed` });
    });
    return transport;
  }

  /** @param {Over} why */
  #end(why) {
    if (this.over || this.closed) return;
    this.over = true;
    this.listener.onOver(this, why);
  }
}
