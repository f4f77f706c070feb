// What the address says about the call to join.

/**
 * Reads `room`, `user` and `token` from the fragment (which never leaves the browser), else from the query.
 * @param {string} href
 */
export function joinParams(href) {
  const url = new URL(href);
  const fragment = new URLSearchParams(url.hash.slice(1));
  const field = (/** @type {string} */ name) => (fragment.get(name) ?? url.searchParams.get(name) ?? '').trim();
  return { room: field('room'), user: field('user'), token: field('token') };
}

/**
 * The same address without the token: addresses are copied, and shown on shared screens.
 * @param {string} href
 */
export function withoutToken(href) {
  const url = new URL(href);
  const fragment = new URLSearchParams(url.hash.slice(1));
  fragment.delete('token');
  url.searchParams.delete('token');
  // Dots, dashes and the like need no escape, and a room's name is easier to read without.
  url.hash = [...fragment].map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join('&');
  return url.href;
}
