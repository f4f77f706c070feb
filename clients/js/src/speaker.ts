// Who speaks, peer to peer, where no media server says so.

/** Below this nobody speaks (0 to 1, as WebRTC statistics have it; about -46 dBov). */
const SILENCE = 0.005;
/** How much louder another must be to be the one who speaks. */
const LOUDER = 1.5;
/** How much of the old level is in the new one. */
const SMOOTHING = 0.6;

export class SpeakerMeter {
  #levels = new Map<string, number>();
  #speaking: string | undefined;

  /** Levels of a moment, by participant, 0 to 1. Says who speaks. */
  observe(levels: ReadonlyMap<string, number>): string | undefined {
    for (const userId of this.#levels.keys()) if (!levels.has(userId)) this.#levels.delete(userId);
    for (const [userId, level] of levels) {
      this.#levels.set(userId, (this.#levels.get(userId) ?? 0) * SMOOTHING + level * (1 - SMOOTHING));
    }
    const loudest = [...this.#levels].reduce<[string, number] | undefined>((most, one) => (most && most[1] >= one[1] ? most : one), undefined);
    const current = this.#speaking === undefined ? 0 : (this.#levels.get(this.#speaking) ?? 0);
    if (!loudest || loudest[1] < SILENCE) this.#speaking = undefined;
    else if (current < SILENCE || loudest[1] > current * LOUDER) this.#speaking = loudest[0];
    return this.#speaking;
  }
}
