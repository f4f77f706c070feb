// What this participant sends: microphone, camera, screen.

import { CallError } from './error.ts';
import { Emitter } from './emitter.ts';
import type { Source } from './path.ts';

/** What to begin with: `true` for the default device, constraints, or a track that one has already. */
export interface MediaRequest {
  audio?: boolean | MediaTrackConstraints | MediaStreamTrack;
  video?: boolean | MediaTrackConstraints | MediaStreamTrack;
}

/** Which devices: `deviceId` of `enumerateDevices`. */
export interface Devices {
  microphone?: string;
  camera?: string;
}

export interface LocalEvents {
  /** Another track is sent from now on, or none. */
  track: { source: Source; track: MediaStreamTrack | undefined };
  muted: boolean;
}

const PICTURE: MediaTrackConstraints = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } };
const SOUND: MediaTrackConstraints = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };

export class LocalMedia extends Emitter<LocalEvents> {
  readonly tracks = new Map<Source, MediaStreamTrack>();
  #devices: Devices = {};
  #constraints: { audio: MediaTrackConstraints; video: MediaTrackConstraints } = { audio: SOUND, video: PICTURE };
  #muted = false;

  get isMuted(): boolean {
    return this.#muted || !this.tracks.has('microphone');
  }

  get isVideoOn(): boolean {
    return this.tracks.has('camera');
  }

  /** Takes microphone and camera. What there is none of is left out, if there is the other; both refused is an error. */
  async open({ audio = true, video = true }: MediaRequest): Promise<void> {
    const wanted: MediaStreamConstraints = {};
    for (const [kind, source, request] of [['audio', 'microphone', audio], ['video', 'camera', video]] as const) {
      if (request instanceof MediaStreamTrack) this.#take(source, request);
      else if (request) {
        if (typeof request === 'object') this.#constraints[kind] = request;
        wanted[kind] = this.#constraints[kind];
      }
    }
    if (!wanted.audio && !wanted.video) return;
    const stream = await this.#ask(wanted);
    for (const track of stream.getTracks()) this.#take(track.kind === 'audio' ? 'microphone' : 'camera', track);
  }

  /** Silent at once, and the microphone stays ours. Without one, it is asked for. */
  async setMuted(muted: boolean): Promise<void> {
    this.#muted = muted;
    const track = this.tracks.get('microphone');
    if (track) track.enabled = !muted;
    else if (!muted) {
      const stream = await this.#ask({ audio: this.#withDevice('microphone') });
      this.#take('microphone', stream.getTracks()[0]);
    }
    this.emit('muted', this.isMuted);
  }

  /** Off is off: the camera is let go. */
  async setCamera(on: boolean): Promise<void> {
    if (on === this.isVideoOn) return;
    if (!on) return this.#take('camera', undefined);
    const stream = await this.#ask({ video: this.#withDevice('camera') });
    this.#take('camera', stream.getTracks()[0]);
  }

  /** Asks for a screen, window or tab; the person may say no (`NotAllowedError`). */
  async setScreen(on: boolean): Promise<void> {
    if (on === this.tracks.has('screen')) return;
    if (!on) return this.#take('screen', undefined);
    const stream = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { ideal: 15, max: 30 } }, audio: false });
    const [track] = stream.getVideoTracks();
    if (track && 'contentHint' in track) track.contentHint = 'detail';
    this.#take('screen', track);
  }

  /** Goes on with another device. */
  async use(devices: Devices): Promise<void> {
    this.#devices = { ...this.#devices, ...devices };
    if (devices.microphone !== undefined && this.tracks.has('microphone')) {
      const stream = await this.#ask({ audio: this.#withDevice('microphone') });
      this.#take('microphone', stream.getTracks()[0]);
    }
    if (devices.camera !== undefined && this.tracks.has('camera')) {
      // Phones have one camera at a time.
      this.tracks.get('camera')?.stop();
      const stream = await this.#ask({ video: this.#withDevice('camera') });
      this.#take('camera', stream.getTracks()[0]);
    }
  }

  close(): void {
    for (const track of this.tracks.values()) track.stop();
    this.tracks.clear();
  }

  #withDevice(source: 'microphone' | 'camera'): MediaTrackConstraints {
    const id = this.#devices[source];
    const constraints = this.#constraints[source === 'microphone' ? 'audio' : 'video'];
    return id ? { ...constraints, deviceId: { exact: id } } : constraints;
  }

  async #ask(wanted: MediaStreamConstraints): Promise<MediaStream> {
    const { mediaDevices } = navigator;
    if (!mediaDevices) throw new CallError('media-unavailable', 'microphone and camera are to be had on https:// and localhost only');
    try {
      return await mediaDevices.getUserMedia(wanted);
    } catch (error) {
      if (wanted.audio && wanted.video && error instanceof Error && error.name !== 'NotAllowedError') {
        // One of the two is missing or taken: better the other one than none.
        for (const one of [{ audio: wanted.audio }, { video: wanted.video }]) {
          const stream = await mediaDevices.getUserMedia(one).catch(() => undefined);
          if (stream) return stream;
        }
      }
      throw explain(error);
    }
  }

  #take(source: Source, track: MediaStreamTrack | undefined): void {
    const before = this.tracks.get(source);
    if (track) {
      this.tracks.set(source, track);
      if (source === 'microphone') track.enabled = !this.#muted;
      // The device was taken away, or the sharing was ended by the browser's own button.
      track.onended = () => this.tracks.get(source) === track && this.#take(source, undefined);
    } else {
      this.tracks.delete(source);
    }
    if (before !== track) before?.stop();
    this.emit('track', { source, track });
  }
}

function explain(error: unknown): CallError {
  const name = error instanceof Error ? error.name : '';
  const detail = {
    NotAllowedError: 'the browser may not use the microphone and camera: allow it beside the address',
    NotFoundError: 'there is no microphone or camera on this device',
    NotReadableError: 'another program is using the microphone or camera',
  }[name];
  return new CallError('media-unavailable', detail ?? String(error));
}
