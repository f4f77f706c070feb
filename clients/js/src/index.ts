export { Call } from './call.ts';
export type { CallEvents, CallState, Participant } from './call-events.ts';
export { giveConsent, type Consent, type ConsentOptions } from './consent.ts';
export { DomRendering, showOwn } from './dom.ts';
export { CallError } from './error.ts';
export { joinCall, type JoinOptions } from './join.ts';
export { LocalMedia, type Devices, type MediaRequest } from './local-media.ts';
export type { RemoteTrack, Source } from './path.ts';
export type { Quality } from './quality.ts';
export type { Layer, Rendering } from './rendering.ts';
export {
  createLink, createRoom, type CreatedRoom, type CreateLinkOptions, type CreateRoomOptions, type RoomInfo, type RoomSettings, type RoomStatus, type ShareLink,
} from './rooms.ts';
export type { ChatMessage, Level, Mode, Role } from './wire.ts';
