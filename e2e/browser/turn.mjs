#!/usr/bin/env node
// Asks a TURN server for a relay, and then for permission to reach some addresses.
//
// On standard input one JSON object: {url: "turn:HOST:PORT?transport=udp", username, credential, peers: ["192.0.2.1"]}, or
// instead of a credential {secret, ends}: the shared secret, and the end of what is minted with it in seconds from now.
// On standard output {allocate, peers: {"192.0.2.1": code}}: 0 is granted, anything else the code of the refusal.

import { text } from 'node:stream/consumers';
import { mint, TurnClient } from './lib/turn-client.mjs';

const { url, username, credential, secret, ends, peers = [] } = JSON.parse(await text(process.stdin));
const found = /^(turns?):([^:?]+):(\d+)(?:\?transport=(udp|tcp))?$/.exec(url);
if (!found) throw new Error(`not a URL of a TURN server with a port: ${url}`);
const [, scheme, host = '', port, transport = 'udp'] = found;
const way = scheme === 'turns' ? 'tls' : /** @type {'udp' | 'tcp'} */ (transport);
const login = secret ? mint(secret, Math.floor(Date.now() / 1000) + ends) : { username, credential };
const client = await TurnClient.to({ way, host, port: Number(port) }, login);
try {
  const allocate = await client.allocate();
  /** @type {Record<string, number>} */
  const codes = {};
  if (allocate === 0) for (const ip of peers) codes[ip] = await client.permit(ip);
  console.log(JSON.stringify({ allocate, peers: codes }));
} finally {
  client.close();
}
