export { Call, type CallEvents, type CallState, type Participant } from './call.ts';
export { DomRendering, showOwn } from './dom.ts';
export { CallError } from './error.ts';
export { joinCall, type JoinOptions } from './join.ts';
export { LocalMedia, type Devices, type MediaRequest } from './local-media.ts';
export type { RemoteTrack, Source } from './path.ts';
export type { Quality } from './quality.ts';
export type { Layer, Rendering } from './rendering.ts';
export type { ChatMessage, Level, Mode, Role } from './wire.ts';
