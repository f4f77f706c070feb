// What is told of a call.

import type { CallError } from './error.ts';
import type { Quality } from './quality.ts';
import type { Source } from './path.ts';
import type { ChatMessage, Level, Mode, WireParticipant } from './wire.ts';

/** `reconnecting`: the gateway is out of reach; media goes on. `replaced`: the same user has joined somewhere else. */
export type CallState = 'joining' | 'joined' | 'reconnecting' | 'left' | 'removed' | 'replaced' | 'ended' | 'failed';

/** Those in which the call is over. */
export const OVER: readonly CallState[] = ['left', 'removed', 'replaced', 'ended', 'failed'];

export interface Participant extends Readonly<WireParticipant> {
  readonly isSelf: boolean;
  readonly isSpeaking: boolean;
  readonly quality: Level | undefined;
  /** What is shown of them now. A track is another one after the call went another way: take it anew with each `participants`. */
  readonly tracks: Readonly<Partial<Record<Source, MediaStreamTrack>>>;
}

export interface CallEvents {
  state: { state: CallState; error?: CallError };
  /** Who is there, or what is known of one of them, has changed. */
  participants: readonly Participant[];
  joined: Participant;
  left: { participant: Participant; reason: string };
  mode: Mode | undefined;
  /**
   * A route has been reached: how long it took from its being told until everything was shown by it, and when on the way
   * each step was done for the last time, such as `camera came`, `camera started` and
   * `camera shown` of the others. All in milliseconds.
   */
  switched: { epoch: number; mode: Mode; ms: number; steps: Readonly<Record<string, number>> };
  /** The first picture or sound of a participant's source. */
  media: { userId: string; source: Source };
  quality: Quality;
  chat: ChatMessage;
  local: { source: Source; track: MediaStreamTrack | undefined };
  /** A host has muted us. */
  muted: { by: string };
  locked: boolean;
}
