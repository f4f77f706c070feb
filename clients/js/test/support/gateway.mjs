// A gateway that does what a test tells it: the protocol of docs/signalling.md with a script in place of an operator.
//
// Decisions of the client are tried out against it, without Kubernetes. What is proven, is proven against the real one.

import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer, request } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { Server } from 'socket.io';
import { WebSocket } from 'ws';

const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.json': 'application/json' };
const CSP = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; media-src 'self' blob:; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const MEDIA_EVENTS = new Set(['room', 'new-producer', 'producer-closed', 'consumer-closed', 'consumer-paused', 'consumer-resumed', 'active-speaker', 'layers-changed', 'producer-layers-wanted']);
const ROOM = 'default.lab';

/**
 * @typedef {{socket: import('socket.io').Socket | undefined, participant: any, session: string, events: Map<number, WebSocket>, acked: number, log: any[], timer?: any}} Member
 */

export class ScriptedGateway {
  /** @type {Map<string, Member>} */
  members = new Map();
  /** @type {{epoch: number, mode: 'P2P' | 'SFU'}} */
  route = { epoch: 1, mode: 'P2P' };
  /** @type {{epoch: number, mode: 'P2P' | 'SFU'} | undefined} */
  previous;
  /** @type {any[]} */
  acks = [];
  #seq = 0;
  /** @type {any[]} */
  #history = [];
  /** @type {any[]} */
  chat = [];
  /** Mode by the number of participants; off, nothing but the test changes it. */
  auto = false;
  /** @type {{code: string, status: number} | undefined} what every join is answered with */
  refusal;

  /**
   * @param {{webRoot?: string, media?: {directory: import('../../../../e2e/browser/lib/standalone.mjs').Standalone}, mint?: Function}} options
   */
  constructor({ webRoot, media, mint }) {
    this.webRoot = webRoot;
    this.media = media;
    this.mint = mint;
    this.http = createServer((asked, answer) => void this.#serve(asked, answer));
    this.io = new Server(this.http, { pingInterval: 5000, pingTimeout: 4000 });
    this.io.on('connection', (socket) => this.#welcome(socket));
  }

  async listen(port = 0) {
    this.http.listen(port, '127.0.0.1');
    await once(this.http, 'listening');
    this.port = /** @type {import('node:net').AddressInfo} */ (this.http.address()).port;
    this.url = `http://localhost:${this.port}`;
    return this;
  }

  async close() {
    for (const { events, timer } of this.members.values()) {
      clearTimeout(timer);
      for (const socket of events.values()) socket.close();
    }
    await this.io.close();
    this.http.closeAllConnections();
  }

  /** @param {'P2P' | 'SFU'} mode */
  async switch(mode, reason = 'Requested') {
    this.previous = this.route;
    this.route = { epoch: this.route.epoch + 1, mode };
    await this.#prepare();
    for (const [userId, member] of this.members) {
      const initiator = [...this.members.keys()].filter((other) => userId < other);
      this.#relay(userId, member);
      this.#tell(member, 'call:mode-switch', { ...this.#offer(userId), reason, initiator });
    }
    return this.route.epoch;
  }

  /** @param {string} user */
  token(user, role = 'participant', epoch = this.route.epoch) {
    const { token, expiresAt } = this.mint
      ? this.mint({ callId: ROOM, user, epoch, role, name: user })
      : { token: `e30.${Buffer.from(JSON.stringify({ sub: user, epoch, exp: Math.floor(Date.now() / 1000) + 600, role })).toString('base64url')}.`, expiresAt: Math.floor(Date.now() / 1000) + 600 };
    return { token, expiresAt };
  }

  /** @param {string} name @param {any} data @param {(userId: string) => boolean} [to] */
  broadcast(name, data, to = () => true) {
    this.#seq += 1;
    const event = { ...data, seq: String(this.#seq) };
    this.#history.push({ event: name, data, seq: String(this.#seq), to });
    for (const [userId, member] of this.members) if (to(userId)) this.#tell(member, name, event);
  }

  /** @param {Member} member @param {string} name @param {any} data */
  #tell(member, name, data) {
    member.socket?.emit(name, data);
  }

  async #prepare() {
    if (this.route.mode === 'P2P' || !this.media) return;
    this.media.directory.epoch = this.route.epoch;
    await this.media.directory.serving(ROOM);
    const answer = await fetch(`${this.media.directory.api}/api/rooms/${ROOM}`, { headers: { authorization: `Bearer ${this.token('gateway').token}` } });
    this.capabilities = (await answer.json()).routerRtpCapabilities;
  }

  /** @param {string} userId */
  #offer(userId) {
    const { role } = this.members.get(userId)?.participant ?? { role: 'participant' };
    return {
      ...this.route,
      ...this.token(userId, role),
      apiUrl: `/api/rooms/${ROOM}`,
      iceServers: [],
      ...(this.route.mode === 'SFU' ? { rtpCapabilities: this.capabilities } : {}),
    };
  }

  /** The media node's events of this participant, on to its socket. @param {string} userId @param {Member} member */
  #relay(userId, member) {
    const { epoch, mode } = this.route;
    if (mode !== 'SFU' || !this.media || member.events.has(epoch)) return;
    const url = `${this.media.directory.api.replace('http', 'ws')}/api/rooms/${ROOM}/events`;
    const socket = new WebSocket(url, ['callplane.v1', `bearer.${this.token(userId).token}`]);
    member.events.set(epoch, socket);
    socket.onmessage = ({ data }) => {
      const event = JSON.parse(String(data));
      if (MEDIA_EVENTS.has(event.type)) this.#tell(member, event.type, { ...event.data, epoch });
    };
    socket.onerror = () => {};
  }

  /** @param {import('socket.io').Socket} socket */
  #welcome(socket) {
    /** @type {string | undefined} */
    let user;
    const member = () => (user === undefined ? undefined : this.members.get(user));
    const on = (/** @type {string} */ name, /** @type {(data: any) => any} */ handle) => socket.on(name, async (data, ack) => {
      try {
        if (name !== 'join-room' && !member()) throw { code: 'not-in-room', status: 409 };
        const answer = await handle(data);
        ack?.(answer ?? {});
      } catch (error) {
        ack?.({ error });
      }
    });
    on('join-room', async ({ roomId, token, resume, isMuted = false, isVideoOn = true }) => {
      const { sub, name, role } = JSON.parse(Buffer.from(token.split('.')[1], 'base64url').toString());
      if (roomId !== ROOM) throw { code: 'wrong-room', status: 403 };
      if (this.refusal) throw this.refusal;
      user = sub;
      const known = this.members.get(sub);
      clearTimeout(known?.timer);
      const before = resume !== undefined && known?.session === resume.session ? known : undefined;
      const resumed = before !== undefined;
      const participant = { userId: sub, displayName: name ?? sub, role, isMuted, isVideoOn, joinedAt: known?.participant.joinedAt ?? new Date().toISOString() };
      const others = [...this.members].filter(([id]) => id !== sub);
      if (known && !resumed) {
        for (const events of known.events.values()) events.close();
        this.broadcast('call:participant-left', { userId: sub, reason: 'left' }, (to) => to !== sub);
      }
      const now = { socket, participant, session: before?.session ?? `${sub}-${Math.random()}`, events: before?.events ?? new Map(), acked: 0, log: known?.log ?? [] };
      this.members.set(sub, now);
      this.#relay(sub, now);
      if (!resumed) this.broadcast('call:participant-joined', participant, (to) => to !== sub);
      const missed = resumed ? this.#history.filter(({ seq, to }) => Number(seq) > Number(resume.seq) && to(sub)).map(({ event, data, seq }) => ({ event, data, seq })) : undefined;
      const { epoch, mode, ...offer } = this.#offer(sub);
      queueMicrotask(() => this.auto && void this.#count());
      return {
        roomId, session: now.session, seq: String(this.#seq), resumed, missed, self: participant,
        participants: others.map(([, { participant: other }]) => other), route: { epoch, mode }, previousRoute: this.previous, ...offer,
        initiator: others.map(([id]) => id), chat: this.chat, locked: false, p2pMaxParticipants: 2,
      };
    });
    on('leave-room', () => this.#gone(user, 'left'));
    on('route-ack', ({ epoch, success, reason }) => {
      this.acks.push({ user, epoch, success, reason });
      const own = member();
      if (own && success) own.acked = Math.max(own.acked, epoch);
      this.#settle();
    });
    for (const name of ['webrtc:offer', 'webrtc:answer', 'webrtc:ice-candidate']) {
      on(name, ({ targetUserId, ...data }) => {
        const target = this.members.get(targetUserId);
        if (!target) throw { code: 'participant-not-found', status: 404 };
        this.#tell(target, name, { ...data, sourceUserId: user });
      });
    }
    on('update-state', (change) => {
      Object.assign(member()?.participant, change);
      this.broadcast('state-changed', { userId: user, ...change }, (to) => to !== user);
    });
    on('chat', ({ text }) => {
      const message = { id: String(this.chat.length + 1), userId: user, displayName: user, text, at: new Date().toISOString() };
      this.chat.push(message);
      this.broadcast('chat', message);
      return { id: message.id, at: message.at };
    });
    on('quality', ({ level }) => this.broadcast('quality', { userId: user, level }, (to) => to !== user));
    on('refresh-token', () => ({ ...this.token(user ?? ''), iceServers: [] }));
    on('host:mute', ({ userId }) => this.#tell(/** @type {Member} */ (this.members.get(userId)), 'call:muted', { by: user }));
    on('host:remove', ({ userId }) => {
      this.#tell(/** @type {Member} */ (this.members.get(userId)), 'call:removed', { by: user });
      this.#gone(userId, 'removed');
    });
    on('host:lock', ({ locked }) => this.broadcast('call:locked', { locked, by: user }));
    on('host:end', () => this.broadcast('call:ended', { reason: 'ended' }));
    socket.on('disconnect', () => {
      const own = member();
      if (!own || own.socket !== socket) return;
      own.socket = undefined;
      own.timer = setTimeout(() => this.#gone(user, 'disconnected'), 30_000);
    });
  }

  /** @param {string | undefined} userId @param {string} reason */
  #gone(userId, reason) {
    const member = this.members.get(userId ?? '');
    if (!member) return;
    clearTimeout(member.timer);
    for (const events of member.events.values()) events.close();
    this.members.delete(userId ?? '');
    this.broadcast('call:participant-left', { userId, reason });
    this.#settle();
    if (this.auto) void this.#count();
  }

  async #count() {
    const wanted = this.members.size > 2 ? 'SFU' : 'P2P';
    if (this.previous === undefined && wanted !== this.route.mode) await this.switch(wanted, wanted === 'SFU' ? 'Grown' : 'Shrunk');
  }

  #settle() {
    const { epoch, mode } = this.route;
    if (this.previous === undefined || [...this.members.values()].some(({ acked }) => acked < epoch)) return;
    this.previous = undefined;
    this.broadcast('call:mode-switched', { epoch, mode, success: true });
    if (this.auto) void this.#count();
  }

  /** @param {import('node:http').IncomingMessage} asked @param {import('node:http').ServerResponse} answer */
  async #serve(asked, answer) {
    const { pathname } = new URL(asked.url ?? '/', 'http://localhost');
    if (pathname.startsWith('/api/rooms/')) return this.#pass(asked, answer);
    if (/^\/v1\/rooms\/[^/]+\/join$/.test(pathname)) {
      let body = '';
      for await (const part of asked) body += part;
      const { linkToken, displayName = 'Guest' } = JSON.parse(body);
      const user = `guest-${displayName.toLowerCase()}`;
      answer.writeHead(200, { 'content-type': 'application/json' });
      return answer.end(JSON.stringify({ ...this.token(user, linkToken === 'host' ? 'host' : 'guest'), userId: user, route: this.route, apiUrl: `/api/rooms/${ROOM}`, iceServers: [] }));
    }
    if (!this.webRoot) return answer.writeHead(404).end();
    const file = pathname === '/' || pathname.startsWith('/join/') ? 'index.html' : normalize(pathname).replace(/^\/+/, '');
    try {
      const content = await readFile(join(this.webRoot, file));
      answer.writeHead(200, { 'content-type': TYPES[/** @type {'.html'} */ (extname(file))] ?? 'application/octet-stream', 'content-security-policy': CSP });
      answer.end(content);
    } catch {
      answer.writeHead(404).end();
    }
  }

  /** @param {import('node:http').IncomingMessage} asked @param {import('node:http').ServerResponse} answer */
  #pass(asked, answer) {
    if (!this.media) return answer.writeHead(502).end();
    const onward = request(`${this.media.directory.api}${asked.url}`, { method: asked.method, headers: { ...asked.headers, host: 'node' } }, (came) => {
      answer.writeHead(came.statusCode ?? 502, came.headers);
      came.pipe(answer);
    });
    onward.on('error', () => answer.headersSent || answer.writeHead(502).end());
    asked.pipe(onward);
  }
}
