// The socket to the gateway: joins, comes back, and asks.
//
// A connection that was lost is made again by the library. We then say where we were (`resume`), and either get what we
// missed, or are in the call anew; media goes on meanwhile, since it does not go through the socket.

import { io, type Socket } from 'socket.io-client';
import { CallError } from './error.ts';
import { Emitter } from './emitter.ts';
import { CALL_EVENTS, MEDIA_EVENTS, type Joined, type Problem, type ServerEvent, type ServerEvents } from './wire.ts';

/** How long an answer may take. */
const ANSWER_MS = 8000;
/** Numbers of events that are remembered, so that a replayed one is not taken twice. */
const SEEN = 512;

export interface SignallingOptions {
  /** Origin of the gateway. */
  url: string;
  /** Where it serves Socket.IO. */
  path: string;
  roomId: string;
  /** A join token that is good now. */
  token(): Promise<string>;
  state(): { isMuted: boolean; isVideoOn: boolean };
}

export interface SignallingEvents {
  joined: Joined;
  event: { [Name in ServerEvent]: { name: Name; data: ServerEvents[Name] } }[ServerEvent];
  /** The connection is lost; it comes back by itself. */
  down: string;
  /** The gateway does not let us in, and will not. */
  refused: CallError;
}

export class Signalling extends Emitter<SignallingEvents> {
  #options: SignallingOptions;
  #socket: Socket;
  #resume: { session: string; seq: string } | undefined;
  #seen = new Set<string>();
  #joined = false;
  #wasUp = false;
  #closed = false;

  constructor(options: SignallingOptions) {
    super();
    this.#options = options;
    this.#socket = io(options.url, {
      path: options.path,
      transports: ['websocket', 'polling'],
      // Where WebSockets are blocked it is polling.
      tryAllTransports: true,
      reconnectionDelay: 100,
      reconnectionDelayMax: 2000,
      timeout: 5000,
      autoConnect: false,
    });
    this.#socket.on('connect', () => {
      this.#wasUp = true;
      void this.#join();
    });
    this.#socket.on('disconnect', (reason) => {
      this.#joined = false;
      if (this.#closed) return;
      this.emit('down', reason);
      // The server ended it (it stops, or does not know us any more): the library leaves the next step to us.
      if (reason === 'io server disconnect') this.#socket.connect();
    });
    this.#socket.on('connect_error', (error) => {
      // There are proxies that let a WebSocket wait for ever.
      if (!this.#wasUp) this.#socket.io.opts.transports = ['polling', 'websocket'];
      this.emit('down', error.message);
    });
    // The answer says the same, and may come after what happened next.
    this.#socket.on('call:joined', (joined: Joined) => this.#onJoined(joined));
    for (const name of [...CALL_EVENTS, ...MEDIA_EVENTS]) {
      this.#socket.on(name, (data: unknown) => this.#onEvent(name, data));
    }
  }

  open(): void {
    this.#socket.connect();
  }

  /** Whether the gateway hears us now. */
  get isUp(): boolean {
    return this.#joined;
  }

  /** How it is connected: `websocket` or `polling`. */
  get transport(): string | undefined {
    return this.#socket.io.engine?.transport?.name;
  }

  /** Cuts the connection as a network does: for tests and for networks that change. It comes back by itself. */
  cut(): void {
    this.#socket.io.engine?.close();
  }

  /**
   * Asks, and gives the answer.
   *
   * Rejects with the gateway's `CallError`, with `timeout`, or with `disconnected` when it cannot be asked now.
   */
  async ask<Answer = Record<string, never>>(name: string, data: object = {}): Promise<Answer> {
    if (!this.#joined) throw new CallError('disconnected', 'the connection to the call is being made again');
    return this.#ask(name, data);
  }

  /** Says what need not be answered: it is dropped while the connection is lost. */
  tell(name: string, data: object): void {
    this.ask(name, data).catch(() => {});
  }

  async leave(): Promise<void> {
    if (this.#closed) return;
    const left = this.#joined ? this.#ask('leave-room', {}, 1000).catch(() => {}) : undefined;
    this.#closed = true;
    await left;
    this.close();
  }

  close(): void {
    this.#closed = true;
    this.#joined = false;
    this.#socket.disconnect();
  }

  async #ask<Answer>(name: string, data: object, withinMs = ANSWER_MS): Promise<Answer> {
    let answer: { error?: Problem } & Answer;
    try {
      answer = await this.#socket.timeout(withinMs).emitWithAck(name, data);
    } catch {
      throw new CallError(this.#socket.connected ? 'timeout' : 'disconnected', `${name}: no answer`);
    }
    if (answer?.error) throw CallError.of(answer.error);
    return answer;
  }

  async #join(): Promise<void> {
    const socket = this.#socket.id;
    try {
      const joined = await this.#ask<Joined>('join-room', {
        roomId: this.#options.roomId,
        token: await this.#options.token(),
        ...this.#options.state(),
        ...(this.#resume ? { resume: this.#resume } : {}),
      });
      if (this.#socket.id === socket && !this.#joined) this.#onJoined(joined);
    } catch (error) {
      if (this.#closed || this.#socket.id !== socket) return;
      const refused = error instanceof CallError ? error : new CallError('unreachable', String(error));
      if (refused.isFinal) this.emit('refused', refused);
      else {
        this.emit('down', refused.message);
        // Again, after the library's wait.
        this.#socket.io.engine?.close();
      }
    }
  }

  #onJoined(joined: Joined): void {
    if (this.#closed) return;
    if (!joined.resumed) this.#seen.clear();
    this.#resume = { session: joined.session, seq: joined.seq };
    this.#joined = true;
    this.emit('joined', joined);
    for (const { event, data, seq } of joined.missed ?? []) {
      this.#onEvent(event as ServerEvent, { ...(data as object), seq });
    }
  }

  #onEvent(name: ServerEvent, data: unknown): void {
    if (this.#closed) return;
    const { seq } = (data ?? {}) as { seq?: string };
    if (seq !== undefined) {
      if (this.#seen.has(seq)) return;
      this.#seen.add(seq);
      const [oldest] = this.#seen;
      if (this.#seen.size > SEEN && oldest !== undefined) this.#seen.delete(oldest);
      if (this.#resume) this.#resume.seq = seq;
    }
    this.emit('event', { name, data } as SignallingEvents['event']);
  }
}
