// The page: the form, the buttons, and `window.callplane` for tests and the curious.

import { Call } from './call.js';
import { joinParams, withoutToken } from './params.js';
import { Tile } from './tile.js';

/** Pictures asked of the camera. */
const VIDEO = { width: { ideal: 640 }, height: { ideal: 360 }, frameRate: { ideal: 30 } };
const SAMPLE_MS = 1000;

const form = /** @type {HTMLFormElement} */ (element('join'));
const fields = { user: input('user'), room: input('room') };
const buttons = { mute: button('mute'), camera: button('camera'), numbers: button('numbers'), leave: button('leave') };
const grid = element('grid');

/** @type {Call | undefined} */
let call;
/** @type {Tile | undefined} */
let self;
const asked = joinParams(location.href);
// Whoever copies or shows the address does not hand the token on.
if (asked.token) history.replaceState(null, '', withoutToken(location.href));
fields.room.value = asked.room || 'default.demo';
// Reloading keeps the name; handing the address on does not hand it on.
fields.user.value = asked.user || sessionStorage.getItem('user') || `guest-${crypto.randomUUID().slice(0, 4)}`;

form.addEventListener('submit', (event) => {
  event.preventDefault();
  void join();
});
buttons.mute.addEventListener('click', () => call?.mute(!pressed(buttons.mute)));
buttons.camera.addEventListener('click', () => void toggleCamera());
buttons.numbers.addEventListener('click', () => {
  const on = document.body.classList.toggle('with-numbers');
  buttons.numbers.ariaPressed = String(on);
});
buttons.leave.addEventListener('click', leave);
addEventListener('pagehide', () => call?.leave());
setInterval(() => void showNumbers(), SAMPLE_MS);
render();

const surface = {
  join,
  leave,
  /** Joins again as after a lost connection. */
  rejoin: () => call?.rejoin({ kind: 'transport-failed', detail: 'asked to' }),
  stats: async () => call?.stats() ?? { state: 'idle', remotes: {}, events: [] },
  diagnose: async () => call?.diagnose(),
};
/** @typedef {typeof surface} Surface  What tests find under `window.callplane`. */
Object.assign(window, { callplane: surface });

async function join() {
  const { user, room } = { user: fields.user.value.trim(), room: fields.room.value.trim() };
  const token = user === asked.user && room === asked.room ? asked.token : undefined;
  sessionStorage.setItem('user', user);
  history.replaceState(null, '', `#room=${encodeURIComponent(room)}`);
  call = new Call({ room, user, token }, { grid, onChange: render, media });
  grid.replaceChildren();
  self = new Tile({ id: user, name: user, self: true });
  grid.append(self.root);
  const joined = call.join();
  // The form is gone, and the focus with it: on to where the keyboard is needed next.
  buttons.mute.focus({ preventScroll: true });
  await joined;
}

function leave() {
  call?.leave();
  self?.discard();
  self = undefined;
  render();
  form.querySelector('button')?.focus({ preventScroll: true });
}

async function media() {
  if (!navigator.mediaDevices) throw new Error('The browser gives microphone and camera to https pages and to this machine alone.');
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true, video: VIDEO });
  const tracks = stream.getTracks();
  const video = tracks.find(({ kind }) => kind === 'video');
  if (video) void self?.add(video);
  return tracks;
}

async function toggleCamera() {
  if (!call) return;
  const on = call.tracks.get('video');
  if (on) {
    self?.remove(on);
    await call.setCamera(undefined);
  } else {
    const stream = await navigator.mediaDevices.getUserMedia({ video: VIDEO });
    const [track] = stream.getVideoTracks();
    if (track) void self?.add(track);
    await call.setCamera(track);
  }
}

function render() {
  const state = call?.state ?? 'idle';
  document.body.dataset.state = state;
  element('status').textContent = call?.detail ?? '';
  element('where').textContent = call && state !== 'left' ? [call.room, call.session && `route ${call.session.epoch}`].filter(Boolean).join(' · ') : '';
  element('alone').hidden = state !== 'joined' || (call?.remotes.size ?? 0) > 0;
  const audio = call?.tracks.get('audio');
  buttons.mute.ariaPressed = String(audio !== undefined && !audio.enabled);
  buttons.camera.ariaPressed = String(state === 'joined' && !call?.tracks.has('video'));
  document.title = call && state !== 'left' ? `${call.room} – callplane` : 'callplane';
}

async function showNumbers() {
  if (!call || !['joined', 'rejoining'].includes(call.state)) return;
  const { send } = await call.sample();
  for (const { tile, video, audio, firstFrameMs } of call.remotes.values()) {
    const [v, a] = [video.video(), audio.audio()];
    tile.setNumbers([
      `${v.width}×${v.height} ${v.fps.toFixed(0)} fps ${v.codec?.split('/')[1] ?? ''}`,
      `lost ${v.packetsLost + a.packetsLost}  freezes ${v.freezeCount}`,
      `sound ${a.level > 0 ? `${(20 * Math.log10(a.level)).toFixed(0)} dB` : '–'}  first picture ${firstFrameMs ?? '–'} ms`,
    ].join('\n'));
  }
  if (send && self) {
    const { video } = /** @type {any} */ (send);
    self.setNumbers([
      `${video?.width ?? 0}×${video?.height ?? 0} ${video?.fps ?? 0} fps ${video?.codec?.split('/')[1] ?? ''}`,
      `rtt ${send.roundTripMs ?? '–'} ms  ${Math.round((send.availableOutgoingBitrate ?? 0) / 1000)} kbit/s`,
    ].join('\n'));
  }
}

/** @param {HTMLButtonElement} control */
function pressed(control) {
  return control.ariaPressed === 'true';
}

/** @param {string} id @returns {HTMLElement} */
function element(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

/** @param {string} id */
function button(id) {
  return /** @type {HTMLButtonElement} */ (element(id));
}

/** @param {string} id */
function input(id) {
  return /** @type {HTMLInputElement} */ (element(id));
}
