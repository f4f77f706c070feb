// mediasoup behind JSON lines: `publish` and `subscribe` in, where to connect out. The worker is the
// process that is measured; this script only tells it what to do.
import process from "node:process";
import path from "node:path";
import { serve } from "./lines.mjs";

process.env.MEDIASOUP_WORKER_BIN = path.resolve("mediasoup-worker");
const mediasoup = await import("mediasoup");

const TRANSPORT_CC = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
const mediaCodecs = [
  { kind: "audio", mimeType: "audio/opus", clockRate: 48000, channels: 2 },
  { kind: "video", mimeType: "video/VP8", clockRate: 90000 },
];

// One UDP port a worker, as mediasoup's WebRtcServer gives.
const workers = await Promise.all(
  Array.from({ length: Number(process.argv[2]) }, async () => {
    const worker = await mediasoup.createWorker({ logLevel: "error" });
    worker.on("died", () => process.exit(1));
    const server = await worker.createWebRtcServer({
      listenInfos: [{ protocol: "udp", ip: "127.0.0.1", sendBufferSize: 4 << 20, recvBufferSize: 4 << 20 }],
    });
    return { worker, server };
  }),
);

const rooms = new Map();
function room(name) {
  if (!rooms.has(name)) {
    const { worker, server } = workers[rooms.size % workers.length];
    rooms.set(name, worker.createRouter({ mediaCodecs }).then((router) => ({ router, server })));
  }
  return rooms.get(name);
}

async function transport({ room: name, fingerprint }) {
  const { router, server } = await room(name);
  const transport = await router.createWebRtcTransport({ webRtcServer: server });
  const fingerprints = [{ algorithm: "sha-256", value: fingerprint }];
  await transport.connect({ dtlsParameters: { role: "client", fingerprints } });
  const [{ ip, port }] = transport.iceCandidates;
  const { usernameFragment, password } = transport.iceParameters;
  return { router, transport, answer: { address: `${ip}:${port}`, ufrag: usernameFragment, password } };
}

const feedback = (...list) => list.map(([type, parameter = ""]) => ({ type, parameter }));
function rtpParameters({ kind, mid, ssrc, rtx }, { extensions, payloadTypes }) {
  const video = feedback(["goog-remb"], ["transport-cc"], ["ccm", "fir"], ["nack"], ["nack", "pli"]);
  const vp8 = { mimeType: "video/VP8", payloadType: payloadTypes.vp8, clockRate: 90000, rtcpFeedback: video };
  const repair = { mimeType: "video/rtx", payloadType: payloadTypes.rtx, clockRate: 90000 };
  const opus = { mimeType: "audio/opus", payloadType: payloadTypes.opus, clockRate: 48000, channels: 2 };
  return {
    mid,
    codecs:
      kind === "video"
        ? [vp8, { ...repair, parameters: { apt: payloadTypes.vp8 } }]
        : [{ ...opus, rtcpFeedback: feedback(["transport-cc"]) }],
    headerExtensions: extensions.map(([uri, id]) => ({ uri, id })),
    encodings: [rtx ? { ssrc, rtx: { ssrc: rtx } } : { ssrc }],
    rtcp: { cname: "load", reducedSize: true },
  };
}

const operations = {
  async publish(request) {
    const { transport: sender, answer } = await transport(request);
    answer.ids = [];
    for (const track of request.tracks) {
      const producer = await sender.produce({ kind: track.kind, rtpParameters: rtpParameters(track, request) });
      answer.ids.push(producer.id);
    }
    return answer;
  },
  async subscribe(request) {
    const { router, transport: receiver, answer } = await transport(request);
    answer.streams = [];
    for (const { track } of request.wanted) {
      const consumer = await receiver.consume({ producerId: track, rtpCapabilities: router.rtpCapabilities });
      const [{ ssrc, rtx }] = consumer.rtpParameters.encodings;
      const extension = consumer.rtpParameters.headerExtensions.find(({ uri }) => uri === TRANSPORT_CC);
      answer.streams.push({ ssrc, rtx: rtx?.ssrc, transportCc: extension?.id });
    }
    return answer;
  },
};

serve(workers.map(({ worker }) => worker.pid), operations, () => {
  workers.forEach(({ worker }) => worker.close());
  process.exit(0);
});
