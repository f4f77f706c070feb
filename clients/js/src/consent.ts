// What a room asks people to consent to, before they are let in.

import { post } from './rest.ts';

export interface ConsentOptions {
  /** Origin of the gateway, such as `https://calls.example.org`. */
  url: string;
  roomId: string;
  /** A join token: somebody in the call answers again. */
  token?: string;
  /** A share link's token: what stands after the `#` of the link. */
  linkToken?: string;
  /** `declined` takes back what was given before, and ends one's part in the call. */
  status?: 'accepted' | 'declined';
  /** Of the text that was shown. Refused (`conflict`) when the room asks in another one by now. */
  version?: string;
}

export interface Consent {
  /** Who answered: somebody who comes by a link has this id in the call. */
  userId: string;
  version: string;
  /** For `joinCall`, if the answer was yes: good for ten minutes. */
  consentToken?: string;
}

/** Answers the question that a refusal with `consent-required` asks: whether the call may be recorded and evaluated by AI. */
export function giveConsent({ url, roomId, token, linkToken, status = 'accepted', version }: ConsentOptions): Promise<Consent> {
  return post('consent', url, '/v1/users/consent', { meetingId: roomId, consentType: 'recording_ai', status, version, linkToken }, token);
}
