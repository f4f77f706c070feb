// @ts-nocheck: an AudioWorklet has globals of its own, and TypeScript no types for them.
// Counts sound that is heard: blocks below the threshold are silence.

const SILENCE = 0.004;

class Meter extends AudioWorkletProcessor {
  #silent = 0;
  #heard = false;

  /** @param {Float32Array[][]} inputs */
  process([input]) {
    const block = input?.[0];
    let power = 0;
    for (const sample of block ?? []) power += sample * sample;
    const length = block?.length ?? 128;
    if (Math.sqrt(power / length) > SILENCE) {
      if (this.#heard && this.#silent > 0) this.port.postMessage((1000 * this.#silent) / sampleRate);
      this.#heard = true;
      this.#silent = 0;
    } else {
      this.#silent += length;
    }
    return true;
  }
}

registerProcessor('meter', Meter);
