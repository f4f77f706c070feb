// The rhythm in which pictures of one participant appear.

/**
 * Told of every picture that was presented, it knows the longest wait between two. It lives as long as the
 * participant is in the call, across routes and reconnects: what it measures is what a person sees.
 */
export class FrameClock {
  /** @type {number | undefined} */
  #last;
  #presented = 0;
  #longest = 0;
  frames = 0;

  /**
   * @param {number} at when the picture was presented, in milliseconds
   * @param {number} presented count of pictures that this element has presented so far
   * @param {boolean} continued whether the previous picture came from the same element
   */
  picture(at, presented, continued) {
    // A busy page does not hear of every picture, but hears how many there were.
    const count = continued ? Math.max(1, presented - this.#presented) : 1;
    if (this.#last !== undefined) this.#longest = Math.max(this.#longest, (at - this.#last) / count);
    this.#last = at;
    this.#presented = presented;
    this.frames += count;
  }

  /**
   * The longest wait since the last call of this, the current wait included.
   * @param {number} now
   */
  takeLongestGap(now) {
    const gap = this.#last === undefined ? undefined : Math.max(this.#longest, now - this.#last);
    this.#longest = 0;
    return gap;
  }

  /** Since when no picture has come, although one was expected. @param {number} now */
  waiting(now) {
    return this.#last === undefined ? 0 : now - this.#last;
  }

  /** There is no picture to wait for: the camera is off. */
  pause() {
    this.#last = undefined;
  }
}
