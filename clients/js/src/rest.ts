// The gateway's REST API (docs/api.md), as far as those who join, and backends that make rooms, need it.

import { CallError } from './error.ts';
import { readAnswer } from './room-api.ts';

const REQUEST_MS = 10_000;

/** Asks the gateway at `url`, with the token of whoever asks if they have one. Rejects with a `CallError`. */
export async function post<Answer>(
  what: string, url: string, path: string, body: object, token?: string, headers: Record<string, string> = {},
): Promise<Answer> {
  let answer: Response;
  try {
    answer = await fetch(new URL(path, url), {
      method: 'POST',
      headers: { ...headers, 'content-type': 'application/json', ...(token === undefined ? {} : { authorization: `Bearer ${token}` }) },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(REQUEST_MS),
    });
  } catch (error) {
    throw new CallError('unreachable', `the gateway could not be reached: ${error instanceof Error ? error.message : error}`);
  }
  return readAnswer(what, answer);
}
