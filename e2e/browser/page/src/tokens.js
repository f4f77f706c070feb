// Where join tokens come from: the address first, the server from then on.

/** A token is replaced when less than this is left of it. */
const MARGIN_SECONDS = 60;

/** @typedef {{token: string, epoch: number, expiresAt: number}} Ticket */

export class Tokens {
  /** @type {Map<number, Ticket>} by epoch */
  #held = new Map();
  /** @type {Ticket | undefined} */
  #given;

  /** @param {{room: string, user: string, token?: string}} who */
  constructor({ room, user, token }) {
    this.room = room;
    this.user = user;
    if (token) this.#given = this.#keep(readToken(token));
  }

  /** The token to join with: the one in the address while it is good, else a new one. */
  async toJoin() {
    const given = this.#given;
    this.#given = undefined;
    return given && !expiresSoon(given) ? given : this.refresh();
  }

  /**
   * A token for this epoch. When the call has moved on, there are no new ones for it: the old one has to do.
   * @param {number} epoch
   */
  async forEpoch(epoch) {
    const held = this.#held.get(epoch);
    if (held && !expiresSoon(held)) return held;
    const fresh = await this.refresh().catch(() => undefined);
    const usable = fresh?.epoch === epoch ? fresh : held;
    if (!usable) throw new Error(`there is no token for epoch ${epoch}`);
    return usable;
  }

  /** A new token, for the epoch that is current now. */
  async refresh() {
    const query = new URLSearchParams({ room: this.room, user: this.user });
    const answer = await fetch(`/token?${query}`, { signal: AbortSignal.timeout(8000) });
    if (!answer.ok) {
      const problem = await answer.json().catch(() => ({}));
      throw Object.assign(new Error(problem.detail ?? `no token: the server answered ${answer.status}`), { status: answer.status });
    }
    return this.#keep(await answer.json());
  }

  /** @param {Ticket} ticket */
  #keep(ticket) {
    this.#held.set(ticket.epoch, ticket);
    return ticket;
  }
}

/** @param {Ticket} ticket */
function expiresSoon({ expiresAt }) {
  return expiresAt - Date.now() / 1000 < MARGIN_SECONDS;
}

/** @param {string} token @returns {Ticket} */
export function readToken(token) {
  try {
    const bytes = Uint8Array.from(atob((token.split('.')[1] ?? '').replace(/-/g, '+').replace(/_/g, '/')), (c) => c.charCodeAt(0));
    const { epoch, exp } = JSON.parse(new TextDecoder().decode(bytes));
    return { token, epoch, expiresAt: exp };
  } catch {
    throw new Error('the join token in the address cannot be read');
  }
}
