// Pictures and sound in a browser. The one file that knows the DOM.
//
// While a call goes from one route to another there are two of each track for a moment. The new picture is made ready
// *beneath* the old one, at full size (hidden ones run slower), and raised in one of its own frames. The new sound is
// played muted, by an element (WebAudio without one is silent), and the two are faded into each other.

import { kindOf, type RemoteTrack, type Source } from './path.ts';
import { mediaFlows, SETTLE_MS, type Layer, type Rendering } from './rendering.ts';
import { sleep } from './timing.ts';

/** How long one sound takes over from the other, in milliseconds: shorter is heard as a click. */
const FADE_MS = 20;
const FADE_STEPS = 4;
/** How long a frame of a new picture is waited for when it is raised, in milliseconds: there are pictures that stand still. */
const FRAME_MS = 1000;
/** A wait between two frames that is longer than this, and than twice the usual one, is seen. In milliseconds. */
const UNEVEN_MS = 60;
/** How long at most it is waited for a picture that does not run evenly. */
const MAX_SETTLE_MS = 1200;

interface Slot {
  host: HTMLElement;
  layers: Set<MediaElementLayer>;
}

export class DomRendering implements Rendering {
  #slots = new Map<string, Slot>();
  #sounds: HTMLElement;
  #sink = '';
  /** The browser plays no sound before the page was touched: call `resume` from a click. */
  onBlocked: () => void = () => {};

  /** `sounds` holds the elements that play; they are not seen. */
  constructor(sounds: HTMLElement = document.body) {
    this.#sounds = sounds;
  }

  /** Where the pictures of this participant are. Put it wherever they are to be seen; it fills its parent's width and height. */
  element(userId: string, source: Exclude<Source, 'microphone'>): HTMLElement {
    return this.#slot(userId, source).host;
  }

  add(remote: RemoteTrack): Layer {
    const slot = this.#slot(remote.userId, remote.source);
    const isVideo = kindOf(remote.source) === 'video';
    const layer = isVideo ? new Picture(remote, slot) : new Sound(remote, slot, this.#sink);
    if (!isVideo) this.#sounds.append(layer.element);
    slot.layers.add(layer);
    layer.play(() => this.onBlocked());
    return layer;
  }

  /** Plays what the browser had refused to play. */
  async resume(): Promise<void> {
    for (const { layers } of this.#slots.values()) for (const layer of layers) await layer.element.play().catch(() => {});
  }

  /** Plays sound through this device, where the browser lets one choose. */
  async setSpeaker(deviceId: string): Promise<void> {
    this.#sink = deviceId;
    for (const { layers } of this.#slots.values()) {
      for (const layer of layers) if (layer instanceof Sound) await layer.setSink(deviceId);
    }
  }

  /** Forgets a participant who left. */
  forget(userId: string): void {
    for (const source of ['microphone', 'camera', 'screen'] as const) {
      const slot = this.#slots.get(`${source} ${userId}`);
      for (const layer of [...(slot?.layers ?? [])]) layer.remove();
      slot?.host.remove();
      this.#slots.delete(`${source} ${userId}`);
    }
  }

  #slot(userId: string, source: Source): Slot {
    const key = `${source} ${userId}`;
    let slot = this.#slots.get(key);
    if (!slot) {
      const host = document.createElement('div');
      Object.assign(host.style, { position: 'relative', width: '100%', height: '100%', overflow: 'hidden' });
      slot = { host, layers: new Set() };
      this.#slots.set(key, slot);
    }
    return slot;
  }
}

/** A picture of one's own, before or during a call. */
export function showOwn(video: HTMLVideoElement, track: MediaStreamTrack | undefined): void {
  video.muted = true;
  video.playsInline = true;
  video.autoplay = true;
  const shown = video.srcObject instanceof MediaStream ? video.srcObject.getTracks()[0] : undefined;
  if (shown === track) return;
  video.srcObject = track ? new MediaStream([track]) : null;
  if (track) video.play().catch(() => {});
}

abstract class MediaElementLayer implements Layer {
  abstract readonly element: HTMLMediaElement;
  abstract readonly started: Promise<void>;
  abstract readonly settled: Promise<void>;
  protected slot: Slot;
  protected removed = new AbortController();

  constructor(slot: Slot) {
    this.slot = slot;
  }

  play(onBlocked: () => void): void {
    this.element.play().catch((error: DOMException) => {
      if (error.name === 'NotAllowedError') onBlocked();
    });
  }

  abstract raise(): Promise<void>;

  remove(): void {
    this.removed.abort();
    this.slot.layers.delete(this);
    this.element.pause();
    this.element.srcObject = null;
    this.element.remove();
  }

  protected get others(): MediaElementLayer[] {
    return [...this.slot.layers].filter((layer) => layer !== this);
  }
}

class Picture extends MediaElementLayer {
  readonly element = document.createElement('video');
  readonly started: Promise<void>;
  readonly settled: Promise<void>;

  constructor({ track, source }: RemoteTrack, slot: Slot) {
    super(slot);
    const { element } = this;
    element.playsInline = true;
    element.muted = true;
    element.autoplay = true;
    element.disablePictureInPicture = true;
    element.srcObject = new MediaStream([track]);
    Object.assign(element.style, {
      position: 'absolute', inset: '0', width: '100%', height: '100%', objectFit: source === 'screen' ? 'contain' : 'cover',
    });
    // First in the tree is lowest on the screen.
    slot.host.prepend(element);
    this.started = this.#frame().then(() => {});
    this.settled = this.started.then(() => this.#runsEvenly());
  }

  async raise(): Promise<void> {
    // In a frame of the new picture, so that there is one behind the old one when that goes.
    const isFirst = this.others.length === 0;
    if (!isFirst) await Promise.race([this.#frame(), sleep(FRAME_MS)]);
    if (this.removed.signal.aborted) return;
    for (const { element } of this.others) element.style.zIndex = '0';
    this.element.style.zIndex = '1';
  }

  /** Resolves when no wait between frames was seen, and no change of size, for a while. */
  async #runsEvenly(): Promise<void> {
    const { signal } = this.removed;
    const until = performance.now() + MAX_SETTLE_MS;
    let evenSince = performance.now();
    let last: VideoFrameCallbackMetadata | undefined;
    let usual = Infinity;
    while (!signal.aborted && performance.now() < until && performance.now() - evenSince < SETTLE_MS) {
      const frame = await Promise.race([this.#frame(), sleep(SETTLE_MS, signal)]);
      if (frame && last) {
        const wait = (frame.presentationTime - last.presentationTime) / Math.max(1, frame.presentedFrames - last.presentedFrames);
        usual = Math.min(usual, Math.max(wait, UNEVEN_MS / 2));
        if (wait > 2 * usual || frame.height !== last.height) evenSince = performance.now();
      } else if (!frame) {
        evenSince = performance.now();
      }
      last = frame ?? last;
    }
  }

  #frame(): Promise<VideoFrameCallbackMetadata> {
    return new Promise((resolve) => {
      this.element.requestVideoFrameCallback((_now, frame) => resolve(frame));
    });
  }
}

class Sound extends MediaElementLayer {
  readonly element = document.createElement('audio');
  readonly started: Promise<void>;
  readonly settled: Promise<void>;

  constructor({ track, receiver }: RemoteTrack, slot: Slot, sink: string) {
    super(slot);
    this.element.autoplay = true;
    this.element.muted = true;
    this.element.srcObject = new MediaStream([track]);
    this.started = receiver ? mediaFlows(receiver, this.removed.signal).catch(() => {}) : Promise.resolve();
    this.settled = this.started.then(() => sleep(SETTLE_MS, this.removed.signal));
    if (sink) void this.setSink(sink);
  }

  async setSink(deviceId: string): Promise<void> {
    const element = this.element as HTMLAudioElement & { setSinkId?(id: string): Promise<void> };
    await element.setSinkId?.(deviceId).catch(() => {});
  }

  async raise(): Promise<void> {
    const before = this.others.filter(({ element }) => !element.muted);
    if (before.length === 0) {
      this.element.volume = 1;
      this.element.muted = false;
      return;
    }
    this.element.volume = 0;
    this.element.muted = false;
    for (let step = 1; step <= FADE_STEPS; step += 1) {
      // Equal power: the two are different enough in phase.
      const angle = (step / FADE_STEPS) * (Math.PI / 2);
      this.element.volume = Math.min(1, Math.sin(angle));
      for (const { element } of before) element.volume = Math.max(0, Math.cos(angle));
      if (step < FADE_STEPS) await sleep(FADE_MS / FADE_STEPS);
    }
    this.element.volume = 1;
    for (const { element } of before) {
      element.muted = true;
      element.volume = 1;
    }
  }
}
