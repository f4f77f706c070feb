// Who is seen and heard by which track: the newest one that has something to show.

import type { RemoteTrack, Source } from './path.ts';
import type { Layer, Rendering } from './rendering.ts';

interface Entry {
  remote: RemoteTrack;
  layer: Layer;
  /** Media has come. */
  started: boolean;
  /** The publisher has paused it: nothing is to be waited for. */
  paused: boolean;
  raised: boolean;
}

export interface StageListener {
  /** Another track of this participant and source is shown, or none. */
  onShown(userId: string, source: Source, track: RemoteTrack | undefined): void;
  /** Something came closer to being shown. */
  onProgress(): void;
  /** The first media of this participant and source has come. */
  onStarted(track: RemoteTrack): void;
}

export class Stage {
  #rendering: Rendering;
  #listener: StageListener;
  /** By participant and source, lowest epoch first. */
  #slots = new Map<string, Entry[]>();

  constructor(rendering: Rendering, listener: StageListener) {
    this.#rendering = rendering;
    this.#listener = listener;
  }

  add(remote: RemoteTrack): void {
    const slot = this.#slot(remote);
    if (slot.some((entry) => entry.remote === remote)) return;
    const entry: Entry = { remote, layer: this.#rendering.add(remote), started: false, paused: false, raised: false };
    slot.push(entry);
    slot.sort((a, b) => a.remote.epoch - b.remote.epoch);
    // Where there is nothing yet, there is nothing to wait for.
    if (!slot.some(({ raised }) => raised)) this.#raise(slot, entry);
    void entry.layer.started.then(() => this.#onStarted(entry));
  }

  remove(remote: RemoteTrack): void {
    const slot = this.#slot(remote);
    const at = slot.findIndex((entry) => entry.remote === remote);
    const [entry] = at < 0 ? [] : slot.splice(at, 1);
    if (!entry) return;
    entry.layer.remove();
    if (entry.raised) {
      // It is gone before the next one was ready, or that one did not come to be: better what there is than nothing.
      const next = slot.findLast(({ started }) => started) ?? slot.at(-1);
      if (next) this.#raise(slot, next);
      else this.#listener.onShown(remote.userId, remote.source, undefined);
    }
    if (slot.length === 0) this.#slots.delete(key(remote));
    this.#listener.onProgress();
  }

  setPaused(remote: RemoteTrack, paused: boolean): void {
    const slot = this.#slot(remote);
    const entry = slot.find((one) => one.remote === remote);
    if (!entry) return;
    entry.paused = paused;
    if (paused && isNewest(slot, entry)) this.#raise(slot, entry);
    this.#listener.onProgress();
  }

  /** Whether what this participant and source has to show is shown by the path of `epoch`. */
  isShownBy(epoch: number, userId: string, source: Source): boolean {
    const slot = this.#slots.get(`${source} ${userId}`) ?? [];
    return slot.some(({ remote, started, raised, paused }) => remote.epoch === epoch && raised && (started || paused));
  }

  /** Who and what is shown, by whichever path. */
  shown(): RemoteTrack[] {
    return [...this.#slots.values()].flatMap((slot) => slot.filter(({ raised }) => raised).map(({ remote }) => remote));
  }

  clear(): void {
    for (const slot of this.#slots.values()) for (const { layer } of slot) layer.remove();
    this.#slots.clear();
  }

  async #onStarted(entry: Entry): Promise<void> {
    if (!this.#slots.get(key(entry.remote))?.includes(entry)) return;
    entry.started = true;
    this.#listener.onStarted(entry.remote);
    this.#listener.onProgress();
    if (entry.raised) return;
    await entry.layer.settled;
    const slot = this.#slots.get(key(entry.remote)) ?? [];
    if (slot.includes(entry) && isNewest(slot, entry)) this.#raise(slot, entry);
  }

  #raise(slot: Entry[], entry: Entry): void {
    if (entry.raised) return;
    const { userId, source } = entry.remote;
    const isFirst = !slot.some(({ raised }) => raised);
    const done = () => {
      if (!slot.includes(entry)) return;
      for (const other of slot) other.raised = other === entry;
      this.#listener.onShown(userId, source, entry.remote);
      this.#listener.onProgress();
    };
    const raised = entry.layer.raise();
    if (isFirst) done();
    else void raised.then(done);
  }

  #slot(remote: RemoteTrack): Entry[] {
    const slot = this.#slots.get(key(remote)) ?? [];
    this.#slots.set(key(remote), slot);
    return slot;
  }
}

/** Whether no track of a later path that has something to show is there. */
function isNewest(slot: Entry[], entry: Entry): boolean {
  return !slot.some(({ remote, started, raised }) => remote.epoch > entry.remote.epoch && (started || raised));
}

function key({ userId, source }: RemoteTrack): string {
  return `${source} ${userId}`;
}
