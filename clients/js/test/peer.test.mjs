import assert from 'node:assert/strict';
import { test } from 'node:test';
import { source } from './support/source.mjs';

const { Peer } = await source('peer');

const OLD = [{ urls: ['turn:192.0.2.1'], username: 'old', credential: 'x' }];
const NEW = [{ urls: ['turn:192.0.2.1'], username: 'new', credential: 'y' }];

/** What is done to a connection, in this order. */
class Connection {
  /** @type {Connection[]} */
  static made = [];
  /** @type {any[]} */
  did = [];
  connectionState = 'new';
  signalingState = 'stable';
  remoteDescription = { type: 'answer', sdp: '' };

  /** @param {RTCConfiguration} configuration */
  constructor(configuration) {
    this.did.push(['made', username(configuration)]);
    Connection.made.push(this);
  }

  /** @param {RTCConfiguration} configuration */
  setConfiguration(configuration) {
    this.did.push(['configured', username(configuration)]);
  }

  restartIce() {
    this.did.push(['restarted']);
  }

  close() {
    this.did.push(['closed']);
  }

  getTransceivers() {
    return [];
  }

  /** @param {string} state */
  becomes(state) {
    this.connectionState = state;
    /** @type {any} */ (this).onconnectionstatechange();
  }
}

/** @param {RTCConfiguration} configuration */
const username = ({ iceServers }) => iceServers?.[0]?.username;

test('fresh credentials are taken when ICE begins again, and not before', (t) => {
  const had = globalThis.RTCPeerConnection;
  globalThis.RTCPeerConnection = /** @type {any} */ (Connection);
  t.after(() => (globalThis.RTCPeerConnection = had));
  const nothing = () => {};
  const peer = new Peer({
    userId: 'bob', epoch: 1, isInitiator: false, isPolite: false, iceServers: OLD, maxVideoBitrate: 1e6, local: new Map(),
    send: async () => {}, onTrack: nothing, onTrackEnded: nothing, onFailed: nothing,
  });
  t.after(() => peer.close());
  const [connection] = Connection.made;
  assert.ok(connection);
  connection.becomes('connected');
  peer.setIceServers(NEW);
  assert.deepEqual(connection.did, [['made', 'old']], 'a connection that flows is left alone');
  connection.becomes('failed');
  assert.deepEqual(connection.did, [['made', 'old'], ['configured', 'new'], ['restarted']]);
});
