// Reads a call's routes out of its CallRoom: which epoch is served where.

import { Problem } from './problem.mjs';

/**
 * @typedef {{epoch: number, mode: string, node: string}} Route
 * @typedef {{epoch: number, api: string, roomUid?: string}} Serving  A media node's API, and the epoch that it serves there;
 *   the UID of the CallRoom where a token is to be made for it.
 */

/**
 * The current route. Throws a Problem that says why there is none.
 * @param {any} room a CallRoom
 * @returns {Route}
 */
export function currentRoute(room) {
  const route = readRoute(room?.status?.route);
  if (route) return route;
  const named = `CallRoom ${room?.metadata?.namespace}/${room?.metadata?.name}`;
  if (room?.status?.phase === 'Ended') throw new Problem(410, 'room-ended', `${named} has ended`);
  const placed = (room?.status?.conditions ?? []).find((/** @type {any} */ c) => c.type === 'Placed');
  const why = placed?.status === 'False' ? `: ${placed.reason}: ${placed.message}` : '';
  throw new Problem(503, 'no-route', `${named} has no media node yet${why}`);
}

/**
 * The route of one epoch, while it is served: while clients move to a new route, the previous one still carries media.
 * @param {any} room a CallRoom
 * @param {number} epoch
 * @returns {Route | undefined}
 */
export function routeOfEpoch(room, epoch) {
  return [room?.status?.route, room?.status?.previousRoute].map(readRoute).find((route) => route?.epoch === epoch);
}

/**
 * Where a media node's API is.
 * @param {any} node a MediaNode
 * @returns {string}
 */
export function apiOf(node) {
  const api = node?.status?.endpoints?.api;
  if (typeof api !== 'string' || !/^https?:\/\//.test(api)) {
    throw new Problem(503, 'node-not-ready', `MediaNode ${node?.metadata?.name} does not say where its API is`);
  }
  return api;
}

/** @param {any} route @returns {Route | undefined} */
function readRoute(route) {
  return Number.isInteger(route?.epoch) && typeof route?.node === 'string'
    ? { epoch: route.epoch, mode: route.mode, node: route.node }
    : undefined;
}
