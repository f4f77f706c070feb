// LiveKit behind JSON lines: `publish` and `subscribe` in, where to connect out.
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createServer } from "node:net";
import path from "node:path";
import process from "node:process";
import {
  AddTrackRequest,
  SessionDescription,
  SignalRequest,
  SignalResponse,
  SignalTarget,
  TrackSource,
  TrackType,
  UpdateSubscription,
} from "@livekit/protocol";
import { AccessToken } from "livekit-server-sdk";
import WebSocket from "ws";
import { serve } from "./lines.mjs";
import { address, answer, offer, parse } from "./sdp.mjs";

// The oldest signalling protocol with everything that the media path has (ICE-lite, all tracks of a room in one offer).
const PROTOCOL = 16;
const PING = 5000;
/** What the server says that anybody waits for. */
const AWAITED = new Set(["answer", "offer", "trickle", "trackPublished"]);
const loops = Number(process.argv[2]);
const key = "load";
const secret = randomBytes(24).toString("hex");

const freePort = async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
};
const bound = (port) =>
  new Promise((resolve) => {
    const socket = createSocket("udp4");
    socket.on("error", () => resolve(undefined));
    socket.bind(port, "127.0.0.1", () => resolve(socket));
  });
// As many ports in a row as it is to have sockets.
async function freePorts(count) {
  for (;;) {
    const sockets = [await bound(0)];
    const { port } = sockets[0].address();
    while (sockets.length < count && sockets.at(-1)) sockets.push(await bound(port + sockets.length));
    const free = sockets.every(Boolean);
    sockets.filter(Boolean).forEach((socket) => socket.close());
    if (free) return port;
  }
}

const port = await freePort();
const media = await freePorts(loops);
const config = {
  port,
  bind_addresses: ["127.0.0.1"],
  keys: { [key]: secret },
  logging: { level: "error" },
  room: { auto_create: true },
  rtc: {
    udp_port: loops > 1 ? `${media}-${media + loops - 1}` : media,
    tcp_port: 0,
    use_external_ip: false,
    node_ip: "127.0.0.1",
    use_ice_lite: true,
    enable_loopback_candidate: true,
    interfaces: { includes: ["lo"] },
  },
};
// Whoever started us may end us in a way that lets us end nothing: LiveKit goes with us.
const command = [path.resolve("livekit-server"), "--config-body", JSON.stringify(config)];
const livekit = spawn("setpriv", ["--pdeathsig", "KILL", ...command], { stdio: ["ignore", 2, 2] });
const end = (code) => {
  livekit.kill("SIGKILL");
  process.exit(code);
};
livekit.on("exit", () => end(1));

// Until it takes connections.
for (let attempt = 0; ; attempt += 1) {
  const answered = await fetch(`http://127.0.0.1:${port}/`).catch(() => undefined);
  if (answered) break;
  if (attempt === 600) end(1);
  await new Promise((resolve) => setTimeout(resolve, 50));
}

/** One participant, and what the server has said to it. */
class Participant {
  #client;
  #socket;
  #heard = new Map();
  #listeners = new Set();

  /** `client`: ICE and DTLS of the client that receives, if there is one. */
  static async join({ room, ...client }, identity, grants) {
    const token = new AccessToken(key, secret, { identity });
    token.addGrant({ roomJoin: true, room, canPublishData: false, ...grants });
    const query = { access_token: await token.toJwt(), protocol: PROTOCOL, auto_subscribe: 0, sdk: "js" };
    const participant = new Participant();
    participant.#client = client;
    participant.#socket = new WebSocket(`ws://127.0.0.1:${port}/rtc?${new URLSearchParams(query)}`);
    participant.#listen();
    await once(participant.#socket, "open");
    return participant;
  }

  #listen() {
    const pings = setInterval(() => this.say("ping", BigInt(Date.now())), PING);
    this.#socket.on("message", (bytes) => {
      const { case: kind, value } = SignalResponse.fromBinary(bytes).message;
      if (AWAITED.has(kind)) this.#hear(kind, kind === "offer" ? this.#agree(value) : value);
    });
    this.#socket.on("close", () => {
      clearInterval(pings);
      this.#hear("close", true);
    });
  }

  #hear(kind, value) {
    this.#heard.set(kind, [...(this.#heard.get(kind) ?? []), value]);
    for (const listener of this.#listeners) listener();
  }

  /** Whatever is offered is taken, now and later. */
  #agree({ id, sdp }) {
    const offered = parse(sdp);
    this.say("answer", new SessionDescription({ type: "answer", sdp: answer(this.#client, offered.sections), id }));
    return offered;
  }

  say(kind, value) {
    if (this.#socket.readyState === WebSocket.OPEN) {
      this.#socket.send(new SignalRequest({ message: { case: kind, value } }).toBinary());
    }
  }

  /** What `find` makes of the messages that have come, as soon as it makes something of them. */
  until(find) {
    return new Promise((resolve, reject) => {
      const look = () => {
        try {
          const found = find((kind) => this.#heard.get(kind) ?? []);
          if (found !== undefined) resolve(found);
          else if (this.#heard.has("close")) throw new Error("LiveKit has closed the connection");
          else return;
        } catch (error) {
          reject(error);
        }
        this.#listeners.delete(look);
      };
      this.#listeners.add(look);
      look();
    });
  }

  /** Where to connect, by the description or by what was trickled for it. */
  address(description, target) {
    if (description.connect.address) return description.connect.address;
    return this.until((heard) => {
      const trickled = heard("trickle").filter((trickle) => trickle.target === target && trickle.candidateInit);
      return trickled.map(({ candidateInit }) => address(JSON.parse(candidateInit).candidate)).find(Boolean);
    });
  }
}

const operations = {
  async publish(request) {
    const participant = await Participant.join(request, request.user, { canPublish: true, canSubscribe: false });
    const ids = [];
    for (const { kind, mid: cid } of request.tracks) {
      const video = kind === "video";
      const source = video ? TrackSource.CAMERA : TrackSource.MICROPHONE;
      const type = video ? TrackType.VIDEO : TrackType.AUDIO;
      participant.say("addTrack", new AddTrackRequest({ cid, name: kind, type, source }));
      const published = await participant.until((heard) => heard("trackPublished").find((track) => track.cid === cid));
      ids.push(published.track.sid);
    }
    const names = request.tracks.map(({ mid }) => mid);
    participant.say("offer", new SessionDescription({ type: "offer", sdp: offer(request, names) }));
    const { sdp } = await participant.until((heard) => heard("answer").at(-1));
    const description = parse(sdp);
    return { ...description.connect, address: await participant.address(description, SignalTarget.PUBLISHER), ids };
  },

  async subscribe(request) {
    // Who publishes has another connection, and there is one of each name.
    const participant = await Participant.join(request, `${request.user}-ear`, { canPublish: false, canSubscribe: true });
    const trackSids = request.wanted.map(({ track }) => track);
    participant.say("subscription", new UpdateSubscription({ trackSids, subscribe: true }));
    const of = ({ sections }, sid) => sections.find(({ track, ssrc }) => track === sid && ssrc);
    const all = (description) => trackSids.every((sid) => of(description, sid));
    const description = await participant.until((heard) => heard("offer").findLast(all));
    const streams = trackSids.map((sid) => {
      const { ssrc, rtx, transportCc } = of(description, sid);
      return { ssrc, rtx, transportCc };
    });
    return { ...description.connect, address: await participant.address(description, SignalTarget.SUBSCRIBER), streams };
  },
};

serve([livekit.pid], operations, () => end(0));
