// The media node's HTTP API for one room (docs/api.md), as the gateway passes it on.

import type { types } from 'mediasoup-client';
import { CallError } from './error.ts';
import type { ProducerInfo } from './wire.ts';

const TIMEOUT_MS = 8000;

export interface Room {
  id: string;
  epoch: number;
  routerRtpCapabilities: types.RtpCapabilities;
  participants: { id: string }[];
  producers: ProducerInfo[];
}

export interface ConsumerOffer {
  id: string;
  producerId: string;
  kind: types.MediaKind;
  rtpParameters: types.RtpParameters;
  producerPaused: boolean;
}

export class RoomApi {
  #base: string;
  #token: () => string;
  #stop: AbortSignal;

  /** `token` gives one that is good now, for the epoch that is asked about. `stop` ends what is under way. */
  constructor(base: string, token: () => string, stop: AbortSignal) {
    this.#base = base.replace(/\/+$/, '');
    this.#token = token;
    this.#stop = stop;
  }

  room(): Promise<Room> {
    return this.#ask('GET', '');
  }

  createTransport(direction: 'send' | 'recv'): Promise<types.TransportOptions> {
    return this.#ask('POST', '/transports', { direction });
  }

  connect(transport: string, dtlsParameters: types.DtlsParameters): Promise<void> {
    return this.#ask('POST', `/transports/${transport}/connect`, { dtlsParameters });
  }

  restartIce(transport: string): Promise<{ iceParameters: types.IceParameters }> {
    return this.#ask('POST', `/transports/${transport}/restart-ice`);
  }

  produce(transport: string, track: { kind: types.MediaKind; rtpParameters: types.RtpParameters; appData: object }): Promise<{ id: string }> {
    return this.#ask('POST', `/transports/${transport}/produce`, track);
  }

  consume(transportId: string, producerId: string, rtpCapabilities: types.RtpCapabilities, paused: boolean): Promise<ConsumerOffer> {
    return this.#ask('POST', '/consume', { transportId, producerId, rtpCapabilities, paused });
  }

  resume(consumer: string): Promise<void> {
    return this.#ask('POST', `/consumers/${consumer}/resume`);
  }

  unpublish(producer: string): Promise<void> {
    return this.#ask('DELETE', `/producers/${producer}`);
  }

  pause(producer: string, paused: boolean): Promise<void> {
    return this.#ask('POST', `/producers/${producer}/${paused ? 'pause' : 'resume'}`);
  }

  /** A transport that came to nothing, so that attempts do not add up. Asked after the end too; nobody waits for it. */
  abandon(transport: string): void {
    const headers = { authorization: `Bearer ${this.#token()}` };
    fetch(`${this.#base}/transports/${transport}`, { method: 'DELETE', headers, keepalive: true }).catch(() => {});
  }

  async #ask<Answer>(method: string, path: string, body?: object): Promise<Answer> {
    const what = `${method} ${path.replace(/[0-9a-f-]{16,}/g, '…') || 'room'}`;
    let answer: Response;
    const ended = new AbortController();
    const end = () => ended.abort();
    const timer = setTimeout(end, TIMEOUT_MS);
    this.#stop.addEventListener('abort', end);
    try {
      this.#stop.throwIfAborted();
      answer = await fetch(this.#base + path, {
        method,
        headers: { authorization: `Bearer ${this.#token()}`, ...(body ? { 'content-type': 'application/json' } : {}) },
        ...(body ? { body: JSON.stringify(body) } : {}),
        signal: ended.signal,
      });
      return await readAnswer(what, answer);
    } catch (error) {
      if (error instanceof CallError) throw error;
      throw new CallError('unreachable', `${what}: ${error instanceof Error ? error.message : error}`);
    } finally {
      clearTimeout(timer);
      this.#stop.removeEventListener('abort', end);
    }
  }
}

/** The answer's object; rejects with the problem where there is one. */
export async function readAnswer<Answer>(what: string, answer: Response): Promise<Answer> {
  const text = await answer.text();
  const isJson = /json/.test(answer.headers.get('content-type') ?? '');
  const json = text && isJson ? JSON.parse(text) : undefined;
  if (answer.ok) return json as Answer;
  throw new CallError(json?.code ?? 'unknown', `${what}: ${json?.detail ?? (text.slice(0, 200) || answer.statusText)}`, answer.status);
}
