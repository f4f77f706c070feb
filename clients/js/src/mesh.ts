// Peer to peer: a connection to each other participant.

import type { Path, PathListener, RemoteTrack, Source } from './path.ts';
import { Peer } from './peer.ts';
import type { Candidate, Description } from './wire.ts';

/** What one participant sends in pictures, over all its connections, in bits per second. */
const UPLINK = 3_000_000;
const MAX_VIDEO_BITRATE = 1_700_000;
/** What is kept of what comes before the path is open. */
const MAX_EARLY = 256;
const FAILED = 'PeerConnectionFailed';

export interface MeshOptions {
  epoch: number;
  self: string;
  /** Whom we send the offer. */
  initiator: string[];
  peers: ReadonlySet<string>;
  iceServers: RTCIceServer[];
  listener: PathListener;
  send(event: 'webrtc:offer' | 'webrtc:answer' | 'webrtc:ice-candidate', data: object): Promise<unknown>;
}

export class Mesh implements Path {
  readonly mode = 'P2P';
  readonly epoch: number;
  #options: MeshOptions;
  #peers = new Map<string, Peer>();
  #there: ReadonlySet<string>;
  #local: ReadonlyMap<Source, MediaStreamTrack> = new Map();
  #opened = false;
  #closed = false;
  /** Descriptions and candidates that came before the path was open. */
  #early: (() => void)[] = [];

  constructor(options: MeshOptions) {
    this.epoch = options.epoch;
    this.#options = options;
    this.#there = options.peers;
  }

  async open(local: ReadonlyMap<Source, MediaStreamTrack>): Promise<void> {
    this.#local = local;
    this.#opened = true;
    for (const userId of this.#options.initiator) {
      if (this.#there.has(userId) && !this.#peers.has(userId)) this.#meet(userId, true);
    }
    for (const early of this.#early.splice(0)) early();
  }

  async publish(source: Source, track: MediaStreamTrack | undefined): Promise<void> {
    await Promise.all([...this.#peers.values()].map((peer) => peer.publish(source, track)));
  }

  setIceServers(iceServers: RTCIceServer[]): void {
    this.#options = { ...this.#options, iceServers };
    for (const peer of this.#peers.values()) peer.setIceServers(iceServers);
  }

  /** A track that is not enabled sends silence or black: nothing to do. */
  setPaused(): void {}

  setPeers(userIds: ReadonlySet<string>): void {
    this.#there = userIds;
    for (const [userId, peer] of this.#peers) {
      if (userIds.has(userId)) continue;
      this.#peers.delete(userId);
      peer.close();
    }
  }

  /** Whom we send the offer, as a join after a lost connection tells: those we have are kept. */
  offerTo(userIds: string[]): void {
    for (const userId of userIds) {
      if (this.#opened && this.#there.has(userId) && !this.#peers.has(userId)) this.#meet(userId, true);
    }
    for (const peer of this.#peers.values()) peer.resume();
  }

  isConnected(): boolean {
    return [...this.#there].every((userId) => this.#peers.get(userId)?.isConnected);
  }

  expected(): RemoteTrack[] {
    return [...this.#peers.values()].flatMap(({ tracks }) => tracks);
  }

  reports(): Promise<RTCStatsReport[]> {
    return Promise.all([...this.#peers.values()].map((peer) => peer.stats()));
  }

  close(): void {
    this.#closed = true;
    for (const peer of this.#peers.values()) peer.close();
    this.#peers.clear();
  }

  onDescription(type: 'offer' | 'answer', { sourceUserId, sdp }: Description & { sourceUserId: string }): void {
    this.#when(() => {
      // Only an offer begins a connection.
      const peer = this.#peers.get(sourceUserId) ?? (type === 'offer' ? this.#meet(sourceUserId, false) : undefined);
      peer?.onDescription(type, sdp);
    });
  }

  onCandidate({ sourceUserId, candidate }: Candidate & { sourceUserId: string }): void {
    this.#when(() => this.#peers.get(sourceUserId)?.onCandidate(candidate));
  }

  #when(what: () => void): void {
    if (this.#closed) return;
    if (this.#opened) what();
    else if (this.#early.length < MAX_EARLY) this.#early.push(what);
  }

  #meet(userId: string, isInitiator: boolean): Peer {
    const { self, epoch, iceServers, listener, send } = this.#options;
    const peer = new Peer({
      userId,
      epoch,
      isInitiator,
      // Both sides come to the same: the lower id stays with its offer.
      isPolite: self > userId,
      iceServers,
      maxVideoBitrate: Math.min(MAX_VIDEO_BITRATE, UPLINK / Math.max(1, this.#there.size)),
      local: this.#local,
      send,
      onTrack: (track) => listener.onTrack(track),
      onTrackEnded: (track) => listener.onTrackEnded(track),
      onFailed: () => this.#closed || listener.onFailed(epoch, FAILED),
    });
    this.#peers.set(userId, peer);
    return peer;
  }
}
