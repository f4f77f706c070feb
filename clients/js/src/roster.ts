// Who is in the call, as far as one can know while the gateway may be forgetting and remembering.

import type { WireParticipant } from './wire.ts';

/**
 * How long somebody whom the gateway does not name after it has restarted may take to come back, in milliseconds.
 * Their media goes on meanwhile: it does not go through the gateway.
 */
export const RETURN_MS = 10_000;

/**
 * The same for somebody whose connection to the gateway was lost, and who may have come back in the same moment as
 * somebody new to it: their media need not have suffered.
 */
export const RETURN_SOON_MS = 1500;

export interface Roster {
  readonly present: ReadonlyMap<string, WireParticipant>;
  /** Not named any more, but maybe on the way back: until when, by the clock that is passed in. */
  readonly missing: ReadonlyMap<string, number>;
}

export const NOBODY: Roster = { present: new Map(), missing: new Map() };

/** The gateway names everybody. When it has resumed our session, that is the truth; else some may not be back yet. */
export function named(roster: Roster, participants: WireParticipant[], resumed: boolean, nowMs: number): Roster {
  const present = new Map(participants.map((participant) => [participant.userId, participant]));
  const missing = new Map<string, number>();
  if (!resumed) {
    for (const [userId, participant] of roster.present) {
      if (present.has(userId)) continue;
      present.set(userId, participant);
      missing.set(userId, roster.missing.get(userId) ?? nowMs + RETURN_MS);
    }
  }
  return { present, missing };
}

export function joined(roster: Roster, participant: WireParticipant): Roster {
  const missing = new Map(roster.missing);
  missing.delete(participant.userId);
  return { present: new Map(roster.present).set(participant.userId, participant), missing };
}

export function left(roster: Roster, userId: string): Roster {
  const [present, missing] = [new Map(roster.present), new Map(roster.missing)];
  present.delete(userId);
  missing.delete(userId);
  return { present, missing };
}

/** Somebody may come back until then. */
export function lost(roster: Roster, userId: string, untilMs: number): Roster {
  if (!roster.present.has(userId)) return roster;
  return { ...roster, missing: new Map(roster.missing).set(userId, untilMs) };
}

export function changed(roster: Roster, userId: string, change: Partial<WireParticipant>): Roster {
  const participant = roster.present.get(userId);
  if (!participant) return roster;
  return { ...roster, present: new Map(roster.present).set(userId, { ...participant, ...change }) };
}

/** Those who have had their time to come back go. */
export function expired(roster: Roster, nowMs: number): Roster {
  let next = roster;
  for (const [userId, until] of roster.missing) if (until <= nowMs) next = left(next, userId);
  return next;
}
