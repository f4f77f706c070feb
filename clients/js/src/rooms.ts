// What a backend does before anybody joins: makes a room, and links that let people in. Fields are those of docs/openapi.json.

import { post } from './rest.ts';
import type { Mode, Role } from './wire.ts';

export type RoomStatus = 'SCHEDULED' | 'ACTIVE' | 'COMPLETED';

/** What the call is asked to be. What is left out is as the gateway has it by default. */
export interface RoomSettings {
  /** How many people may be in the call at once, 2 to 50. */
  maxParticipants?: number;
  /** `Auto`: peer to peer while that does, and through a media node when it does not. */
  topology?: { mode?: 'Auto' | Mode; p2pMaxParticipants?: number; packetLossPercent?: number; stabilizationSeconds?: number };
  /** Who may join; `host` is among them. */
  allowedRoles?: Role[];
  /** 1 to 128 bytes. Hosts need none. */
  password?: string;
  /** Lets only those in who consented to the text of this version. */
  consent?: { required: boolean; version?: string; types?: 'recording_ai'[] };
  /** The call ends after nobody was in it for this long, 5 to 604800. */
  emptyTimeoutSeconds?: number;
  /** The call ends after this long, 60 to 2592000. */
  maxDurationSeconds?: number;
  /** The room is deleted this long after the call ended, 0 to 2592000. */
  ttlSecondsAfterEnded?: number;
  /** MediaPool that carries the call. */
  pool?: string;
  /** Region that media never leaves. */
  region?: string;
}

export interface CreateRoomOptions {
  /** Origin of the gateway, such as `https://calls.example.org`. */
  url: string;
  /** An API key of the gateway, or a token of the OpenID Connect issuer that it trusts. It opens every room: not for pages. */
  apiKey: string;
  /** User id of the host, 1 to 128 bytes. */
  hostId: string;
  /** As Kubernetes has names, up to 63 characters. One is made up otherwise. */
  name?: string;
  /** When the call is to begin: a `Date`, or RFC 3339. It can be joined from 10 minutes before. */
  scheduledTime?: Date | string;
  settings?: RoomSettings;
  /** The same request with the same key again is answered with the same room: 1 to 255 visible ASCII characters. */
  idempotencyKey?: string;
}

export interface RoomInfo {
  roomId: string;
  status: RoomStatus;
  /** Absent while there is no route. */
  mode?: Mode;
  epoch?: number;
  participants: number;
  maxParticipants: number;
  hostId?: string;
  locked: boolean;
  allowedRoles: Role[];
  passwordRequired: boolean;
  consentRequired: boolean;
  /** RFC 3339, as the other times. */
  createdAt: string;
  scheduledTime?: string;
  startedAt?: string;
  endedAt?: string;
  /** Why it has no media node, as one word. */
  reason?: string;
}

export interface CreatedRoom {
  /** For `joinCall`. */
  roomId: string;
  status: RoomStatus;
  /** The host's way in: `token` of `joinCall`. Absent while the room cannot be joined, and where consent is required. */
  joinToken?: string;
  /** When that ends, RFC 3339. */
  expiresAt?: string;
  /** Where the room's media API is. */
  apiUrl: string;
  room: RoomInfo;
}

/** Makes a room. Rejects with a `CallError`: the gateway's code, or `unreachable`. */
export function createRoom({ url, apiKey, idempotencyKey, hostId, name, scheduledTime, settings }: CreateRoomOptions): Promise<CreatedRoom> {
  const headers: Record<string, string> = idempotencyKey === undefined ? {} : { 'idempotency-key': idempotencyKey };
  return post('create', url, '/v1/rooms', { hostId, name, scheduledTime, settings }, apiKey, headers);
}

export interface CreateLinkOptions {
  /** Origin of the gateway, such as `https://calls.example.org`. */
  url: string;
  roomId: string;
  /** As of `createRoom`, or the join token of a host. */
  apiKey: string;
  /** What those who come by it are; `guest` by default. */
  role?: 'guest' | 'participant';
  /** How long it is good for, 60 to 2592000; a day by default. */
  expiresInSeconds?: number;
}

export interface ShareLink {
  /** By which it is revoked. */
  linkId: string;
  /** For `joinCall`. */
  linkToken: string;
  role: Role;
  /** RFC 3339. */
  expiresAt: string;
  /** What a person opens: the web app, where the gateway serves it. */
  href: string;
}

/** Makes a link that lets everybody in who has it. Rejects as `createRoom` does. */
export async function createLink({ url, roomId, apiKey, role, expiresInSeconds }: CreateLinkOptions): Promise<ShareLink> {
  const id = encodeURIComponent(roomId);
  const link = await post<Omit<ShareLink, 'href'>>('link', url, `/v1/rooms/${id}/links`, { role, expiresInSeconds }, apiKey);
  return { ...link, href: new URL(`/join/${id}#${link.linkToken}`, url).href };
}
