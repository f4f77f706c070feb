// The paths of a call as its routes change: opens them, says when their media flows, lets them go.

import { warmUp } from './device.ts';
import { Mesh } from './mesh.ts';
import type { Path, PathListener, Source } from './path.ts';
import { decide, NO_ROUTES, target, type Effect, type Input, type Routes } from './routes.ts';
import { Sfu } from './sfu.ts';
import { CallError } from './error.ts';
import { Backoff, Bell, sleep, Timeline } from './timing.ts';
import type { Tokens } from './tokens.ts';
import type { Candidate, Description, Mode, OfNode, RouteOffer, ServerEvent, ServerEvents } from './wire.ts';

/** How long a path may take until media flows, in milliseconds, before its connection alone has to do. */
const FLOW_MS = 8000;
const POLL_MS = 100;
/** When a call that goes peer to peer is made ready for a media server, in milliseconds after it began. */
const WARM_UP_MS = 500;
/** What is kept of messages for paths that we have not heard of yet. */
const MAX_EARLY = 256;
const FAILED = { P2P: 'PeerConnectionFailed', SFU: 'TransportFailed' } as const;

export interface PathsOptions {
  url: string;
  self: () => string;
  tokens: Tokens;
  local: ReadonlyMap<Source, MediaStreamTrack>;
  peers: () => ReadonlySet<string>;
  /** Whether all that should be shown is shown by this path. */
  isShown: (epoch: number) => boolean;
  listener: Omit<PathListener, 'onFailed'>;
  ack(epoch: number, success: boolean, reason?: string): void;
  send(event: 'webrtc:offer' | 'webrtc:answer' | 'webrtc:ice-candidate', data: object): Promise<unknown>;
  /** The mode that is shown changed, or where the call is going. */
  onChange(): void;
  onSwitch(measured: { epoch: number; mode: Mode; ms: number; steps: Record<string, number> }): void;
}

interface Open {
  path: Path;
  timeline: Timeline;
  stop: AbortController;
}

export class Paths {
  #options: PathsOptions;
  #routes: Routes = NO_ROUTES;
  #open = new Map<number, Open>();
  #offers = new Map<number, RouteOffer>();
  #early = new Map<number, ((mesh: Mesh) => void)[]>();
  #closed = false;
  #waitMs = 0;
  #progress = new Bell();

  constructor(options: PathsOptions) {
    this.#options = options;
  }

  /** Mode of what is shown. */
  get mode(): Mode | undefined {
    return this.#routes.shown ?? target(this.#routes)?.mode;
  }

  /** Where the call is, or is going. */
  get epoch(): number {
    return target(this.#routes)?.epoch ?? 0;
  }

  get isSwitching(): boolean {
    return this.#routes.shown !== undefined && target(this.#routes)?.phase !== 'flowing';
  }

  get all(): Path[] {
    return [...this.#open.values()].map(({ path }) => path);
  }

  /**
   * The call goes this way from now on. Told again, it brings back what was lost with the connection to the gateway. A way
   * that is about to be left for another one is not begun for `waitMs`.
   */
  route(offer: RouteOffer, waitMs = 0): void {
    this.#options.tokens.keep(offer, offer.epoch);
    if (offer.iceServers) this.setIceServers(offer.iceServers);
    this.#waitMs = waitMs;
    const known = this.#open.get(offer.epoch);
    if (known?.path instanceof Mesh) known.path.offerTo(offer.initiator ?? []);
    if (known?.path instanceof Sfu) known.path.resume().catch(() => {});
    this.#offers.set(offer.epoch, offer);
    this.#apply({ type: 'route', epoch: offer.epoch, mode: offer.mode });
    // Whoever asks anew has not kept our word.
    const state = this.#routes.paths.find(({ epoch }) => epoch === offer.epoch);
    if (known && state?.phase === 'flowing') this.#options.ack(offer.epoch, true);
  }

  /** Credentials of ICE servers end with the token that they came with: all paths go on with these. */
  setIceServers(iceServers: RTCIceServer[]): void {
    for (const [epoch, offer] of this.#offers) this.#offers.set(epoch, { ...offer, iceServers });
    for (const path of this.all) path.setIceServers(iceServers);
  }

  /** What is shown has changed: it may be all by now. */
  progress(): void {
    this.#progress.ring();
  }

  /** Something happened on the way of this epoch. */
  mark(epoch: number, step: string): void {
    this.#open.get(epoch)?.timeline.mark(step);
  }

  switched(epoch: number, success: boolean): void {
    this.#apply({ type: 'switched', epoch, success });
  }

  publish(source: Source, track: MediaStreamTrack | undefined): Promise<unknown> {
    return Promise.all(this.all.map((path) => path.publish(source, track)));
  }

  setPeers(userIds: ReadonlySet<string>): void {
    for (const path of this.all) path.setPeers(userIds);
  }

  onDescription(type: 'offer' | 'answer', description: Description & { sourceUserId: string }): void {
    this.#mesh(description.epoch, (mesh) => mesh.onDescription(type, description));
  }

  onCandidate(candidate: Candidate & { sourceUserId: string }): void {
    this.#mesh(candidate.epoch, (mesh) => mesh.onCandidate(candidate));
  }

  /** What a media node tells, through the gateway. */
  onMediaEvent<Name extends ServerEvent>(name: Name, data: ServerEvents[Name]): void {
    const { epoch } = (data ?? {}) as OfNode;
    this.eachSfu((path) => path.onEvent(name, data), epoch);
  }

  /** Tells each path through a media server, or the one of this epoch. */
  eachSfu(tell: (path: Sfu) => void, epoch?: number): void {
    for (const path of this.all) if (path instanceof Sfu && (epoch === undefined || path.epoch === epoch)) tell(path);
  }

  close(): void {
    this.#closed = true;
    for (const { path, stop } of this.#open.values()) {
      stop.abort();
      path.close();
    }
    this.#open.clear();
  }

  #apply(input: Input): void {
    if (this.#closed) return;
    const { routes, effects } = decide(this.#routes, input);
    this.#routes = routes;
    for (const effect of effects) this.#carryOut(effect);
    this.#options.onChange();
  }

  #carryOut(effect: Effect): void {
    switch (effect.type) {
      case 'open': {
        const offer = this.#offers.get(effect.epoch);
        if (offer) void this.#run(offer, { waitMs: this.#waitMs });
        return;
      }
      case 'ack':
        return this.#options.ack(effect.epoch, effect.success, effect.reason);
      case 'close':
        this.#offers.delete(effect.epoch);
        setTimeout(() => this.#close(effect.epoch), effect.afterMs);
    }
  }

  #close(epoch: number): void {
    const open = this.#open.get(epoch);
    if (!open) return;
    this.#open.delete(epoch);
    open.stop.abort();
    open.path.close();
    this.#progress.ring();
  }

  /** Opens a path, with as many attempts as it takes, until its media flows or another route overtakes it. */
  async #run(offer: RouteOffer, { again = false, waitMs = 0 } = {}): Promise<void> {
    const timeline = new Timeline();
    const backoff = new Backoff();
    const stop = new AbortController();
    for (let isRetry = again; !this.#closed && !stop.signal.aborted; isRetry = true) {
      const latest = this.#offers.get(offer.epoch);
      if (!latest) return;
      const open: Open = { path: this.#make(latest, { timeline, stop, isRetry }), timeline, stop };
      this.#open.set(offer.epoch, open);
      try {
        if (waitMs > 0 && !isRetry) await Promise.all([sleep(waitMs, stop.signal), warmUp()]);
        if (stop.signal.aborted) return;
        await open.path.open(this.#options.local);
        await this.#flows(open);
        if (stop.signal.aborted) return;
        this.#options.onSwitch({ epoch: offer.epoch, mode: offer.mode, ms: timeline.ms, steps: timeline.steps });
        if (offer.mode === 'P2P') void sleep(WARM_UP_MS).then(warmUp);
        return this.#apply({ type: 'flowing', epoch: offer.epoch });
      } catch (error) {
        if (stop.signal.aborted) return;
        console.warn(`the route of epoch ${offer.epoch} does not come to be yet`, error);
        open.path.close();
        // One attempt more before others are told: a node that has just been named may not know yet.
        const isLate = timeline.ms > FLOW_MS;
        if (isLate || !(error instanceof CallError)) this.#apply({ type: 'failed', epoch: offer.epoch, reason: FAILED[offer.mode] });
        await sleep(backoff.next(), stop.signal);
      }
    }
  }

  async #flows({ path, stop }: Open): Promise<void> {
    const until = performance.now() + FLOW_MS;
    while (!stop.signal.aborted) {
      if (path.isConnected() && this.#options.isShown(path.epoch)) return;
      if (performance.now() > until) {
        // Maybe somebody has nothing to show. But a connection there must be.
        if (path.isConnected()) return;
        throw new Error('no connection');
      }
      await this.#progress.wait(POLL_MS);
    }
  }

  #make(offer: RouteOffer, { timeline, stop, isRetry }: { timeline: Timeline; stop: AbortController; isRetry: boolean }): Path {
    const { url, self, tokens, send, peers } = this.#options;
    const { epoch, iceServers = [] } = offer;
    const listener: PathListener = {
      ...this.#options.listener,
      onTrack: (track) => {
        timeline.mark(`${track.source} came`);
        this.#options.listener.onTrack(track);
      },
      onFailed: (failed, reason) => this.#onFailed(failed, reason, stop),
    };
    if (offer.mode === 'SFU') {
      return new Sfu({
        epoch,
        self: self(),
        apiUrl: new URL(offer.apiUrl, url).href,
        token: () => tokens.for(epoch),
        iceServers,
        rtpCapabilities: offer.rtpCapabilities,
        listener,
        mark: (step) => timeline.mark(step),
      });
    }
    // Again is from us: whoever waits for the offer of a connection that failed waits in vain.
    const initiator = isRetry ? [...peers()] : (offer.initiator ?? []);
    const mesh = new Mesh({ epoch, self: self(), initiator, peers: peers(), iceServers, listener, send });
    for (const early of this.#early.get(epoch) ?? []) early(mesh);
    this.#early.delete(epoch);
    return mesh;
  }

  /** A path that had come to be, or was about to, is no more. */
  #onFailed(epoch: number, reason: string, stop: AbortController): void {
    const open = this.#open.get(epoch);
    if (!open || open.stop !== stop || stop.signal.aborted) return;
    this.#apply({ type: 'failed', epoch, reason });
    stop.abort();
    // What it still shows is shown until another attempt, or another route, has something better.
    void sleep(500).then(() => {
      // The gateway has told us of it again by now, if we have not been told of another one.
      const offer = this.#offers.get(epoch);
      if (this.#closed || !offer || this.#open.get(epoch) !== open) return;
      open.path.close();
      void this.#run(offer, { again: true });
    });
  }

  #mesh(epoch: number, tell: (mesh: Mesh) => void): void {
    const path = this.#open.get(epoch)?.path;
    if (path instanceof Mesh) return tell(path);
    if (path || epoch <= this.epoch) return;
    // Another client has heard of the route before us.
    const early = this.#early.get(epoch) ?? [];
    if (early.length < MAX_EARLY && (this.#early.size < 2 || this.#early.has(epoch))) this.#early.set(epoch, [...early, tell]);
  }
}
