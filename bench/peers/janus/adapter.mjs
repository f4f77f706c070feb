// Janus and its video room behind JSON lines: `publish` and `subscribe` in, where to connect out.
import { spawn } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, rmSync, writeFileSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import WebSocket from "ws";
import { serve } from "./lines.mjs";
import { answer, offer, parse } from "./sdp.mjs";

const here = process.cwd();
const freePort = () =>
  new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });

const config = mkdtempSync(path.join(tmpdir(), "janus-"));
for (const file of readdirSync(here).filter((name) => name.endsWith(".jcfg"))) {
  cpSync(path.join(here, file), path.join(config, file));
}
const port = await freePort();
const fill = (file, values) => {
  const text = readFileSync(path.join(config, file), "utf8");
  writeFileSync(path.join(config, file), text.replace(/\$(\w+)/g, (_, name) => values[name]));
};
fill("janus.transport.websockets.jcfg", { port });
fill("janus.jcfg", { config, here, loops: process.argv[2] });
const libraries = readdirSync(path.join(here, "root/usr/lib")).map((name) => path.join(here, "root/usr/lib", name));
// Whoever started us may end us in a way that lets us end nothing: Janus goes with us.
const janus = spawn(
  "setpriv",
  ["--pdeathsig", "KILL", path.join(here, "root/usr/bin/janus"), "-F", config],
  { stdio: ["ignore", 2, 2], env: { ...process.env, LD_LIBRARY_PATH: libraries.join(":") } },
);
const end = (code) => {
  janus.kill("SIGKILL");
  rmSync(config, { recursive: true, force: true });
  process.exit(code);
};
janus.on("exit", () => end(1));

async function connect() {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await new Promise((resolve, reject) => {
        const socket = new WebSocket(`ws://127.0.0.1:${port}`, "janus-protocol");
        socket.on("open", () => resolve(socket));
        socket.on("error", reject);
      });
    } catch (error) {
      if (attempt === 100) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

const socket = await connect();
const waiting = new Map();
// What to do when the connection of a handle stands.
const connected = new Map();
let transactions = 0;
socket.on("message", (data) => {
  const message = JSON.parse(data);
  if (message.janus === "webrtcup") connected.get(message.sender)?.();
  const waiter = waiting.get(message.transaction);
  // A request of the plugin is acknowledged first, and answered by an event.
  if (!waiter || message.janus === "ack") return;
  waiting.delete(message.transaction);
  const failed = message.error?.reason ?? message.plugindata?.data?.error;
  if (failed) waiter.reject(new Error(failed));
  else waiter.resolve(message);
});
function call(message) {
  transactions += 1;
  const transaction = String(transactions);
  socket.send(JSON.stringify({ ...message, transaction }));
  return new Promise((resolve, reject) => waiting.set(transaction, { resolve, reject }));
}

const session = (await call({ janus: "create" })).data.id;
setInterval(() => socket.send(JSON.stringify({ janus: "keepalive", session_id: session, transaction: "k" })), 20000);
const attach = async () =>
  (await call({ janus: "attach", session_id: session, plugin: "janus.plugin.videoroom" })).data.id;
const message = (handle, body, jsep) =>
  call({ janus: "message", session_id: session, handle_id: handle, body, ...(jsep && { jsep }) });

const control = await attach();
const rooms = new Map();
function room(name) {
  if (!rooms.has(name)) {
    const id = rooms.size + 1;
    const settings = { publishers: 100, bitrate: 0, audiocodec: "opus", videocodec: "vp8", audiolevel_event: false };
    rooms.set(name, message(control, { request: "create", room: id, ...settings }).then(() => id));
  }
  return rooms.get(name);
}

// Publishers whose connection does not stand yet have nothing to subscribe to.
const feeds = new Map();

const operations = {
  async publish(request) {
    const [id, handle] = [await room(request.room), await attach()];
    const names = request.tracks.map(({ mid }) => mid);
    const descriptions = request.tracks.map(({ mid, kind }) => ({ mid, description: kind }));
    const body = { request: "joinandconfigure", room: id, ptype: "publisher", display: request.user, descriptions };
    const event = await message(handle, body, { type: "offer", sdp: offer(request, names) });
    const feed = event.plugindata.data.id;
    feeds.set(feed, new Promise((resolve) => connected.set(handle, resolve)));
    return { ...parse(event.jsep.sdp).connect, ids: request.tracks.map(({ mid }) => `${feed} ${mid}`) };
  },
  async subscribe(request) {
    const [id, handle] = [await room(request.room), await attach()];
    const streams = request.wanted.map(({ track }) => {
      const [feed, mid] = track.split(" ");
      return { feed: Number(feed), mid };
    });
    await Promise.all(streams.map(({ feed }) => feeds.get(feed)));
    const event = await message(handle, { request: "join", room: id, ptype: "subscriber", streams });
    const { sections, connect } = parse(event.jsep.sdp);
    await message(handle, { request: "start" }, { type: "answer", sdp: answer(request, sections) });
    const given = event.plugindata.data.streams;
    const of = ({ feed, mid }) => {
      const stream = given.find((s) => s.feed_id === feed && s.feed_mid === mid);
      const { ssrc, rtx, transportCc } = sections.find((s) => s.mid === stream?.mid) ?? {};
      return { ssrc, rtx, transportCc };
    };
    return { ...connect, streams: streams.map(of) };
  },
};

serve([janus.pid], operations, () => end(0));
