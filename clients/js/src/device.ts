// What this browser can send and receive, which a route through a media server begins with.
//
// mediasoup-client makes two connections to learn it, each time. It does not change while the page is there, so it is asked
// once, and before it is needed: in the middle of a switch everything waits for the processor.

import { detectDevice, Device, type types } from 'mediasoup-client';
import { Chrome74 } from 'mediasoup-client/handlers/Chrome74';
import { Chrome111 } from 'mediasoup-client/handlers/Chrome111';
import { Firefox120 } from 'mediasoup-client/handlers/Firefox120';
import { ReactNative106 } from 'mediasoup-client/handlers/ReactNative106';
import { Safari12 } from 'mediasoup-client/handlers/Safari12';

const HANDLERS: Record<types.BuiltinHandlerName, { createFactory(): types.HandlerFactory }> = {
  Chrome111, Chrome74, Firefox120, Safari12, ReactNative106,
};

let factory: types.HandlerFactory | undefined;

/** A device that is still to be loaded. Throws `UnsupportedError` where mediasoup-client knows of no way. */
export function newDevice(): Device {
  const known = handlers();
  return known ? new Device({ handlerFactory: known }) : new Device();
}

/** Learns what the browser can, if that is not known yet. Never rejects: whoever needs it hears of it then. */
export async function warmUp(): Promise<void> {
  const known = handlers();
  await Promise.allSettled((['recvonly', 'sendonly'] as const).map((direction) => known?.getNativeRtpCapabilities({ direction })));
}

function handlers(): types.HandlerFactory | undefined {
  const name = factory ? undefined : detectDevice();
  if (name) factory = onceFor(HANDLERS[name].createFactory());
  return factory;
}

/** The same, asked once for each direction. */
export function onceFor(made: types.HandlerFactory): types.HandlerFactory {
  const answers = new Map<string, Promise<types.RtpCapabilities>>();
  return {
    ...made,
    getNativeRtpCapabilities: (options) => {
      const answer = answers.get(options.direction) ?? made.getNativeRtpCapabilities(options);
      answers.set(options.direction, answer);
      answer.catch(() => answers.delete(options.direction));
      return answer;
    },
  };
}
