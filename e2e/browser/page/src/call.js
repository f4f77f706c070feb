// A call as a person has it: one stay after another, on whatever route the call is, without a break in between.

import { connectionOf, inboundByTrack, outboundByKind, Received } from './aggregate.js';
import { Backoff, sleep } from './backoff.js';
import { Session } from './session.js';
import { Tile } from './tile.js';
import { Tokens } from './tokens.js';

/**
 * How long the old stay goes on carrying media after the new one is open, at least and at most, in milliseconds. At
 * least, because when everyone is seen on the new one, not everyone sees us on it yet.
 */
const LINGER_MS = 2000;
const HANDOVER_MS = 5000;
/** How often it is looked whether media flows, and how long without any is suspicious, in milliseconds. */
const WATCH_MS = 500;
const STALLED_MS = 1000;
/** Events kept for whoever asks; the oldest are dropped. */
const MAX_EVENTS = 500;

/**
 * @typedef {import('./session.js').Over} Over
 * @typedef {'idle' | 'joining' | 'joined' | 'rejoining' | 'left' | 'failed'} State
 * @typedef {{at: number, type: string, detail?: unknown, epoch?: number}} LogEntry
 * @typedef {{
 *   id: string, name: string, tile: Tile, sessions: Set<Session>, audio: Received, video: Received,
 *   announcedAt?: number, firstFrameAt?: number, firstFrameMs?: number, shownBy?: Session,
 * }} Remote
 */

export class Call {
  /** @type {State} */
  state = 'idle';
  detail = '';
  /** @type {Session | undefined} */
  session;
  /** @type {Session | undefined} the one before, while it still carries media */
  leaving;
  /** @type {Map<string, Remote>} */
  remotes = new Map();
  /** @type {Map<string, MediaStreamTrack>} what this participant sends, by kind */
  tracks = new Map();
  /** @type {LogEntry[]} */
  events = [];
  rejoins = 0;
  /** @type {number | undefined} */
  joinedAt;
  #moving = false;
  #doubts = new Backoff({ firstMs: WATCH_MS });
  #askAgainAt = 0;
  #wake = new AbortController();

  /**
   * @param {{room: string, user: string, token?: string, name?: string}} who
   * @param {{grid: HTMLElement, onChange(): void, media(): Promise<MediaStreamTrack[]>}} view
   */
  constructor({ room, user, token }, view) {
    this.room = room;
    this.user = user;
    this.view = view;
    this.tokens = new Tokens({ room, user, token });
  }

  get #isOver() {
    return this.state === 'left' || this.state === 'failed';
  }

  /** Joins, trying again while the call is being placed or its node cannot be reached. */
  async join() {
    this.joinedAt = performance.now();
    this.#become('joining', 'Joining…');
    const media = this.view.media().then((tracks) => {
      if (this.#isOver) for (const track of tracks) track.stop();
      else for (const track of tracks) this.tracks.set(track.kind, track);
      return tracks;
    }, (error) => {
      throw new MediaError(error);
    });
    media.catch(() => {});
    const session = await this.#attempt(() => this.tokens.toJoin(), () => media);
    if (!session) return;
    this.session = session;
    this.#become('joined', '');
    this.#log('joined', { ms: Math.round(performance.now() - this.joinedAt) }, session.epoch);
  }

  /** Joins again: on the current route, whatever it is by now. @param {Over} why */
  async rejoin(why) {
    if (this.#moving || this.#isOver) return;
    this.#moving = true;
    const began = performance.now();
    const old = this.session;
    this.#become('rejoining', `Reconnecting: ${why.detail}`);
    const session = await this.#attempt(async () => {
      const ticket = await this.tokens.refresh();
      if (why.kind === 'route-changed' && ticket.epoch <= (old?.epoch ?? 0)) {
        throw new Error('the new route is not known yet');
      }
      return ticket;
    }, async () => [...this.tracks.values()]);
    this.#moving = false;
    if (!session) return;
    this.session = session;
    this.rejoins += 1;
    this.#become('joined', '');
    this.#log('rejoined', { why: why.kind, ms: Math.round(performance.now() - began) }, session.epoch);
    if (old) {
      this.leaving = old;
      await this.#shown(session, old);
      this.leaving = undefined;
      this.#retire(old);
    }
    if (session.over && session === this.session) void this.rejoin({ kind: 'transport-failed', detail: 'the connection was lost again' });
  }

  leave() {
    if (this.#isOver) return;
    this.session?.api.leave(this.user).catch(() => {});
    this.#end('left', 'You left the call.');
  }

  /** @param {'left' | 'failed'} state @param {string} detail */
  #end(state, detail) {
    this.#become(state, detail);
    this.#wake.abort();
    clearInterval(this.#watch);
    for (const { tile } of this.remotes.values()) tile.discard();
    this.remotes.clear();
    this.session?.close();
    this.leaving?.close();
    for (const track of this.tracks.values()) track.stop();
    this.tracks.clear();
    this.view.onChange();
  }

  #watch = setInterval(() => void this.#watchFlow(), WATCH_MS);

  /**
   * When a node dies with its machine, no connection is closed: silence is all there is. So silence is a
   * reason to ask whether the call has moved. While it has not, nothing is given up.
   */
  async #watchFlow() {
    const { session } = this;
    const now = performance.now();
    if (this.state !== 'joined' || !session || session.over || document.hidden) return;
    const flows = [...this.remotes.values()].map(({ tile }) => tile.clock.waiting(now)).filter((ms) => ms > 0);
    const stalled = flows.length > 0 && flows.every((ms) => ms > STALLED_MS);
    if (!stalled && !session.isDisconnected) {
      this.#doubts.reset();
      this.#askAgainAt = 0;
      return;
    }
    if (now < this.#askAgainAt) return;
    this.#askAgainAt = now + this.#doubts.next();
    await session.lookForNewRoute().catch(() => {});
  }

  /** @param {boolean} muted */
  mute(muted) {
    const track = this.tracks.get('audio');
    // Silent at once; that others see it may take a moment.
    if (track) track.enabled = !muted;
    this.session?.pause('audio', muted).catch((error) => this.#log('pause-failed', error.message));
    this.view.onChange();
  }

  /** Off is off: the device is let go, and nothing is published. @param {MediaStreamTrack | undefined} track */
  async setCamera(track) {
    const old = this.tracks.get('video');
    this.tracks.delete('video');
    old?.stop();
    await this.session?.unpublish('video');
    if (track) {
      this.tracks.set('video', track);
      await this.session?.publish(track);
    }
    this.view.onChange();
  }

  /** Measures now, and says everything since the last time. Meant for one asker: gaps and events are handed over once. */
  async stats() {
    const connections = await this.sample();
    const now = performance.now();
    return {
      at: Date.now(),
      state: this.state,
      detail: this.detail,
      room: this.room,
      user: this.user,
      epoch: this.session?.epoch,
      rejoins: this.rejoins,
      eventsReconnects: this.session?.events?.reconnects ?? 0,
      ...connections,
      remotes: Object.fromEntries([...this.remotes.values()].map((remote) => [remote.id, {
        name: remote.name,
        firstFrameMs: remote.firstFrameMs,
        longestGapMs: rounded(remote.tile.clock.takeLongestGap(now)),
        framesPresented: remote.tile.clock.frames,
        video: remote.video.video(),
        audio: remote.audio.audio(),
      }])),
      events: this.events.splice(0),
    };
  }

  /** Reads the browser's counters. */
  async sample() {
    const { session, leaving } = this;
    const [sent, received, before] = await Promise.all([session?.sendTransport, session?.recvTransport, leaving?.recvTransport].map(
      (transport) => (transport && !transport.closed ? transport.getStats() : undefined),
    ));
    const at = performance.now();
    if (received) {
      const inbound = new Map([...inboundByTrack(received), ...(before ? inboundByTrack(before) : [])]);
      for (const { tile, audio, video } of this.remotes.values()) {
        for (const [kind, into] of /** @type {const} */ ([['audio', audio], ['video', video]])) {
          const stat = inbound.get(tile.shown[kind]?.id ?? '');
          if (stat) into.observe(at, stat);
          else into.rest(at);
        }
      }
    }
    return {
      send: sent ? { ...connectionOf(sent), state: session?.sendTransport?.connectionState, ...outboundByKind(sent) } : undefined,
      recv: received ? { ...connectionOf(received), state: session?.recvTransport?.connectionState } : undefined,
    };
  }

  /** Everything that the browser knows, for finding out what went wrong. */
  async diagnose() {
    const entries = (/** @type {RTCStatsReport | undefined} */ report) => (report ? [...report.values()] : []);
    const { session } = this;
    return {
      stats: await this.stats().catch(String),
      send: entries(await session?.sendTransport?.getStats().catch(() => undefined)),
      recv: entries(await session?.recvTransport?.getStats().catch(() => undefined)),
      consumers: [...(session?.consumed.values() ?? [])].map(({ info, consumer }) => ({ info, rtpParameters: consumer?.rtpParameters })),
      producers: [...(session?.producers.values() ?? [])].map(({ id, kind, rtpParameters }) => ({ id, kind, rtpParameters })),
    };
  }

  /**
   * One stay, opened with as many attempts as it takes; `undefined` when there is no use in further ones.
   * @param {() => Promise<import('./tokens.js').Ticket>} ticket
   * @param {() => Promise<MediaStreamTrack[]>} tracks
   */
  async #attempt(ticket, tracks) {
    const backoff = new Backoff({ limitMs: 1000 });
    while (!this.#isOver) {
      /** @type {Session | undefined} */
      let session;
      try {
        const { epoch } = await ticket();
        session = this.#newSession(epoch);
        if (this.session) this.session.isHandingOver = true;
        await session.open(tracks());
        if (session.over) throw new Error('the call moved on meanwhile');
        if (!this.#isOver) return session;
      } catch (error) {
        const reason = error instanceof Error ? error : new Error(String(error));
        this.#log('join-failed', reason.message);
        if (isFinal(reason)) {
          this.#end('failed', explain(reason));
        } else {
          this.#become(this.state, `Trying again: ${explain(reason)}`);
        }
      }
      if (session) this.#retire(session);
      if (this.#isOver) return undefined;
      if (this.session && !this.session.over) this.session.takeBack().catch(() => {});
      await sleep(backoff.next(), this.#wake.signal);
    }
    return undefined;
  }

  /** @param {number} epoch */
  #newSession(epoch) {
    return new Session({
      callId: this.room,
      user: this.user,
      epoch,
      tokens: this.tokens,
      listener: {
        onParticipant: (session, { id, name }) => void this.#remote(session, id, name),
        onParticipantLeft: (session, id) => this.#gone(session, this.remotes.get(id)),
        onAnnounced: (session, { participantId, kind }) => {
          const remote = this.#remote(session, participantId);
          if (kind === 'video') remote.announcedAt ??= performance.now();
        },
        onTrack: (session, { participantId }, { track, rtpReceiver }) => {
          const remote = this.#remote(session, participantId);
          void remote.tile.add(track, rtpReceiver);
        },
        onTrackEnded: (_session, { participantId }, { track }) => this.remotes.get(participantId)?.tile.remove(track),
        onPaused: (_session, { participantId, kind }, paused) => {
          this.remotes.get(participantId)?.tile.setPaused(kind, paused);
        },
        onSpeaker: (_session, participantId) => {
          for (const { id, tile } of this.remotes.values()) tile.setSpeaking(id === participantId);
        },
        onOver: (session, why) => {
          this.#log(why.kind, why.detail, why.epoch);
          if (why.kind === 'removed') this.#end('failed', why.detail);
          else if (session === this.session) void this.rejoin(why);
        },
        onEvent: (session, type, detail) => {
          if (type !== 'route-changed' && type !== 'room-closed') this.#log(type, type === 'room' ? undefined : detail, session.epoch);
        },
      },
    });
  }

  /** @param {Session} session @param {string} id @param {string} [name] @returns {Remote} */
  #remote(session, id, name = id) {
    let remote = this.remotes.get(id);
    if (!remote) {
      const made = /** @type {Remote} */ ({ id, name, sessions: new Set(), audio: new Received(), video: new Received() });
      made.tile = new Tile({ id, name, onFirstFrame: () => this.#firstFrame(made) });
      remote = made;
      this.remotes.set(id, remote);
      this.view.grid.append(remote.tile.root);
      this.view.onChange();
    }
    remote.sessions.add(session);
    return remote;
  }

  /** @param {Remote} remote */
  #firstFrame(remote) {
    if (remote.firstFrameAt !== undefined) return;
    remote.firstFrameAt = performance.now();
    // Whoever was there first waits for the other's track, not for the other to come.
    remote.firstFrameMs = Math.round(remote.firstFrameAt - Math.max(this.joinedAt ?? 0, remote.announcedAt ?? 0));
    this.#log('first-frame', { participant: remote.id, ms: remote.firstFrameMs });
  }

  /** @param {Session} session @param {Remote | undefined} remote */
  #gone(session, remote) {
    if (!remote?.sessions.delete(session) || remote.sessions.size > 0) return;
    remote.tile.discard();
    this.remotes.delete(remote.id);
    this.view.onChange();
  }

  /** Resolves when everyone that the old stay shows is shown by the new one, or after a while. @param {Session} next @param {Session} old */
  async #shown(next, old) {
    await sleep(LINGER_MS, this.#wake.signal);
    const until = performance.now() + HANDOVER_MS - LINGER_MS;
    const tracksOf = (/** @type {Session} */ session) => new Set([...session.consumed.values()].map(({ consumer }) => consumer?.track));
    while (performance.now() < until && this.state === 'joined') {
      const [coming, going] = [tracksOf(next), tracksOf(old)];
      const waiting = [...this.remotes.values()].some(({ tile: { shown } }) => [shown.audio, shown.video].some(
        (track) => track && going.has(track) && !coming.has(track) && track.readyState === 'live',
      ));
      if (!waiting) return;
      await sleep(50);
    }
  }

  /** @param {Session} session */
  #retire(session) {
    session.close();
    for (const { info, consumer } of session.consumed.values()) {
      if (consumer) this.remotes.get(info.participantId)?.tile.remove(consumer.track);
    }
    for (const remote of [...this.remotes.values()]) this.#gone(session, remote);
  }

  /** @param {State} state @param {string} detail */
  #become(state, detail) {
    if (this.#isOver) return;
    if (state !== this.state) this.#log(`state-${state}`, detail);
    this.state = state;
    this.detail = detail;
    this.view.onChange();
  }

  /** @param {string} type @param {unknown} [detail] @param {number} [epoch] */
  #log(type, detail, epoch = this.session?.epoch) {
    this.events.push({ at: Date.now(), type, detail, epoch });
    if (this.events.length > MAX_EVENTS) this.events.shift();
  }
}

/** There is no microphone or camera for us. */
class MediaError extends Error {
  /** @param {Error} cause */
  constructor(cause) {
    super({
      NotAllowedError: 'The browser may not use the microphone and camera: allow it beside the address, then join again.',
      NotFoundError: 'There is no microphone or camera on this device.',
      NotReadableError: 'Another program is using the microphone or camera.',
    }[cause.name] ?? cause.message, { cause });
  }
}

/** There is no use in trying again. @param {Error & {status?: number}} error */
function isFinal(error) {
  return error instanceof MediaError || [400, 403, 410].includes(error.status ?? 0);
}

/** @param {Error} error */
function explain(error) {
  return error.name === 'TimeoutError' ? 'the server does not answer' : error.message;
}

/** @param {number | undefined} value */
function rounded(value) {
  return value === undefined ? undefined : Math.round(value);
}
