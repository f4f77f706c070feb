// Join tokens, by the epoch that they are for, and when the next one is due.

import { instant, type FreshToken } from './wire.ts';

/** A token is replaced when less than this is left of it, in milliseconds. */
const MARGIN_MS = 60_000;
/** Epochs whose tokens are kept: more paths than that there are never. */
const KEPT = 4;

export class Tokens {
  #byEpoch = new Map<number, string>();
  #newest: { token: string; expiresAt: number } | undefined;

  /** Keeps a token for the epoch that it names, or else for `epoch`. */
  keep({ token, expiresAt }: FreshToken, epoch: number): void {
    this.#byEpoch.set(claims(token)?.epoch ?? epoch, token);
    this.#newest = { token, expiresAt: instant(expiresAt) };
    while (this.#byEpoch.size > KEPT) this.#byEpoch.delete(Math.min(...this.#byEpoch.keys()));
  }

  /** For requests about this epoch. */
  for(epoch: number): string {
    return this.#byEpoch.get(epoch) ?? this.#newest?.token ?? '';
  }

  /** The latest, if it is good for a while. */
  current(nowMs: number): string | undefined {
    return this.#newest && this.#newest.expiresAt > nowMs ? this.#newest.token : undefined;
  }

  isDue(nowMs: number): boolean {
    return this.#newest !== undefined && this.#newest.expiresAt - nowMs < MARGIN_MS;
  }
}

/** What a token says, unverified: who bears it need not believe it, only know what it is for. */
export function claims(token: string): { sub?: string; epoch?: number; exp?: number; name?: string; role?: string } | undefined {
  try {
    const payload = (token.split('.')[1] ?? '').replace(/-/g, '+').replace(/_/g, '/');
    const bytes = Uint8Array.from(atob(payload), (character) => character.charCodeAt(0));
    const parsed: unknown = JSON.parse(new TextDecoder().decode(bytes));
    return parsed !== null && typeof parsed === 'object' ? parsed : undefined;
  } catch {
    return undefined;
  }
}
