// The id under which clients know a room: `<namespace>.<name>` of its CallRoom.

/** @typedef {{namespace: string, name: string}} CallId */

const LABEL = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
const NAME = /^[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$/;

/**
 * A namespace is a DNS label and holds no dot, so the first dot separates the two.
 * @param {string} text
 * @returns {CallId | undefined}
 */
export function parseCallId(text) {
  const dot = text.indexOf('.');
  const [namespace, name] = [text.slice(0, Math.max(dot, 0)), text.slice(dot + 1)];
  return LABEL.test(namespace) && NAME.test(name) ? { namespace, name } : undefined;
}
