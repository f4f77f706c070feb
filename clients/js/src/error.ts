// What goes wrong, with the stable codes of problem+json.

import type { Problem } from './wire.ts';

/** Nothing changes by trying again. */
const FINAL = new Set([
  'wrong-room', 'role-not-allowed', 'room-locked', 'link-revoked', 'room-not-found', 'room-ended', 'not-permitted', 'removed',
  'room-full', 'invalid', 'credentials-invalid', 'credentials-expired', 'consent-required', 'password-required', 'wrong-password', 'room-replaced',
]);

/** A request that was refused, or got no answer (`timeout`, `unreachable`, `disconnected`). */
export class CallError extends Error {
  override name = 'CallError';
  /** As in problem+json, or one of those above. */
  code: string;
  /** As of HTTP; 0 where there was no answer. */
  status: number;

  constructor(code: string, message: string, status = 0) {
    super(message);
    this.code = code;
    this.status = status;
  }

  static of({ code, title, detail, status }: Problem): CallError {
    return new CallError(code, detail ?? title ?? code, status ?? 0);
  }

  /** Whether there is no use in asking the same again. */
  get isFinal(): boolean {
    return FINAL.has(this.code);
  }
}
