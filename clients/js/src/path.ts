// A path: the media of one epoch, between peers or through a media server. Both look the same from outside.

import type { Mode } from './wire.ts';

/** What a track shows or lets hear. */
export type Source = 'microphone' | 'camera' | 'screen';
export const SOURCES: readonly Source[] = ['microphone', 'camera', 'screen'];

export function kindOf(source: Source): 'audio' | 'video' {
  return source === 'microphone' ? 'audio' : 'video';
}

/** A track that comes from somebody. */
export interface RemoteTrack {
  userId: string;
  source: Source;
  track: MediaStreamTrack;
  receiver?: RTCRtpReceiver;
  epoch: number;
}

export interface PathListener {
  /** A track has come; media may follow. */
  onTrack(track: RemoteTrack): void;
  onTrackEnded(track: RemoteTrack): void;
  /** The publisher paused it, or nobody sends it to us for now. */
  onPaused(track: RemoteTrack, paused: boolean): void;
  /** It does not come to be, or is no more. `reason` is for `route-ack`. */
  onFailed(epoch: number, reason: string): void;
}

export interface Path {
  readonly epoch: number;
  readonly mode: Mode;
  /** Connects, publishes what there is, and takes what the others publish. Rejects when there is no way. */
  open(local: ReadonlyMap<Source, MediaStreamTrack>): Promise<void>;
  /** Sends the track, in place of what was sent before. `undefined`: nothing any more. */
  publish(source: Source, track: MediaStreamTrack | undefined): Promise<void>;
  /** The track goes on to exist but says nothing. */
  setPaused(source: Source, paused: boolean): void;
  /** ICE servers with fresh credentials, for what is connected from now on, or again. */
  setIceServers(iceServers: RTCIceServer[]): void;
  /** Who is in the call beside us, by user id. */
  setPeers(userIds: ReadonlySet<string>): void;
  /** Whether there is a connection to everybody that there should be one to. */
  isConnected(): boolean;
  /** Whose media this path carries or will carry, as far as it knows: what has been published. */
  expected(): RemoteTrack[];
  reports(): Promise<RTCStatsReport[]>;
  close(): void;
}
