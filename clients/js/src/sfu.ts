// Through a media server: mediasoup-client over the media node's HTTP API.

import type { types } from 'mediasoup-client';
import { newDevice, warmUp } from './device.ts';
import { CallError } from './error.ts';
import { activeLayers, encodingsFor } from './encodings.ts';
import { kindOf, type Path, type PathListener, type RemoteTrack, type Source } from './path.ts';
import { RoomApi } from './room-api.ts';
import { START_BITRATE_KBPS } from './sdp.ts';
import { sleep } from './timing.ts';
import type { ProducerInfo, ServerEvent, ServerEvents } from './wire.ts';

const FAILED = 'TransportFailed';
/** How long a connection that says `disconnected` may come back by itself, in milliseconds. */
const DISCONNECTED_MS = 2000;
/** What is published first takes longest until it is seen: pictures need an encoder and a key frame. */
const PUBLISHED: readonly Source[] = ['camera', 'microphone', 'screen'];
/** Producers that are remembered until there is something to receive on: all that a room may have is read again later. */
const MAX_EARLY = 256;
/** When the room is read again: the gateway tells what happens, but may come to listen after we have looked. */
const LOOK_AGAIN_MS = [800, 3000];

interface Publication {
  track: MediaStreamTrack;
  producer: types.Producer;
  /** What is asked of its sender is asked one after the other. */
  limits: Promise<void>;
}
interface Subscription {
  info: ProducerInfo;
  source: Source;
  consumer?: types.Consumer;
  remote?: RemoteTrack;
  paused: boolean;
}

export interface SfuOptions {
  epoch: number;
  self: string;
  apiUrl: string;
  token: () => string;
  iceServers: RTCIceServer[];
  rtpCapabilities: types.RtpCapabilities | undefined;
  listener: PathListener;
  /** Told how far it is. */
  mark?: (step: string) => void;
}

export class Sfu implements Path {
  readonly mode = 'SFU';
  readonly epoch: number;
  #options: SfuOptions;
  #api: RoomApi;
  #device = newDevice();
  #send: types.Transport | undefined;
  #recv: types.Transport | undefined;
  /** Ids of the transports that the node has made for us. */
  #made: string[] = [];
  #published = new Map<Source, Publication>();
  #publishing: Promise<void> = Promise.resolve();
  /** By producer id. */
  #subscribed = new Map<string, Subscription>();
  /** Producers that were told of before there was anything to receive on. */
  #early: ProducerInfo[] = [];
  /** Producers that have ended: an answer that is under way may still name them. */
  #ended = new Set<string>();
  #stop = new AbortController();

  constructor(options: SfuOptions) {
    this.epoch = options.epoch;
    this.#options = options;
    this.#api = new RoomApi(options.apiUrl, options.token, this.#stop.signal);
  }

  get #closed(): boolean {
    return this.#stop.signal.aborted;
  }

  /** Everything that does not wait for something else is asked at once. */
  async open(local: ReadonlyMap<Source, MediaStreamTrack>): Promise<void> {
    const { rtpCapabilities } = this.#options;
    void warmUp();
    const room = this.#api.room();
    const loaded = (async () => this.#device.load({ routerRtpCapabilities: rtpCapabilities ?? (await room).routerRtpCapabilities }))();
    // Whichever of them fails first says why there is no way.
    room.catch(() => {});
    const make = async (direction: 'send' | 'recv') => {
      const made = await this.#api.createTransport(direction);
      this.#made.push(made.id);
      return made;
    };
    const [send, recv] = await Promise.all([
      make('send'),
      make('recv'),
      loaded.then(() => this.#mark('loaded')),
    ]);
    if (this.#closed) return;
    this.#mark('transports');
    const { iceServers } = this.#options;
    this.#send = this.#wire(this.#device.createSendTransport({ ...send, iceServers }));
    this.#recv = this.#wire(this.#device.createRecvTransport({ ...recv, iceServers }));
    this.#send.on('produce', ({ kind, rtpParameters, appData }, done, fail) => {
      this.#api.produce(send.id, { kind, rtpParameters, appData }).then(done, fail);
    });
    const publishing = Promise.all(PUBLISHED.map((source) => this.publish(source, local.get(source))));
    this.#learn([...(await room).producers, ...this.#early.splice(0)]);
    this.#mark('listed');
    void this.#lookAgain();
    await publishing;
  }

  #mark(step: string): void {
    this.#options.mark?.(step);
  }

  publish(source: Source, track: MediaStreamTrack | undefined): Promise<void> {
    const done = this.#publishing.then(() => this.#publish(source, track));
    this.#publishing = done.catch(() => {});
    return done;
  }

  setIceServers(iceServers: RTCIceServer[]): void {
    this.#options = { ...this.#options, iceServers };
  }

  setPaused(source: Source, paused: boolean): void {
    const published = this.#published.get(source);
    // It is a courtesy to the others: the track itself is silent already.
    if (published) this.#api.pause(published.producer.id, paused).catch(() => {});
  }

  setPeers(userIds: ReadonlySet<string>): void {
    for (const { info } of [...this.#subscribed.values()]) {
      if (!userIds.has(info.participantId)) this.#drop(info.id);
    }
  }

  isConnected(): boolean {
    const isUp = (transport: types.Transport | undefined) => !transport || transport.connectionState === 'connected';
    return (this.#published.size === 0 || isUp(this.#send)) && (this.#subscribed.size === 0 || isUp(this.#recv));
  }

  expected(): RemoteTrack[] {
    return [...this.#subscribed.values()].flatMap(({ remote, paused }) => (remote && !paused ? [remote] : []));
  }

  /** What was announced and is not there yet. */
  get isSubscribing(): boolean {
    return [...this.#subscribed.values()].some(({ remote }) => !remote);
  }

  reports(): Promise<RTCStatsReport[]> {
    const open = [this.#send, this.#recv].filter((transport) => transport && !transport.closed);
    return Promise.all(open.map((transport) => transport!.getStats()));
  }

  close(): void {
    if (this.#closed) return;
    this.#stop.abort();
    // Where there is a connection the node notices by itself (DTLS close_notify).
    const connected = [this.#send, this.#recv].filter((transport) => transport?.connectionState === 'connected');
    for (const id of this.#made) if (!connected.some((transport) => transport?.id === id)) this.#api.abandon(id);
    this.#send?.close();
    this.#recv?.close();
    for (const id of [...this.#subscribed.keys()]) this.#drop(id);
  }

  /** What the media node tells. */
  onEvent<Name extends ServerEvent>(name: Name, data: ServerEvents[Name]): void {
    const handle = this.#handlers[name] as ((data: ServerEvents[Name]) => void) | undefined;
    handle?.(data);
  }

  #handlers: { [Name in ServerEvent]?: (data: ServerEvents[Name]) => void } = {
    room: (data) => this.#onRoom(data),
    'new-producer': (data) => this.#subscribe(data),
    'producer-closed': (data) => this.#onProducerClosed(data),
    'consumer-closed': (data) => this.#onConsumerClosed(data),
    'consumer-paused': (data) => this.#onConsumerPaused(data, true),
    'consumer-resumed': (data) => this.#onConsumerPaused(data, false),
    'producer-layers-wanted': (data) => this.#onLayersWanted(data),
  };

  /** All that is published now, as told when the gateway has begun, or begun again, to listen to the media node. */
  #onRoom({ producers }: ServerEvents['room']): void {
    if (this.#recv && !this.#closed) this.#learn(producers);
    else this.#early = producers;
  }

  #onProducerClosed({ producerId, closedBy }: ServerEvents['producer-closed']): void {
    this.#ended.add(producerId);
    this.#drop(producerId);
    const own = [...this.#published].find(([, { producer }]) => producer.id === producerId);
    if (own && closedBy !== undefined) {
      own[1].producer.close();
      this.#published.delete(own[0]);
    }
  }

  #onConsumerClosed({ consumerId, producerId }: ServerEvents['consumer-closed']): void {
    if (this.#subscribed.get(producerId)?.consumer?.id === consumerId) this.#drop(producerId);
  }

  #onConsumerPaused({ consumerId, producerId }: { consumerId: string; producerId: string }, paused: boolean): void {
    const entry = this.#subscribed.get(producerId);
    if (!entry || entry.consumer?.id !== consumerId) return;
    entry.paused = paused;
    if (entry.remote) this.#options.listener.onPaused(entry.remote, paused);
  }

  #onLayersWanted({ producerId, spatialLayer }: ServerEvents['producer-layers-wanted']): void {
    const own = [...this.#published.values()].find(({ producer }) => producer.id === producerId);
    if (own) this.#sendUpTo(own, spatialLayer);
  }

  /** What nobody watches rests; for the room the track is as it was. It is a hint: what is sent all the same does no harm. */
  #sendUpTo(publication: Publication, layer: number | null): void {
    publication.limits = publication.limits.then(() => limit(publication.producer.rtpSender, layer)).catch(() => {});
  }

  #learn(producers: ProducerInfo[]): void {
    const present = new Set(producers.map(({ id }) => id));
    for (const id of this.#subscribed.keys()) if (!present.has(id)) this.#drop(id);
    for (const producer of producers) this.#subscribe(producer);
  }

  /** The connection to the gateway is back. What was wanted of us meanwhile nobody says again: we send all until we are told. */
  async resume(): Promise<void> {
    for (const publication of this.#published.values()) this.#sendUpTo(publication, Infinity);
    await this.look();
  }

  /** Reads the room again: after a lost connection, and a few times at the beginning. */
  async look(): Promise<void> {
    if (this.#closed || !this.#recv) return;
    const room = await this.#api.room();
    if (!this.#closed) this.#learn(room.producers);
  }

  async #lookAgain(): Promise<void> {
    for (const ms of LOOK_AGAIN_MS) {
      await sleep(ms, this.#stop.signal);
      await this.look().catch(() => {});
    }
  }

  async #publish(source: Source, track: MediaStreamTrack | undefined): Promise<void> {
    const published = this.#published.get(source);
    if (this.#closed || !this.#send || published?.track === track) return;
    if (published && track && !isResized(published.track, track)) {
      published.track = track;
      return published.producer.replaceTrack({ track });
    }
    if (published) {
      this.#published.delete(source);
      published.producer.close();
      await this.#api.unpublish(published.producer.id).catch(() => {});
    }
    if (!track || this.#closed) return;
    const isVideo = kindOf(source) === 'video';
    const producer = await this.#send.produce({
      track,
      // The same track goes on to other paths.
      stopTracks: false,
      disableTrackOnPause: false,
      appData: { source },
      ...(isVideo
        ? { encodings: encodingsFor(source, track.getSettings()), codecOptions: { videoGoogleStartBitrate: START_BITRATE_KBPS } }
        : {}),
    });
    this.#published.set(source, { track, producer, limits: Promise.resolve() });
    this.#mark(`${source} published`);
    if (!track.enabled) this.setPaused(source, true);
  }

  #subscribe(info: ProducerInfo): void {
    if (!this.#recv && this.#early.length < MAX_EARLY) this.#early.push(info);
    if (this.#closed || !this.#recv || info.participantId === this.#options.self || this.#subscribed.has(info.id) || this.#ended.has(info.id)) return;
    this.#subscribed.set(info.id, { info, source: sourceOf(info), paused: info.paused ?? false });
    this.#consume(info).catch((error) => {
      this.#subscribed.delete(info.id);
      // It ended before we came to it, or we did.
      if (this.#closed || (error instanceof CallError && error.status === 404)) return;
      console.warn('a track could not be subscribed', error);
    });
  }

  async #consume(info: ProducerInfo): Promise<void> {
    if (!this.#recv) throw new CallError('not-in-room', 'there is no transport to receive on yet', 404);
    // Sound needs no beginning to begin with, as a picture needs a key frame: it may come before we are ready.
    const paused = info.kind === 'video';
    const offer = await this.#api.consume(this.#recv.id, info.id, this.#device.recvRtpCapabilities, paused);
    const consumer = await this.#recv.consume({
      id: offer.id,
      producerId: info.id,
      kind: offer.kind,
      rtpParameters: offer.rtpParameters,
      // One stream id per participant and picture keeps sound and picture in step.
      streamId: sourceOf(info) === 'screen' ? `${info.participantId}:screen` : info.participantId,
    });
    const entry = this.#subscribed.get(info.id);
    if (!entry || this.#closed) return consumer.close();
    entry.consumer = consumer;
    entry.paused = offer.producerPaused;
    entry.remote = {
      userId: info.participantId,
      source: entry.source,
      track: consumer.track,
      ...(consumer.rtpReceiver ? { receiver: consumer.rtpReceiver } : {}),
      epoch: this.epoch,
    };
    this.#options.listener.onTrack(entry.remote);
    if (entry.paused) this.#options.listener.onPaused(entry.remote, true);
    if (paused) await this.#api.resume(consumer.id);
  }

  #drop(producerId: string): void {
    const entry = this.#subscribed.get(producerId);
    if (!entry) return;
    this.#subscribed.delete(producerId);
    entry.consumer?.close();
    if (entry.remote) this.#options.listener.onTrackEnded(entry.remote);
  }

  #wire(transport: types.Transport): types.Transport {
    transport.on('connect', ({ dtlsParameters }, done) => {
      // Our side goes on meanwhile: its first packet comes later than this.
      done();
      this.#api.connect(transport.id, dtlsParameters).catch(() => {
        if (!this.#closed && transport.connectionState !== 'connected') this.#options.listener.onFailed(this.epoch, FAILED);
      });
    });
    transport.on('connectionstatechange', (state) => {
      if (state === 'connected') this.#mark(`${transport.direction} connected`);
      if (state === 'disconnected') void this.#restart(transport);
      if (state === 'failed' && !this.#closed) this.#options.listener.onFailed(this.epoch, FAILED);
    });
    return transport;
  }

  async #restart(transport: types.Transport): Promise<void> {
    await sleep(DISCONNECTED_MS, this.#stop.signal);
    if (this.#closed || transport.connectionState !== 'disconnected') return;
    try {
      const { iceParameters } = await this.#api.restartIce(transport.id);
      // Only here: a connection that flows would begin again because of them.
      await transport.updateIceServers({ iceServers: this.#options.iceServers });
      await transport.restartIce({ iceParameters });
    } catch (error) {
      console.warn('ICE could not be restarted', error);
    }
  }
}

/** Lets go out what is watched. Directly, since with mediasoup-client a layer costs a negotiation, and all of them cannot rest. */
async function limit(sender: RTCRtpSender | undefined, wanted: number | null): Promise<void> {
  const parameters = sender?.getParameters();
  if (!sender || !parameters?.encodings?.length) return;
  const active = activeLayers(parameters.encodings.length, wanted);
  for (const [layer, encoding] of parameters.encodings.entries()) encoding.active = active[layer] ?? true;
  await sender.setParameters(parameters);
}

/** Other sizes want other layers. */
function isResized(before: MediaStreamTrack, after: MediaStreamTrack): boolean {
  return before.kind === 'video' && before.getSettings().height !== after.getSettings().height;
}

function sourceOf({ kind, appData }: ProducerInfo): Source {
  if (kind === 'audio') return 'microphone';
  return appData?.source === 'screen' ? 'screen' : 'camera';
}
