// How many layers a picture is sent in.

import type { types } from 'mediasoup-client';
import type { Source } from './path.ts';

const SCREEN_BITRATE = 2_500_000;

/**
 * Simulcast layers by the height of the picture, lowest first: one more than fits never starts the top one.
 * Bit rates are bits per second at most.
 */
export function encodingsFor(source: Source, { height = 0 }: { height?: number }): types.RtpEncodingParameters[] {
  if (source === 'screen') return [{ maxBitrate: SCREEN_BITRATE }];
  if (height >= 720) {
    return [
      { rid: 'r0', scaleResolutionDownBy: 4, maxBitrate: 150_000 },
      { rid: 'r1', scaleResolutionDownBy: 2, maxBitrate: 500_000 },
      { rid: 'r2', scaleResolutionDownBy: 1, maxBitrate: 1_700_000 },
    ];
  }
  if (height >= 360) {
    return [
      { rid: 'r0', scaleResolutionDownBy: 2, maxBitrate: 200_000 },
      { rid: 'r1', scaleResolutionDownBy: 1, maxBitrate: 900_000 },
    ];
  }
  return [{ maxBitrate: 500_000 }];
}

/** Which of so many layers are sent, lowest first, when `wanted` is the highest that anybody watches; `null`: nobody watches. */
export function activeLayers(count: number, wanted: number | null): boolean[] {
  return Array.from({ length: count }, (_, layer) => wanted !== null && layer <= wanted);
}
