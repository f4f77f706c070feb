// What the gateway is measured against: a plain Socket.IO server that does the same for the same clients, in memory.
//
// socketio.mjs <public key as PEM, in base64>: prints its port.

import { createPublicKey, randomUUID, verify } from 'node:crypto';
import { createServer } from 'node:http';
import { Server } from 'socket.io';

const MAX_CHAT = 50;
const key = createPublicKey(Buffer.from(process.argv[2] ?? '', 'base64'));

/** @typedef {{members: Map<string, object>, chat: object[], seq: number}} Room */
/** @type {Map<string, Room>} */
const rooms = new Map();

/** @param {string} token @returns {any} its claims */
function claimsOf(token) {
  const [head = '', body = '', signature = ''] = token.split('.');
  const isGood = verify('sha256', Buffer.from(`${head}.${body}`), { key, dsaEncoding: 'ieee-p1363' }, Buffer.from(signature, 'base64url'));
  const claims = JSON.parse(Buffer.from(body, 'base64url').toString());
  if (!isGood || claims.exp * 1000 < Date.now()) throw new Error('credentials-invalid');
  return claims;
}

/** @param {string} id */
function roomOf(id) {
  /** @type {Room} */
  const room = rooms.get(id) ?? { members: new Map(), chat: [], seq: 0 };
  rooms.set(id, room);
  return room;
}

const server = createServer();
// The heartbeat of the gateway; everything else as it comes.
const io = new Server(server, { pingInterval: 15_000, pingTimeout: 15_000, serveClient: false });
io.on('connection', (socket) => {
  let [user, id] = ['', ''];
  socket.on('join-room', ({ roomId, token }, ack) => {
    const claims = claimsOf(token);
    if (claims.roomId !== roomId) return ack({ error: { code: 'wrong-room' } });
    [user, id] = [claims.sub, roomId];
    const room = roomOf(id);
    const self = { userId: user, role: claims.role, isMuted: false, isVideoOn: true, joinedAt: new Date().toISOString() };
    const participants = [...room.members.values()];
    room.members.set(user, self);
    room.seq += 1;
    const joined = { roomId, session: randomUUID(), seq: String(room.seq), resumed: false, self, participants, token, chat: room.chat, locked: false };
    void socket.join(id);
    socket.emit('call:joined', joined);
    ack(joined);
    socket.to(id).emit('call:participant-joined', { ...self, seq: String(room.seq) });
  });
  socket.on('chat', ({ text }, ack) => {
    const room = roomOf(id);
    room.seq += 1;
    const line = { id: randomUUID(), userId: user, text, at: new Date().toISOString() };
    room.chat.push(line);
    if (room.chat.length > MAX_CHAT) room.chat.shift();
    io.to(id).emit('chat', { ...line, seq: String(room.seq) });
    ack({ id: line.id, at: line.at });
  });
  socket.on('disconnect', () => {
    const room = rooms.get(id);
    if (!room?.members.delete(user)) return;
    room.seq += 1;
    socket.to(id).emit('call:participant-left', { userId: user, reason: 'left', seq: String(room.seq) });
    if (room.members.size === 0) rooms.delete(id);
  });
});
server.listen(0, '127.0.0.1', () => console.log(/** @type {import('node:net').AddressInfo} */ (server.address()).port));
