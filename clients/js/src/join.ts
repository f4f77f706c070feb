// The way into a call: by a share link, or with a join token of one's own backend.

import { Call } from './call.ts';
import { CallError } from './error.ts';
import { LocalMedia, type MediaRequest } from './local-media.ts';
import { NoRendering, type Rendering } from './rendering.ts';
import { post } from './rest.ts';
import { Signalling } from './signalling.ts';
import { claims, Tokens } from './tokens.ts';

/** How long the whole way in may take, in milliseconds. */
const JOIN_MS = 20_000;

export interface JoinOptions {
  /** Origin of the gateway, such as `https://calls.example.org`. */
  url: string;
  roomId: string;
  /** A join token, from `POST /v1/rooms` or `/join`. */
  token?: string;
  /** A share link's token: what stands after the `#` of the link. */
  linkToken?: string;
  /** For guests by link; with a token, the token says. */
  displayName?: string;
  password?: string;
  /** Proof of a consent that the room asks for, as `giveConsent` has it. */
  consentToken?: string;
  /** What to send: asked for here, or already open (a preview). Both by default; `false` sends nothing. */
  media?: MediaRequest | LocalMedia | false;
  /** Who shows and plays: `new DomRendering()` in a browser. Without it, take the tracks from the participants. */
  rendering?: Rendering;
  /** Where the gateway serves Socket.IO. */
  socketPath?: string;
}

interface Admission {
  token: string;
  expiresAt: string | number;
  userId?: string;
}

/** Joins, and resolves when one is in. Rejects with a `CallError`: refused, `media-unavailable`, or `timeout`. */
export async function joinCall(options: JoinOptions): Promise<Call> {
  const { url, roomId, socketPath = '/socket.io/', rendering = new NoRendering() } = options;
  const media = options.media instanceof LocalMedia ? options.media : new LocalMedia();
  const isOurs = media !== options.media;
  // Both take time, and neither needs the other.
  const [admission] = await Promise.all([
    admit(options),
    isOurs && options.media !== false ? media.open((options.media as MediaRequest | undefined) ?? {}) : undefined,
  ]).catch((error) => {
    if (isOurs) media.close();
    throw error;
  });
  const tokens = new Tokens();
  tokens.keep(admission, claims(admission.token)?.epoch ?? 0);
  const signalling = new Signalling({
    url,
    path: socketPath,
    roomId,
    token: async () => {
      const current = tokens.current(Date.now());
      if (current !== undefined) return current;
      // Away for longer than a token lasts: in again the way we came.
      const anew = await admit(options);
      tokens.keep(anew, claims(anew.token)?.epoch ?? 0);
      return anew.token;
    },
    state: () => ({ isMuted: media.isMuted, isVideoOn: media.isVideoOn }),
  });
  const call = new Call({ url, signalling, media, rendering, tokens });
  await entered(call, signalling);
  return call;
}

function entered(call: Call, signalling: Signalling): Promise<void> {
  return new Promise((resolve, reject) => {
    let last = 'no answer';
    const stops = [
      signalling.on('down', (why) => (last = why)),
      call.on('state', ({ state, error }) => {
        if (state === 'joining' || state === 'reconnecting') return;
        done();
        if (state === 'joined') resolve();
        else reject(error ?? new CallError(state, `the call is over: ${state}`));
      }),
    ];
    const timer = setTimeout(() => {
      done();
      void call.leave();
      reject(new CallError('timeout', `the gateway could not be reached: ${last}`));
    }, JOIN_MS);
    const done = () => {
      clearTimeout(timer);
      for (const stop of stops) stop();
    };
    signalling.open();
  });
}

async function admit({ url, roomId, token, linkToken, displayName, password, consentToken }: JoinOptions): Promise<Admission> {
  if (token !== undefined) {
    const exp = claims(token)?.exp;
    if (exp === undefined) throw new CallError('invalid', 'the join token cannot be read');
    return { token, expiresAt: exp };
  }
  if (linkToken === undefined) throw new CallError('invalid', 'a call is joined with a token or a linkToken');
  return post('join', url, `/v1/rooms/${encodeURIComponent(roomId)}/join`, { linkToken, displayName, password, consentToken });
}
