// What the core asks of whatever shows pictures and plays sound. In browsers that is dom.ts.

import type { RemoteTrack } from './path.ts';
import { sleep } from './timing.ts';

/** One track, made ready beside or beneath the one that it takes over from. */
export interface Layer {
  /** Resolves when it has shown a picture or let hear real sound. Never rejects; stays pending when nothing comes. */
  readonly started: Promise<void>;
  /** Resolves some time after that, when it runs evenly enough to take over: first frames come unevenly. */
  readonly settled: Promise<void>;
  /** Shows it, or lets it be heard, in place of the others of this participant and source. Resolves when that is done. */
  raise(): Promise<void>;
  remove(): void;
}

/** How long media runs before it takes over, in milliseconds. */
export const SETTLE_MS = 400;

export interface Rendering {
  /** Makes a track ready. It is neither seen nor heard before it is raised. */
  add(track: RemoteTrack): Layer;
}

/** Samples of real sound (at 48 kHz) after which there is sound. */
const ENOUGH_SAMPLES = 960;
const POLL_MS = 40;

/** Resolves when media really arrives at the receiver: decoded pictures, or samples that are no concealment. */
export async function mediaFlows(receiver: RTCRtpReceiver, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const report = await receiver.getStats();
    let flows = false;
    report.forEach((stat) => {
      if (stat.type !== 'inbound-rtp') return;
      flows ||= (stat.framesDecoded ?? 0) > 0 || (stat.totalSamplesReceived ?? 0) - (stat.concealedSamples ?? 0) > ENOUGH_SAMPLES;
    });
    if (flows) return;
    await sleep(POLL_MS, signal);
  }
}

/** Shows nothing: for whoever takes the tracks from the participants' streams, as a React Native app does. */
export class NoRendering implements Rendering {
  add({ receiver }: RemoteTrack): Layer {
    const removed = new AbortController();
    const started = receiver ? mediaFlows(receiver, removed.signal).catch(() => {}) : Promise.resolve();
    return {
      started,
      settled: started.then(() => sleep(SETTLE_MS, removed.signal)),
      raise: () => Promise.resolve(),
      remove: () => removed.abort(),
    };
  }
}
