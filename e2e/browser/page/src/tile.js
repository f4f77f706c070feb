// A participant on the screen: picture, sound, name, and what was measured.
//
// While a call moves from one route to another there are two of each track for a moment. The new picture is
// made ready *under* the old one, at full size (hidden ones run slower), and raised when it flows; the same
// with sound, muted until there is some. So the old one is never taken away before the new one is there.

import { sleep } from './backoff.js';
import { FrameClock } from './frames.js';

/** How long the new picture runs before it is raised: its first frames come unevenly. */
const SETTLE_MS = 400;
/** Samples of real sound (at 48 kHz) after which the new sound takes over. */
const ENOUGH_SAMPLES = 960;
const SOUND_POLL_MS = 50;
const SOUND_WAIT_MS = 5000;

/** @typedef {{track: MediaStreamTrack, element: HTMLMediaElement, live: boolean}} Layer  Lowest first. */

export class Tile {
  clock = new FrameClock();
  /** @type {Layer[]} */
  #videos = [];
  /** @type {Layer[]} */
  #sounds = [];
  /** @type {HTMLVideoElement | undefined} the element that the last picture came from */
  #showing;

  /**
   * @param {{id: string, name: string, self?: boolean, onFirstFrame?: () => void}} participant
   */
  constructor({ id, name, self = false, onFirstFrame = () => {} }) {
    this.id = id;
    this.onFirstFrame = onFirstFrame;
    this.root = document.createElement('li');
    this.root.className = 'tile';
    this.root.dataset.participant = id;
    this.root.classList.toggle('self', self);
    this.avatar = part('div', 'avatar', initials(name));
    this.avatar.ariaHidden = 'true';
    this.pictures = part('div', 'pictures');
    this.caption = part('p', 'caption', self ? `${name} (you)` : name);
    this.mutedMark = part('span', 'muted-mark');
    this.mutedMark.role = 'img';
    this.mutedMark.ariaLabel = 'muted';
    this.mutedMark.hidden = true;
    this.caption.append(this.mutedMark);
    this.numbers = part('pre', 'numbers');
    this.root.append(this.avatar, this.pictures, this.caption, this.numbers);
  }

  /** The tracks that a person sees and hears now. */
  get shown() {
    return {
      video: this.#videos.findLast(({ live }) => live)?.track ?? this.#videos.at(-1)?.track,
      audio: this.#sounds.findLast(({ live }) => live)?.track ?? this.#sounds.at(-1)?.track,
    };
  }

  /** @param {MediaStreamTrack} track @param {RTCRtpReceiver} [receiver] */
  add(track, receiver) {
    return track.kind === 'video' ? this.#addVideo(track) : this.#addSound(track, receiver);
  }

  /** @param {MediaStreamTrack} track */
  remove(track) {
    const layers = track.kind === 'video' ? this.#videos : this.#sounds;
    const at = layers.findIndex((layer) => layer.track === track);
    const [layer] = at < 0 ? [] : layers.splice(at, 1);
    if (!layer) return;
    discard(layer.element);
    if (track.kind === 'video') {
      if (layers.length === 0) this.clock.pause();
      this.#mark();
    } else if (!layers.some(({ live }) => live)) {
      // The one that was heard is gone before the next had sound: better that one than silence.
      const next = layers.at(-1);
      if (next) this.#hear(next);
    }
  }

  /** @param {string} kind @param {boolean} paused by the participant */
  setPaused(kind, paused) {
    if (kind === 'video') this.root.classList.toggle('paused', paused);
    if (kind === 'video' && paused) this.clock.pause();
    if (kind === 'audio') this.mutedMark.hidden = !paused;
  }

  /** @param {boolean} speaking */
  setSpeaking(speaking) {
    this.root.classList.toggle('speaking', speaking);
  }

  /** @param {string} text */
  setNumbers(text) {
    if (this.numbers.textContent !== text) this.numbers.textContent = text;
  }

  discard() {
    for (const { element } of [...this.#videos, ...this.#sounds]) discard(element);
    this.#videos = [];
    this.#sounds = [];
    this.root.remove();
  }

  /** @param {MediaStreamTrack} track */
  #addVideo(track) {
    const video = document.createElement('video');
    video.playsInline = true;
    video.muted = true;
    video.autoplay = true;
    video.srcObject = new MediaStream([track]);
    const layer = { track, element: video, live: false };
    this.#videos.push(layer);
    this.pictures.prepend(video);
    void video.play().catch(() => {});
    const watch = (/** @type {number} */ _now, /** @type {VideoFrameCallbackMetadata} */ frame) => {
      if (!this.#videos.includes(layer)) return;
      video.requestVideoFrameCallback(watch);
      if (!layer.live) this.#firstPicture(layer);
      if (this.#videos.findLast(({ live }) => live) !== layer) return;
      this.clock.picture(frame.presentationTime, frame.presentedFrames, this.#showing === video);
      this.#showing = video;
    };
    video.requestVideoFrameCallback(watch);
  }

  /** @type {WeakSet<Layer>} */
  #settling = new WeakSet();

  /** @param {Layer} layer */
  #firstPicture(layer) {
    if (this.#settling.has(layer)) return;
    this.#settling.add(layer);
    this.onFirstFrame();
    const raise = () => {
      if (!this.#videos.includes(layer)) return;
      layer.live = true;
      this.pictures.append(layer.element);
      this.#mark();
    };
    if (this.#videos.some(({ live }) => live)) setTimeout(() => layer.element instanceof HTMLVideoElement && layer.element.requestVideoFrameCallback(raise), SETTLE_MS);
    else raise();
  }

  #mark() {
    this.root.classList.toggle('with-picture', this.#videos.some(({ live }) => live));
  }

  /** @param {MediaStreamTrack} track @param {RTCRtpReceiver} [receiver] */
  async #addSound(track, receiver) {
    const sound = document.createElement('audio');
    sound.autoplay = true;
    sound.srcObject = new MediaStream([track]);
    const layer = { track, element: sound, live: false };
    const first = this.#sounds.length === 0;
    sound.muted = !first;
    this.#sounds.push(layer);
    this.root.append(sound);
    void sound.play().catch(() => {});
    if (!first && receiver) await soundFlows(receiver);
    if (this.#sounds.includes(layer)) this.#hear(layer);
  }

  /** @param {Layer} heard */
  #hear(heard) {
    for (const layer of this.#sounds) {
      layer.live = layer === heard;
      layer.element.muted = !layer.live;
    }
  }
}

/** Resolves when real sound arrives: not the concealment that fills the time before. @param {RTCRtpReceiver} receiver */
async function soundFlows(receiver) {
  const until = performance.now() + SOUND_WAIT_MS;
  while (performance.now() < until) {
    let real = 0;
    (await receiver.getStats()).forEach((stat) => {
      if (stat.type === 'inbound-rtp') real = stat.totalSamplesReceived - stat.concealedSamples;
    });
    if (real > ENOUGH_SAMPLES) return;
    await sleep(SOUND_POLL_MS);
  }
}

/** @param {HTMLMediaElement} element */
function discard(element) {
  element.pause();
  element.srcObject = null;
  element.remove();
}

/** @param {string} tag @param {string} className @param {string} [text] */
function part(tag, className, text = '') {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

/** @param {string} name */
export function initials(name) {
  const words = name.split(/[\s._@-]+/).filter(Boolean);
  return words.slice(0, 2).map((word) => word[0]?.toUpperCase()).join('') || '?';
}
