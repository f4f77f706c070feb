// A participant whose steps a test asks for, and who measures what a person would see and hear.
//
// It sends a moving picture and a continuous tone, so each missing frame and each moment of silence shows.

import { DomRendering, joinCall, LocalMedia } from '../../src/index.ts';

const rendering = new DomRendering();
/** @type {import('../../src/index.ts').Call | undefined} */
let call;
/** @type {any[]} */
const events = [];
/** @type {Map<string, Watch>} by participant */
const watches = new Map();
let origin = 0;
/** @type {AudioContext | undefined} */
let audio;

/** For looking at pictures. */
const small = /** @type {OffscreenCanvasRenderingContext2D} */ (new OffscreenCanvas(16, 9).getContext('2d', { willReadFrequently: true }));

/** What is seen and heard of one participant. */
class Watch {
  lastFrame = 0;
  frames = 0;
  longestFrameGap = 0;
  longestSilence = 0;
  blank = 0;
  /** @type {WeakMap<HTMLVideoElement, number>} */
  presented = new WeakMap();
  /** @type {WeakSet<HTMLVideoElement>} */
  watched = new WeakSet();
  /** @type {WeakSet<HTMLVideoElement>} those whose first picture on top was looked at */
  looked = new WeakSet();
  /** @type {AudioWorkletNode | undefined} */
  meter;

  /** @param {string} userId */
  constructor(userId) {
    this.userId = userId;
    this.host = rendering.element(userId, 'camera');
    const box = document.createElement('div');
    box.append(this.host);
    document.querySelector('#grid')?.append(box);
    const look = () => {
      for (const video of this.host.querySelectorAll('video')) this.#watch(video);
    };
    new MutationObserver(look).observe(this.host, { childList: true });
    look();
  }

  /** The picture on top. */
  get top() {
    const videos = [...this.host.querySelectorAll('video')];
    return videos.reduceRight((/** @type {HTMLVideoElement | undefined} */ best, video) => (best && Number(best.style.zIndex) >= Number(video.style.zIndex) ? best : video), undefined);
  }

  /** @param {HTMLVideoElement} video */
  #watch(video) {
    if (this.watched.has(video)) return;
    this.watched.add(video);
    const frame = (/** @type {number} */ _now, /** @type {VideoFrameCallbackMetadata} */ { presentationTime, presentedFrames }) => {
      if (!video.isConnected) return;
      video.requestVideoFrameCallback(frame);
      const before = this.presented.get(video) ?? presentedFrames - 1;
      this.presented.set(video, presentedFrames);
      if (this.top !== video) return;
      if (!this.looked.has(video)) this.#look(video);
      // A busy page does not hear of every picture, but hears how many there were.
      const count = Math.max(1, presentedFrames - before);
      if (this.lastFrame) this.longestFrameGap = Math.max(this.longestFrameGap, (presentationTime - this.lastFrame) / count);
      this.lastFrame = presentationTime;
      this.frames += count;
    };
    video.requestVideoFrameCallback(frame);
  }

  /** A picture of one colour is none: the cameras here never send one. @param {HTMLVideoElement} video */
  #look(video) {
    this.looked.add(video);
    small.drawImage(video, 0, 0, 16, 9);
    const { data } = small.getImageData(0, 0, 16, 9);
    if (data.every((value, at) => at % 4 === 3 || Math.abs(value - (data[at % 4] ?? 0)) < 4)) this.blank += 1;
  }

  take() {
    const now = performance.now();
    const result = {
      frames: this.frames,
      videoMs: Math.round(Math.max(this.longestFrameGap, this.lastFrame ? now - this.lastFrame : 0)),
      silenceMs: Math.round(this.longestSilence),
      blank: this.blank,
    };
    this.longestFrameGap = 0;
    this.longestSilence = 0;
    this.blank = 0;
    return result;
  }
}

/** Each frame of the screen: is there a picture? */
function watchBlank() {
  for (const watch of watches.values()) {
    if (watch.frames > 0 && (watch.top?.readyState ?? 0) < 2) watch.blank += 1;
  }
  requestAnimationFrame(watchBlank);
}

/** The elements that play, as loud as they play, into one meter each participant. @param {HTMLAudioElement} element */
async function tap(element) {
  if (!audio) return;
  const stream = /** @type {MediaStream} */ (element.srcObject);
  const userId = [...(call?.participants ?? [])].find(({ tracks }) => tracks.microphone === stream.getAudioTracks()[0])?.userId ?? pending.get(stream.getAudioTracks()[0]?.id ?? '');
  const watch = watches.get(userId ?? '') ?? [...watches.values()][0];
  if (!watch) return;
  watch.meter ??= meter(watch);
  const gain = audio.createGain();
  const follow = () => (gain.gain.value = element.muted ? 0 : element.volume);
  follow();
  element.addEventListener('volumechange', follow);
  audio.createMediaStreamSource(stream).connect(gain).connect(watch.meter);
}

/** @type {Map<string, string>} participant of a track, by its id */
const pending = new Map();
const add = rendering.add.bind(rendering);
rendering.add = (remote) => {
  pending.set(remote.track.id, remote.userId);
  if (!watches.has(remote.userId)) watches.set(remote.userId, new Watch(remote.userId));
  const layer = add(remote);
  const began = performance.now();
  for (const step of /** @type {const} */ (['started', 'settled'])) void layer[step].then(() => events.push({ at: Math.round(performance.now() - origin), name: step, value: { user: remote.userId, epoch: remote.epoch, source: remote.source, ms: Math.round(performance.now() - began) } }));
  return layer;
};

/** @param {Watch} watch */
function meter(watch) {
  const node = new AudioWorkletNode(/** @type {AudioContext} */ (audio), 'meter');
  node.port.onmessage = ({ data }) => (watch.longestSilence = Math.max(watch.longestSilence, data));
  node.connect(/** @type {AudioContext} */ (audio).destination);
  return node;
}

new MutationObserver((changes) => {
  for (const { addedNodes } of changes) for (const node of addedNodes) if (node instanceof HTMLAudioElement) void tap(node);
}).observe(document.body, { childList: true });

/** @param {number} frequency @param {{width: number, height: number, frameRate?: number}} size */
async function ownMedia(frequency, { width, height, frameRate = 30 }) {
  audio = new AudioContext({ sampleRate: 48000 });
  await audio.audioWorklet.addModule('/assets/meter.js');
  const tone = audio.createOscillator();
  tone.frequency.value = frequency;
  const volume = audio.createGain();
  volume.gain.value = 0.3;
  const out = audio.createMediaStreamDestination();
  tone.connect(volume).connect(out);
  tone.start();
  const media = new LocalMedia();
  for (let tries = 1; ; tries += 1) {
    try {
      await media.open({ audio: out.stream.getAudioTracks()[0], video: { width, height, frameRate } });
      return media;
    } catch (error) {
      // The browser waits 10 s for a camera to start, also where others have the processor.
      if (tries === 3 || !String(error).includes('Timeout starting')) throw error;
    }
  }
}

Object.assign(window, {
  lab: {
    /** @param {{roomId: string, token?: string, linkToken?: string, displayName?: string, frequency: number, size?: {width: number, height: number, frameRate?: number}, url?: string}} options */
    async join({ frequency, size = { width: 640, height: 360 }, url = location.origin, ...options }) {
      const media = await ownMedia(frequency, size);
      const began = performance.now();
      origin = began;
      call = await joinCall({ url, ...options, media, rendering });
      for (const name of /** @type {const} */ (['state', 'mode', 'switched', 'media', 'chat', 'left', 'joined', 'muted', 'locked'])) {
        call.on(name, (value) => events.push({ at: Math.round(performance.now() - began), name, value: JSON.parse(JSON.stringify(value ?? null)) }));
      }
      call.on('left', ({ participant: { userId } }) => {
        rendering.element(userId, 'camera').parentElement?.remove();
        rendering.forget(userId);
        watches.delete(userId);
      });
      watchBlank();
      return Math.round(performance.now() - began);
    },
    state() {
      return call && {
        state: call.state, mode: call.mode, epoch: call.epoch, isSwitching: call.isSwitching, self: call.self?.userId, chat: call.chat,
        participants: call.participants.map(({ tracks, ...rest }) => ({ ...rest, tracks: Object.keys(tracks) })),
        quality: call.quality, events,
      };
    },
    /** What was seen and heard since the last time. */
    take: () => Object.fromEntries([...watches].map(([userId, watch]) => [userId, watch.take()])),
    /** @param {{name: string, args: any[]}} what */
    async do({ name, args }) {
      try {
        return await /** @type {any} */ (call)[name](...args);
      } catch (error) {
        // Of an error only the text leaves the page.
        throw new Error(`${/** @type {any} */ (error).code}: ${/** @type {any} */ (error).message}`);
      }
    },
    async comes() {
      const sounds = (await this.stats()).filter(({ type, kind }) => type === 'inbound-rtp' && kind === 'audio');
      return {
        pictures: Object.fromEntries([...watches].map(([userId, { frames }]) => [userId, frames])),
        sounds: Object.fromEntries(sounds.map(({ ssrc, totalSamplesReceived = 0, concealedSamples = 0 }) => [ssrc, totalSamplesReceived - concealedSamples])),
      };
    },
    async sends() {
      const sent = (await this.stats()).filter(({ type }) => type === 'outbound-rtp');
      return sent.map(({ kind, active, packetsSent }) => ({ kind, active, packetsSent }));
    },
    async stats() {
      const reports = (await call?.reports()) ?? [];
      return reports.flatMap((report) => [...report.values()]).filter(({ type }) => /inbound-rtp|outbound-rtp|candidate-pair/.test(type));
    },
  },
});
