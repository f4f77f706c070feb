// One other participant, peer to peer: an RTCPeerConnection with perfect negotiation.
//
// The transceivers are always microphone, camera, screen, in this order, made by whoever sends the first offer: so both
// sides know what a track is by the place of its transceiver. A track that begins or ends changes a direction.

import { SOURCES, kindOf, type RemoteTrack, type Source } from './path.ts';
import { sessionOf, withStartBitrate } from './sdp.ts';

/** How long a connection may take to come to be, or to come back, in milliseconds. */
const CONNECT_MS = 9000;
/** A connection that says `disconnected` often comes back by itself within this time. */
const DISCONNECTED_MS = 1500;
/** How often ICE is restarted before the connection counts as failed. */
const MAX_RESTARTS = 3;
/** Candidates that wait for the description that they belong to. */
const MAX_WAITING = 64;

export interface PeerOptions {
  userId: string;
  epoch: number;
  /** We send the first offer. */
  isInitiator: boolean;
  /** On collision we give way. */
  isPolite: boolean;
  iceServers: RTCIceServer[];
  /** Bits per second of the picture at most. */
  maxVideoBitrate: number;
  local: ReadonlyMap<Source, MediaStreamTrack>;
  send(event: 'webrtc:offer' | 'webrtc:answer' | 'webrtc:ice-candidate', data: object): Promise<unknown>;
  onTrack(track: RemoteTrack): void;
  onTrackEnded(track: RemoteTrack): void;
  onFailed(): void;
}

export class Peer {
  readonly userId: string;
  #options: PeerOptions;
  #pc: RTCPeerConnection;
  #tracks = new Map<Source, RemoteTrack>();
  #makingOffer = false;
  #ignoresOffer = false;
  #waiting: RTCIceCandidateInit[] = [];
  #remoteSession: string | undefined;
  #restarts = 0;
  #deadline: ReturnType<typeof setTimeout> | undefined;
  #connected = false;
  #closed = false;
  /** What is done to the connection is done one after the other. */
  #queue: Promise<void> = Promise.resolve();

  constructor(options: PeerOptions) {
    this.userId = options.userId;
    this.#options = options;
    this.#pc = this.#connect();
    this.#expect(CONNECT_MS);
    if (options.isInitiator) this.#offerAll();
  }

  get isConnected(): boolean {
    return this.#connected;
  }

  /** What it sends, as it has told. */
  get tracks(): RemoteTrack[] {
    return [...this.#tracks.values()];
  }

  stats(): Promise<RTCStatsReport> {
    return this.#pc.getStats();
  }

  setIceServers(iceServers: RTCIceServer[]): void {
    this.#options = { ...this.#options, iceServers };
  }

  publish(source: Source, track: MediaStreamTrack | undefined): Promise<void> {
    return this.#do(async () => {
      const transceiver = this.#transceiver(source);
      // Before the first description there is none: it will say what there is by then.
      if (!transceiver) return;
      await transceiver.sender.replaceTrack(track ?? null);
      transceiver.direction = track ? 'sendrecv' : 'recvonly';
    });
  }

  onDescription(type: 'offer' | 'answer', sdp: string): void {
    void this.#do(() => this.#describe(type, sdp)).catch((error) => console.warn('a description was not taken', error));
  }

  onCandidate(candidate: RTCIceCandidateInit | null): void {
    void this.#do(async () => {
      if (!this.#pc.remoteDescription) {
        if (candidate && this.#waiting.length < MAX_WAITING) this.#waiting.push(candidate);
        return;
      }
      await this.#pc.addIceCandidate(candidate ?? undefined).catch((error) => {
        if (!this.#ignoresOffer) console.warn('a candidate was not taken', error);
      });
    });
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#deadline);
    this.#pc.close();
    for (const track of this.#tracks.values()) this.#options.onTrackEnded(track);
    this.#tracks.clear();
  }

  #configuration(): RTCConfiguration {
    return { iceServers: this.#options.iceServers, bundlePolicy: 'max-bundle' };
  }

  #connect(): RTCPeerConnection {
    const pc = new RTCPeerConnection(this.#configuration());
    pc.onnegotiationneeded = () => {
      // The one who was called answers first; it is heard of the change by the next offer.
      if (this.#options.isInitiator || pc.remoteDescription) void this.#do(() => this.#offer()).catch(() => {});
    };
    pc.onicecandidate = ({ candidate }) => {
      if (this.#closed || pc !== this.#pc) return;
      this.#send('webrtc:ice-candidate', { candidate: candidate?.toJSON() ?? null });
    };
    pc.onconnectionstatechange = () => pc === this.#pc && this.#onState(pc.connectionState);
    pc.ontrack = ({ transceiver, track }) => this.#onTrack(pc, transceiver, track);
    return pc;
  }

  #offerAll(): void {
    for (const source of SOURCES) {
      const track = this.#options.local.get(source);
      const transceiver = this.#pc.addTransceiver(track ?? kindOf(source), { direction: track ? 'sendrecv' : 'recvonly' });
      this.#bound(transceiver, source);
    }
  }

  async #offer(): Promise<void> {
    if (this.#closed) return;
    try {
      this.#makingOffer = true;
      await this.#pc.setLocalDescription();
      this.#send('webrtc:offer', { sdp: this.#pc.localDescription?.sdp });
    } finally {
      this.#makingOffer = false;
    }
  }

  async #describe(type: 'offer' | 'answer', sdp: string): Promise<void> {
    const session = sessionOf(sdp);
    if (type === 'offer') {
      const collision = this.#makingOffer || this.#pc.signalingState !== 'stable';
      const isOther = this.#remoteSession !== undefined && session !== this.#remoteSession;
      this.#ignoresOffer = collision && !this.#options.isPolite && !isOther;
      if (this.#ignoresOffer) return;
      // It has come again (a reload), or both began at once: what we have offered fits nothing of its.
      if (isOther || (collision && !this.#pc.remoteDescription)) this.#startOver(false);
    } else if (this.#pc.signalingState !== 'have-local-offer') {
      return;
    } else if (this.#remoteSession !== undefined && session !== this.#remoteSession) {
      // It has lost the connection that this would go on with.
      return this.#startOver(true);
    }
    if (type === 'offer' && !this.#connected && this.#pc.remoteDescription) this.#renew();
    await this.#pc.setRemoteDescription({ type, sdp: withStartBitrate(sdp) });
    this.#remoteSession = session;
    for (const candidate of this.#waiting.splice(0)) await this.#pc.addIceCandidate(candidate).catch(() => {});
    this.#compare();
    if (type === 'answer') return;
    await this.#takePart();
    await this.#pc.setLocalDescription();
    this.#send('webrtc:answer', { sdp: this.#pc.localDescription?.sdp });
  }

  /** As the one who was called: what we have goes where the caller made room for it. */
  async #takePart(): Promise<void> {
    for (const source of SOURCES) {
      const transceiver = this.#transceiver(source);
      const track = this.#options.local.get(source);
      if (!transceiver || !track || transceiver.sender.track === track) continue;
      await transceiver.sender.replaceTrack(track);
      transceiver.direction = 'sendrecv';
      this.#bound(transceiver, source);
    }
  }

  #bound(transceiver: RTCRtpTransceiver, source: Source): void {
    if (source === 'microphone') return;
    const parameters = transceiver.sender.getParameters();
    if (!parameters.encodings?.length) return;
    for (const encoding of parameters.encodings) encoding.maxBitrate = this.#options.maxVideoBitrate;
    transceiver.sender.setParameters(parameters).catch(() => {});
  }

  #startOver(isInitiator: boolean): void {
    this.#pc.close();
    for (const track of this.#tracks.values()) this.#options.onTrackEnded(track);
    this.#tracks.clear();
    this.#waiting = [];
    this.#remoteSession = undefined;
    this.#connected = false;
    this.#restarts = 0;
    this.#options = { ...this.#options, isInitiator };
    this.#pc = this.#connect();
    this.#expect(CONNECT_MS);
    if (isInitiator) this.#offerAll();
  }

  #onTrack(pc: RTCPeerConnection, transceiver: RTCRtpTransceiver, track: MediaStreamTrack): void {
    const source = SOURCES[pc.getTransceivers().indexOf(transceiver)];
    if (pc !== this.#pc || source === undefined || this.#tracks.has(source)) return;
    const { userId, epoch } = this.#options;
    const remote = { userId, source, track, receiver: transceiver.receiver, epoch };
    this.#tracks.set(source, remote);
    this.#options.onTrack(remote);
  }

  /** What the other side has ceased to send. */
  #compare(): void {
    for (const [source, remote] of this.#tracks) {
      if (isSent(this.#pc.remoteDescription?.sdp ?? '', SOURCES.indexOf(source))) continue;
      this.#tracks.delete(source);
      this.#options.onTrackEnded(remote);
    }
  }

  #onState(state: RTCPeerConnectionState): void {
    if (this.#closed) return;
    this.#connected = state === 'connected';
    if (state === 'connected') {
      clearTimeout(this.#deadline);
      this.#restarts = 0;
    } else if (state === 'disconnected') {
      this.#expect(DISCONNECTED_MS);
    } else if (state === 'failed') {
      this.#recover();
    }
  }

  #expect(withinMs: number): void {
    clearTimeout(this.#deadline);
    this.#deadline = setTimeout(() => this.#recover(), withinMs);
  }

  /** Another way is looked for, and when there is none after some attempts, that is said. */
  #recover(): void {
    if (this.#closed || this.#connected) return;
    this.#restarts += 1;
    if (this.#restarts > MAX_RESTARTS) return this.#options.onFailed();
    // One of the two is enough; the other one does it when the first has not.
    if (!this.#options.isPolite || this.#restarts > 1) this.#restartIce();
    this.#expect(CONNECT_MS / MAX_RESTARTS);
  }

  #restartIce(): void {
    this.#renew();
    this.#pc.restartIce();
  }

  /** Takes the newest credentials: where ICE begins again, since a connection would begin again because of them. */
  #renew(): void {
    this.#pc.setConfiguration(this.#configuration());
  }

  #transceiver(source: Source): RTCRtpTransceiver | undefined {
    return this.#pc.getTransceivers()[SOURCES.indexOf(source)];
  }

  #send(event: 'webrtc:offer' | 'webrtc:answer' | 'webrtc:ice-candidate', data: object): void {
    // What was not brought over is offered again when the connection to the gateway is back, if it is still needed.
    this.#options.send(event, { ...data, targetUserId: this.userId, epoch: this.#options.epoch }).catch(() => {});
  }

  /** The connection to the gateway is back: what may have been lost on the way is said again. */
  resume(): void {
    if (this.#connected || this.#closed) return;
    if (this.#options.isInitiator || this.#pc.remoteDescription) void this.#do(async () => this.#restartIce()).catch(() => {});
  }

  #do(what: () => Promise<void>): Promise<void> {
    const done = this.#queue.then(() => (this.#closed ? undefined : what()));
    this.#queue = done.catch(() => {});
    return done;
  }
}

/** Whether the description says that media comes in its `at`th section. */
function isSent(sdp: string, at: number): boolean {
  const section = sdp.split(/^m=/m)[at + 1];
  return section !== undefined && !/^a=(recvonly|inactive)\s*$/m.test(section);
}
