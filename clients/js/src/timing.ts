// Waiting.

/** Doubles from attempt to attempt up to a limit, with jitter so that a room's clients do not all return at once. */
export class Backoff {
  #attempts = 0;
  #firstMs: number;
  #limitMs: number;
  #random: () => number;

  constructor({ firstMs = 200, limitMs = 2000, random = Math.random } = {}) {
    this.#firstMs = firstMs;
    this.#limitMs = limitMs;
    this.#random = random;
  }

  /** Milliseconds until the next attempt: between half and all of the current step. */
  next(): number {
    const step = Math.min(this.#limitMs, this.#firstMs * 2 ** this.#attempts);
    this.#attempts = Math.min(this.#attempts + 1, 30);
    return step * (0.5 + this.#random() / 2);
  }
}

/** When what happened, in milliseconds from the beginning. Of what happens several times the last time counts. */
export class Timeline {
  #began = performance.now();
  #steps: Record<string, number> = {};

  get ms(): number {
    return Math.round(performance.now() - this.#began);
  }

  get steps(): Record<string, number> {
    return { ...this.#steps };
  }

  mark(step: string): void {
    this.#steps[step] = this.ms;
  }
}

/** Wakes whoever waits for something to happen. */
export class Bell {
  #rung = new AbortController();

  ring(): void {
    const rung = this.#rung;
    this.#rung = new AbortController();
    rung.abort();
  }

  /** Resolves when it rings, or after so many milliseconds. */
  wait(ms: number): Promise<void> {
    return sleep(ms, this.#rung.signal);
  }
}

/** Resolves after so many milliseconds, or as soon as the signal is aborted. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener('abort', done);
  });
}
