// How long to wait before the next attempt.

/** Doubles from attempt to attempt up to a limit, with jitter so that a room's pages do not all return at once. */
export class Backoff {
  #attempts = 0;

  /**
   * @param {{firstMs?: number, limitMs?: number, random?: () => number}} [options]
   */
  constructor({ firstMs = 200, limitMs = 3000, random = Math.random } = {}) {
    this.firstMs = firstMs;
    this.limitMs = limitMs;
    this.random = random;
  }

  /** Milliseconds until the next attempt: between half and all of the current step. */
  next() {
    const step = Math.min(this.limitMs, this.firstMs * 2 ** this.#attempts);
    this.#attempts = Math.min(this.#attempts + 1, 30);
    return step * (0.5 + this.random() / 2);
  }

  reset() {
    this.#attempts = 0;
  }
}

/** @param {number} ms @param {AbortSignal} [signal] ends the wait early */
export function sleep(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms);
    signal?.addEventListener('abort', done, { once: true });
    function done() {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve(undefined);
    }
  });
}
