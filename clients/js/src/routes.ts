// Which paths there are, which is acknowledged, and which is let go of, as a route follows another.
//
// A path is the media of one epoch. The new one is opened while the old one carries media; it is acknowledged when
// media flows; the old one is closed when everybody has acknowledged. Pure: told what happened, says what to do.

import type { Joined, Mode } from './wire.ts';

/** How long the old path goes on after everybody has acknowledged the new one, in milliseconds: the last ones are still fading. */
export const LINGER_MS = 300;
/** Paths that are kept at a time: the one that is opened, and those before it whose media flows. The oldest go first. */
export const MAX_PATHS = 3;

/**
 * How long a newcomer waits to be told of a media server before meeting peers who are too many for peer to peer, in
 * milliseconds: connections that nobody will use delay those that all are waiting for. There may be no media server.
 */
export const NODE_SOON_MS = 1000;

export type Phase =
  /** It is being opened. */
  | 'opening'
  /** Media flows, and the gateway was told. */
  | 'flowing'
  /** It does not come to be, and the gateway was told. */
  | 'failed';

export interface PathState {
  readonly epoch: number;
  readonly mode: Mode;
  readonly phase: Phase;
}

export interface Routes {
  /** By epoch, oldest first. The last one is where the call is going. */
  readonly paths: readonly PathState[];
  /** Mode of the newest path whose media flows: what a person is told. */
  readonly shown: Mode | undefined;
  /** Newest epoch that everybody has reached. */
  readonly finished: number;
}

export type Input =
  | { type: 'route'; epoch: number; mode: Mode }
  | { type: 'flowing'; epoch: number }
  | { type: 'failed'; epoch: number; reason: string }
  | { type: 'switched'; epoch: number; success: boolean };

export type Effect =
  | { type: 'open'; epoch: number; mode: Mode }
  | { type: 'ack'; epoch: number; success: boolean; reason?: string }
  | { type: 'close'; epoch: number; afterMs: number };

export const NO_ROUTES: Routes = { paths: [], shown: undefined, finished: 0 };

export function decide(routes: Routes, input: Input): { routes: Routes; effects: Effect[] } {
  switch (input.type) {
    case 'route':
      return onRoute(routes, input);
    case 'flowing':
      return onPhase(routes, input.epoch, 'flowing', { type: 'ack', epoch: input.epoch, success: true });
    case 'failed':
      return onPhase(routes, input.epoch, 'failed', { type: 'ack', epoch: input.epoch, success: false, reason: input.reason });
    case 'switched':
      return onSwitched(routes, input);
  }
}

/** How long somebody who has joined waits before opening the path that they were told, in milliseconds. */
export function waitFor({ route, participants, p2pMaxParticipants = Infinity, resumed }: Joined): number {
  const isCrowded = participants.length + 1 > p2pMaxParticipants;
  return route.mode === 'P2P' && isCrowded && !resumed ? NODE_SOON_MS : 0;
}

/** The path that the call is going to. */
export function target({ paths }: Routes): PathState | undefined {
  return paths.at(-1);
}

function onRoute(routes: Routes, { epoch, mode }: { epoch: number; mode: Mode }) {
  const newest = target(routes);
  // What is told again changes nothing; what is older was overtaken.
  if (newest && epoch <= newest.epoch) return { routes, effects: [] };
  // What has not come to be by now is not needed any more, and costs as much as what is.
  const flowing = routes.paths.filter(({ phase }) => phase === 'flowing');
  const gone = [...routes.paths.filter(({ phase }) => phase !== 'flowing'), ...flowing.splice(0, flowing.length - MAX_PATHS + 1)];
  const paths = [...flowing, { epoch, mode, phase: 'opening' as const }];
  const effects: Effect[] = [
    { type: 'open', epoch, mode },
    ...gone.map((path): Effect => ({ type: 'close', epoch: path.epoch, afterMs: 0 })),
  ];
  return { routes: settled(routes, paths), effects };
}

function onPhase(routes: Routes, epoch: number, phase: Phase, ack: Effect) {
  const known = routes.paths.find((path) => path.epoch === epoch);
  if (!known || known.phase === phase) return { routes, effects: [] };
  const paths = routes.paths.map((path) => (path.epoch === epoch ? { ...path, phase } : path));
  const next = settled(routes, paths);
  const left = phase === 'flowing' && epoch <= routes.finished ? leave(next, epoch) : { routes: next, effects: [] };
  return { routes: left.routes, effects: [ack, ...left.effects] };
}

function onSwitched(routes: Routes, { epoch, success }: { epoch: number; success: boolean }) {
  if (!success) {
    // Back to what there was, if anything is left of it.
    const older = routes.paths.filter((path) => path.epoch !== epoch);
    if (older.length === routes.paths.length || older.length === 0) return { routes, effects: [] };
    return { routes: settled(routes, older), effects: [{ type: 'close', epoch, afterMs: 0 } as const] };
  }
  const finished = { ...routes, finished: Math.max(routes.finished, epoch) };
  // Whoever has not got there yet goes on with what works until it has.
  const reached = routes.paths.find((path) => path.epoch === epoch);
  return reached?.phase === 'flowing' ? leave(finished, epoch) : { routes: finished, effects: [] };
}

/** Lets go of everything before `epoch`. */
function leave(routes: Routes, epoch: number): { routes: Routes; effects: Effect[] } {
  const gone = routes.paths.filter((path) => path.epoch < epoch);
  const effects = gone.map((path): Effect => ({ type: 'close', epoch: path.epoch, afterMs: LINGER_MS }));
  return { routes: settled(routes, routes.paths.filter((path) => path.epoch >= epoch)), effects };
}

function settled(routes: Routes, paths: readonly PathState[]): Routes {
  return { ...routes, paths, shown: paths.findLast(({ phase }) => phase === 'flowing')?.mode };
}
