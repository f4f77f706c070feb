// A call as a person has it: who is there, what is seen and heard, whichever way the media goes.

import { OVER, type CallEvents, type CallState, type Participant } from './call-events.ts';
import type { CallError } from './error.ts';
import { Emitter } from './emitter.ts';
import { LocalMedia, type Devices } from './local-media.ts';
import { SOURCES, type RemoteTrack, type Source } from './path.ts';
import { Paths } from './paths.ts';
import { QualityMeter, type Quality } from './quality.ts';
import type { Rendering } from './rendering.ts';
import * as roster from './roster.ts';
import type { Signalling, SignallingEvents } from './signalling.ts';
import { waitFor } from './routes.ts';
import { SpeakerMeter } from './speaker.ts';
import { Stage } from './stage.ts';
import { claims, Tokens } from './tokens.ts';
import type { ChatMessage, FreshToken, Joined, Level, Mode, WireParticipant } from './wire.ts';

/** How often quality is told, who speaks is looked at, and what is due is done, in milliseconds. */
const QUALITY_MS = 2000;
const SPEAKER_MS = 200;
const HOUSEKEEPING_MS = 1000;
/** Messages of the chat that are kept. */
const MAX_CHAT = 500;

export interface CallOptions {
  url: string;
  signalling: Signalling;
  media: LocalMedia;
  rendering: Rendering;
  tokens: Tokens;
}

export class Call extends Emitter<CallEvents> {
  readonly media: LocalMedia;
  #signalling: Signalling;
  #tokens: Tokens;
  #paths: Paths;
  #stage: Stage;
  #state: CallState = 'joining';
  #self: WireParticipant | undefined;
  #roster = roster.NOBODY;
  #levels = new Map<string, Level>();
  /** Whose source has come, by whichever path. */
  #seen = new Set<string>();
  #speaking: string | undefined;
  /** Who speaks, as the media server said last. */
  #loudest: string | undefined;
  #meter = new SpeakerMeter();
  #chat: ChatMessage[] = [];
  #locked = false;
  #mode: Mode | undefined;
  #quality: Quality | undefined;
  #qualityMeter = new QualityMeter();
  #timers: ReturnType<typeof setInterval>[];
  #refreshing = false;

  constructor({ url, signalling, media, rendering, tokens }: CallOptions) {
    super();
    this.media = media;
    this.#signalling = signalling;
    this.#tokens = tokens;
    this.#stage = new Stage(rendering, {
      onShown: (_userId, _source, track) => this.#told(track),
      onProgress: () => this.#paths.progress(),
      onStarted: (track) => this.#onStarted(track),
    });
    this.#paths = new Paths({
      url,
      self: () => this.#self?.userId ?? '',
      tokens,
      local: media.tracks,
      peers: () => new Set(this.#roster.present.keys()),
      isShown: (epoch) => this.#isShown(epoch),
      listener: {
        onTrack: (track) => this.#stage.add(track),
        onTrackEnded: (track) => this.#stage.remove(track),
        onPaused: (track, paused) => this.#stage.setPaused(track, paused),
      },
      ack: (epoch, success, reason) => signalling.tell('route-ack', { epoch, success, ...(reason ? { reason } : {}) }),
      send: (event, data) => signalling.ask(event, data),
      onChange: () => this.#onMode(),
      onSwitch: (measured) => this.emit('switched', measured),
    });
    signalling.on('joined', (joined) => this.#onJoined(joined));
    signalling.on('event', (event) => this.#onEvent(event));
    signalling.on('down', () => this.#state === 'joined' && this.#become('reconnecting'));
    signalling.on('refused', (error) => this.#end(error.code === 'room-ended' ? 'ended' : 'failed', error));
    media.on('track', ({ source, track }) => {
      this.#paths.publish(source, track).catch((error) => console.warn(`${source} is not sent`, error));
      this.#tellState();
      this.emit('local', { source, track });
    });
    media.on('muted', () => {
      this.#paths.eachSfu((path) => path.setPaused('microphone', media.isMuted));
      this.#tellState();
    });
    this.#timers = [
      setInterval(() => void this.#measure(), QUALITY_MS),
      setInterval(() => this.#listen(), SPEAKER_MS),
      setInterval(() => this.#keepHouse(), HOUSEKEEPING_MS),
    ];
  }

  get state(): CallState {
    return this.#state;
  }

  /** How media goes: `undefined` until that is known. */
  get mode(): Mode | undefined {
    return this.#mode;
  }

  get epoch(): number {
    return this.#paths.epoch;
  }

  /** Whether the call is going from one route to another now. */
  get isSwitching(): boolean {
    return this.#paths.isSwitching;
  }

  get isLocked(): boolean {
    return this.#locked;
  }

  get quality(): Quality | undefined {
    return this.#quality;
  }

  get chat(): readonly ChatMessage[] {
    return this.#chat;
  }

  get self(): Participant | undefined {
    return this.#self && this.#describe(this.#self);
  }

  /** Everybody else. */
  get participants(): readonly Participant[] {
    return [...this.#roster.present.values()].map((participant) => this.#describe(participant));
  }

  /** Whether this participant may mute and remove others, lock and end the call. */
  get isHost(): boolean {
    return this.#self?.role === 'host' || this.#self?.role === 'admin';
  }

  setMuted(muted: boolean): Promise<void> {
    return this.media.setMuted(muted);
  }

  setCamera(on: boolean): Promise<void> {
    return this.media.setCamera(on);
  }

  shareScreen(on: boolean): Promise<void> {
    return this.media.setScreen(on);
  }

  use(devices: Devices): Promise<void> {
    return this.media.use(devices);
  }

  /** Rejects with the gateway's `CallError`; everybody, we too, get the message as `chat`. */
  async send(text: string): Promise<void> {
    await this.#signalling.ask('chat', { text });
  }

  async mute(userId: string): Promise<void> {
    await this.#signalling.ask('host:mute', { userId });
  }

  async remove(userId: string): Promise<void> {
    await this.#signalling.ask('host:remove', { userId });
  }

  async lock(locked: boolean): Promise<void> {
    await this.#signalling.ask('host:lock', { locked });
  }

  /** Ends the call for everybody. */
  async end(): Promise<void> {
    await this.#signalling.ask('host:end', {}).catch((error) => {
      // The call may be over before the answer comes.
      if (this.#state !== 'ended') throw error;
    });
  }

  async leave(): Promise<void> {
    if (this.#isOver) return;
    const left = this.#signalling.leave();
    this.#end('left');
    await left;
  }

  async reports(): Promise<RTCStatsReport[]> {
    const reports = await Promise.all(this.#paths.all.map((path) => path.reports().catch(() => [])));
    return reports.flat();
  }

  cutSignalling(): void {
    this.#signalling.cut();
  }

  get #isOver(): boolean {
    return OVER.includes(this.#state);
  }

  #onJoined(joined: Joined): void {
    const { route, self, participants } = joined;
    this.#self = self;
    this.#locked = joined.locked;
    this.#setRoster(roster.named(this.#roster, participants, joined.resumed, performance.now()));
    for (const message of joined.chat) this.#hear(message);
    this.#become('joined');
    this.#paths.route({ ...joined, ...route }, waitFor(joined));
    this.emit('locked', this.#locked);
  }

  #onEvent({ name, data }: SignallingEvents['event']): void {
    switch (name) {
      case 'call:participant-joined':
        this.#setRoster(roster.joined(this.#roster, data));
        return this.emit('joined', this.#describe(data));
      case 'call:participant-left':
        if (data.reason !== 'disconnected') return this.#onLeft(data.userId, data.reason ?? 'left');
        this.#roster = roster.lost(this.#roster, data.userId, performance.now() + roster.RETURN_SOON_MS);
        return;
      case 'call:mode-switch':
        return this.#paths.route(data);
      case 'call:mode-switched':
        return this.#paths.switched(data.epoch, data.success);
      case 'webrtc:offer':
      case 'webrtc:answer':
        return this.#paths.onDescription(name === 'webrtc:offer' ? 'offer' : 'answer', data);
      case 'webrtc:ice-candidate':
        return this.#paths.onCandidate(data);
      case 'state-changed':
        this.#roster = roster.changed(this.#roster, data.userId, data);
        return this.#told();
      case 'chat':
        return this.#hear(data);
      case 'quality':
        this.#levels.set(data.userId, data.level);
        return this.#told();
      case 'token':
        return this.#onToken(data);
      case 'call:muted':
        void this.media.setMuted(true);
        return this.emit('muted', data);
      case 'call:locked':
        this.#locked = data.locked;
        return this.emit('locked', data.locked);
      case 'call:removed':
        return this.#end('removed');
      case 'call:ended':
        return this.#end('ended');
      case 'call:replaced':
        return this.#end('replaced');
      case 'active-speaker':
        this.#loudest = data.participantId;
        return this.#mode === 'SFU' ? this.#setSpeaking(this.#loudest) : undefined;
      default:
        return this.#paths.onMediaEvent(name, data);
    }
  }

  #onLeft(userId: string, reason: string): void {
    const participant = this.#roster.present.get(userId);
    if (!participant) return;
    const described = this.#describe(participant);
    this.#setRoster(roster.left(this.#roster, userId));
    for (const source of SOURCES) this.#seen.delete(`${source} ${userId}`);
    this.emit('left', { participant: described, reason });
  }

  #setRoster(next: roster.Roster): void {
    this.#roster = next;
    for (const userId of this.#levels.keys()) if (!next.present.has(userId)) this.#levels.delete(userId);
    this.#paths?.setPeers(new Set(next.present.keys()));
    this.#told();
  }

  /** Whether everything that there is to be seen and heard comes by this path. */
  #isShown(epoch: number): boolean {
    const before = this.#stage.shown();
    for (const participant of this.#roster.present.values()) {
      const { userId, isMuted, isVideoOn } = participant;
      if (this.#roster.missing.has(userId)) continue;
      const shares = before.some((shown) => shown.userId === userId && shown.source === 'screen');
      const wanted: [Source, boolean][] = [['microphone', !isMuted], ['camera', isVideoOn], ['screen', shares]];
      if (wanted.some(([source, is]) => is && !this.#stage.isShownBy(epoch, userId, source))) return false;
    }
    return true;
  }

  #onMode(): void {
    const mode = this.#paths?.mode;
    if (mode === this.#mode) return;
    this.#mode = mode;
    // The media server says who speaks, and has said so before its media flows; else we listen.
    if (mode === 'P2P') this.#meter = new SpeakerMeter();
    else if (mode === 'SFU') this.#setSpeaking(this.#loudest);
    this.emit('mode', mode);
  }

  #onStarted({ userId, source, epoch }: RemoteTrack): void {
    this.#paths.mark(epoch, `${source} started`);
    const key = `${source} ${userId}`;
    if (this.#seen.has(key)) return;
    this.#seen.add(key);
    this.emit('media', { userId, source });
  }

  #hear(message: ChatMessage): void {
    if (this.#chat.some(({ id }) => id === message.id)) return;
    this.#chat.push(message);
    if (this.#chat.length > MAX_CHAT) this.#chat.shift();
    this.emit('chat', message);
  }

  #tellState(): void {
    if (this.#self) {
      const { isMuted, isVideoOn } = this.media;
      this.#self = { ...this.#self, isMuted, isVideoOn };
      this.#signalling.tell('update-state', { isMuted, isVideoOn });
    }
    this.#told();
  }

  #onToken(fresh: FreshToken): void {
    this.#tokens.keep(fresh, claims(fresh.token)?.epoch ?? this.#paths.epoch);
    if (fresh.iceServers) this.#paths.setIceServers(fresh.iceServers);
  }

  #setSpeaking(userId: string | undefined): void {
    if (userId === this.#speaking) return;
    this.#speaking = userId;
    this.#told();
  }

  /** Peer to peer nobody tells us who speaks. */
  #listen(): void {
    if (this.#mode !== 'P2P' || this.#isOver) return;
    const levels = new Map<string, number>();
    for (const { userId, source, receiver } of this.#stage.shown()) {
      if (source !== 'microphone') continue;
      const level = receiver?.getSynchronizationSources?.()[0]?.audioLevel;
      if (level !== undefined) levels.set(userId, level);
    }
    this.#setSpeaking(this.#meter.observe(levels));
  }

  async #measure(): Promise<void> {
    if (this.#isOver || this.#mode === undefined) return;
    const epoch = this.#paths.epoch;
    this.#quality = this.#qualityMeter.observe(await this.reports(), epoch, performance.now());
    const { level, packetLossPercent, rttMs, bitrate } = this.#quality;
    this.#signalling.tell('quality', { epoch, packetLossPercent, ...(rttMs === undefined ? {} : { rttMs }), bitrate, level });
    this.emit('quality', this.#quality);
  }

  #keepHouse(): void {
    const next = roster.expired(this.#roster, performance.now());
    for (const userId of this.#roster.present.keys()) if (!next.present.has(userId)) this.#onLeft(userId, 'disconnected');
    if (this.#refreshing || !this.#signalling.isUp || !this.#tokens.isDue(Date.now())) return;
    this.#refreshing = true;
    const answer = this.#signalling.ask<FreshToken>('refresh-token');
    void answer.then((fresh) => this.#onToken(fresh)).catch(() => {}).finally(() => (this.#refreshing = false));
  }

  #describe(participant: WireParticipant): Participant {
    const { userId } = participant;
    const isSelf = userId === this.#self?.userId;
    const shown = isSelf
      ? [...this.media.tracks]
      : this.#stage.shown().filter((track) => track.userId === userId).map(({ source, track }: RemoteTrack) => [source, track] as const);
    return {
      ...participant,
      isSelf,
      // Who was muted in the middle of a word is silent.
      isSpeaking: userId === this.#speaking && !participant.isMuted,
      quality: isSelf ? this.#quality?.level : this.#levels.get(userId),
      tracks: Object.fromEntries(shown),
    };
  }

  #told(shown?: RemoteTrack): void {
    if (shown) this.#paths.mark(shown.epoch, `${shown.source} shown`);
    if (!this.#isOver) this.emit('participants', this.participants);
  }

  #become(state: CallState, error?: CallError): void {
    if (this.#isOver || state === this.#state) return;
    this.#state = state;
    this.emit('state', { state, ...(error ? { error } : {}) });
  }

  #end(state: CallState, error?: CallError): void {
    if (this.#isOver) return;
    for (const timer of this.#timers) clearInterval(timer);
    this.#paths.close();
    this.#stage.clear();
    this.media.close();
    if (state !== 'left') this.#signalling.close();
    this.#become(state, error);
  }
}
