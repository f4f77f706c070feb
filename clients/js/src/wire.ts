// What travels over the socket: the names and shapes of docs/signalling.md.

import type { types } from 'mediasoup-client';

export type Mode = 'P2P' | 'SFU';
export type Role = 'host' | 'participant' | 'guest' | 'admin';
export type Level = 'good' | 'fair' | 'poor';

/** Somebody in the call, as the gateway tells it. */
export interface WireParticipant {
  userId: string;
  displayName?: string;
  role: Role;
  isMuted: boolean;
  isVideoOn: boolean;
  /** RFC 3339. */
  joinedAt: string;
}

/** A message of the call's chat. */
export interface ChatMessage {
  id: string;
  userId: string;
  displayName?: string;
  /** Plain text of up to 4096 bytes: whoever shows it must not read it as HTML. */
  text: string;
  /** RFC 3339. */
  at: string;
}

/** How a route is reached. */
export interface RouteOffer {
  epoch: number;
  mode: Mode;
  /** Join token for this epoch. */
  token: string;
  /** RFC 3339, or seconds since 1970. */
  expiresAt: string | number;
  /** Base of the media node's API, as the gateway passes it on. */
  apiUrl: string;
  rtpCapabilities?: types.RtpCapabilities;
  /** Whom this client sends the offer, peer to peer. */
  initiator?: string[];
  iceServers?: RTCIceServer[];
}

export interface Route {
  epoch: number;
  mode: Mode;
}

export interface Joined extends Omit<RouteOffer, 'epoch' | 'mode'> {
  roomId: string;
  session: string;
  seq: string;
  resumed: boolean;
  missed?: { event: string; data: unknown; seq: string }[];
  self: WireParticipant;
  participants: WireParticipant[];
  route: Route;
  previousRoute?: Route;
  chat: ChatMessage[];
  locked: boolean;
  p2pMaxParticipants?: number;
}

export interface ModeSwitch extends RouteOffer {
  reason: string;
}

export interface Description {
  sdp: string;
  epoch: number;
}

export interface Candidate {
  candidate: RTCIceCandidateInit | null;
  epoch: number;
}

/** A problem, as problem+json has it. */
export interface Problem {
  code: string;
  title?: string;
  detail?: string;
  status?: number;
}

export interface FreshToken {
  token: string;
  expiresAt: string | number;
  iceServers?: RTCIceServer[];
}

/** An event of a media node: of the one that serves this epoch. */
export interface OfNode {
  epoch?: number;
}

/** What the gateway sends, by name. */
export interface ServerEvents {
  'call:joined': Joined;
  'call:participant-joined': WireParticipant;
  'call:participant-left': { userId: string; reason?: string };
  'call:mode-switch': ModeSwitch;
  'call:mode-switched': { epoch: number; mode: Mode; success: boolean };
  'call:muted': { by: string };
  'call:removed': { by?: string };
  'call:locked': { locked: boolean; by: string };
  'call:ended': { reason?: string };
  /** Another socket of ours has joined. */
  'call:replaced': Record<string, never>;
  'state-changed': { userId: string; isMuted?: boolean; isVideoOn?: boolean };
  chat: ChatMessage;
  quality: { userId: string; level: Level };
  token: FreshToken;
  'webrtc:offer': Description & { sourceUserId: string };
  'webrtc:answer': Description & { sourceUserId: string };
  'webrtc:ice-candidate': Candidate & { sourceUserId: string };
  room: OfNode & { producers: ProducerInfo[] };
  'new-producer': OfNode & ProducerInfo;
  'producer-closed': OfNode & { producerId: string; participantId?: string; closedBy?: string };
  'consumer-closed': OfNode & { consumerId: string; producerId: string };
  'consumer-paused': OfNode & { consumerId: string; producerId: string; reason?: string };
  'consumer-resumed': OfNode & { consumerId: string; producerId: string; reason?: string };
  'active-speaker': OfNode & { producerId?: string; participantId?: string };
  'layers-changed': OfNode & { consumerId: string; spatialLayer: number; temporalLayer?: number };
  'producer-layers-wanted': OfNode & { producerId: string; spatialLayer: number | null };
}

export type ServerEvent = keyof ServerEvents;

/** Events of the media node that the gateway passes on. */
export const MEDIA_EVENTS = [
  'room', 'new-producer', 'producer-closed', 'consumer-closed', 'consumer-paused', 'consumer-resumed', 'active-speaker',
  'layers-changed', 'producer-layers-wanted',
] as const satisfies readonly ServerEvent[];

export const CALL_EVENTS = [
  'call:participant-joined', 'call:participant-left', 'call:mode-switch', 'call:mode-switched', 'call:muted', 'call:removed',
  'call:locked', 'call:ended', 'call:replaced', 'state-changed', 'chat', 'quality', 'token', 'webrtc:offer', 'webrtc:answer', 'webrtc:ice-candidate',
] as const satisfies readonly ServerEvent[];

/** A published track, as the media node tells it. */
export interface ProducerInfo {
  id: string;
  participantId: string;
  kind: 'audio' | 'video';
  type?: string;
  paused?: boolean;
  appData?: Record<string, unknown>;
}

/** Milliseconds since 1970 of what is told as RFC 3339 or as seconds. */
export function instant(at: string | number): number {
  return typeof at === 'number' ? at * 1000 : Date.parse(at);
}
