// The call on the screen.

import type { Call, DomRendering, Participant } from '@callplane/client';
import { Panels } from './panels.ts';
import { sentence } from './preview.ts';
import { Tile } from './tile.ts';
import { announce, at, toggle } from './ui.ts';

const MODES = { P2P: 'Peer to peer', SFU: 'Through the media server' } as const;
const LEVELS = { good: 'Good connection', fair: 'Fair connection', poor: 'Poor connection' } as const;
const BANNER_MS = 5000;

/** Shows the call until it is over; resolves with how that came. */
export function showCall(call: Call, rendering: DomRendering): Promise<{ title: string; detail: string }> {
  const over = new AbortController();
  const { signal } = over;
  const tiles = new Map<string, Tile>();
  const grid = at('#grid');
  grid.replaceChildren();
  let bannerTimer: ReturnType<typeof setTimeout> | undefined;
  const banner = (text: string, stays = false) => {
    clearTimeout(bannerTimer);
    at('#banner').textContent = text;
    at('#banner').hidden = text === '';
    if (text && !stays) bannerTimer = setTimeout(() => (at('#banner').hidden = true), BANNER_MS);
  };
  const panels = new Panels(call, rendering, (text) => banner(text), signal);
  const attempt = (what: Promise<void>) => void what.catch((error: Error) => {
    // Who closes the picker of screens has changed their mind, no more.
    if (error.name !== 'NotAllowedError') banner(sentence(error));
  }).finally(draw);

  function drawTile(participant: Participant, source: 'camera' | 'screen', kept: Set<string>) {
    const key = `${source} ${participant.userId}`;
    kept.add(key);
    let tile = tiles.get(key);
    if (!tile) {
      tile = new Tile(participant, source, rendering);
      tiles.set(key, tile);
      if (source === 'screen') grid.prepend(tile.root);
      // Oneself is last.
      else grid.insertBefore(tile.root, grid.querySelector('.self'));
    }
    tile.update(participant);
  }

  function draw() {
    const { self, participants } = call;
    const kept = new Set<string>();
    for (const participant of participants) {
      if (participant.tracks.screen) drawTile(participant, 'screen', kept);
      drawTile(participant, 'camera', kept);
    }
    if (self) drawTile(self, 'camera', kept);
    for (const [key, tile] of tiles) {
      if (kept.has(key)) continue;
      tile.remove();
      tiles.delete(key);
    }
    const isShared = participants.some(({ tracks }) => tracks.screen);
    grid.dataset.count = String(Math.min(12, Math.max(1, participants.length + (participants.length === 1 && !isShared ? 0 : 1))));
    grid.classList.toggle('two', participants.length === 1 && !isShared);
    grid.classList.toggle('shared', isShared);
    at('#alone').hidden = participants.length > 0;
    const { isMuted, isVideoOn } = call.media;
    const shares = call.media.tracks.has('screen');
    toggle(at('#mute'), { pressed: isMuted, label: isMuted ? 'Unmute' : 'Mute', symbol: isMuted ? 'microphone-off' : 'microphone' });
    toggle(at('#video'), { pressed: !isVideoOn, label: isVideoOn ? 'Video off' : 'Video on', symbol: isVideoOn ? 'camera' : 'camera-off' });
    toggle(at('#share'), { pressed: shares, label: shares ? 'Stop sharing' : 'Share' });
    panels.people();
  }

  function drawMode() {
    const { mode } = call;
    const text = mode ? MODES[mode] : 'Connecting…';
    const chip = at('#mode');
    if (chip.textContent !== text) {
      if (mode && chip.textContent && chip.dataset.mode) announce(`The call goes ${text.toLowerCase()} now`);
      chip.textContent = text;
    }
    chip.dataset.mode = mode ?? '';
  }

  function drawQuality() {
    const { quality } = call;
    const chip = at('#quality');
    chip.hidden = quality === undefined;
    if (!quality) return;
    chip.dataset.level = quality.level;
    chip.textContent = LEVELS[quality.level];
    const { packetLossPercent, rttMs, bitrate } = quality;
    chip.title = [`${packetLossPercent} % lost`, ...(rttMs === undefined ? [] : [`${rttMs} ms`]), `${Math.round(bitrate / 1000)} kbit/s`].join(' · ');
  }

  const nameOf = ({ displayName, userId }: Participant) => displayName ?? userId;
  const stops = [
    call.on('participants', draw),
    call.on('local', draw),
    call.on('mode', drawMode),
    call.on('quality', drawQuality),
    call.on('joined', (participant) => announce(`${nameOf(participant)} joined`)),
    call.on('left', ({ participant }) => {
      announce(`${nameOf(participant)} left`);
      rendering.forget(participant.userId);
    }),
    call.on('muted', () => banner('The host muted you.')),
    call.on('locked', (locked) => {
      at('#locked').hidden = !locked;
      panels.people();
    }),
  ];
  at('#mute').addEventListener('click', () => attempt(call.setMuted(!call.media.isMuted)), { signal });
  at('#video').addEventListener('click', () => attempt(call.setCamera(!call.media.isVideoOn)), { signal });
  at('#share').addEventListener('click', () => attempt(call.shareScreen(!call.media.tracks.has('screen'))), { signal });
  at('#share').hidden = !navigator.mediaDevices || !('getDisplayMedia' in navigator.mediaDevices);
  at('#leave-call').addEventListener('click', () => void call.leave(), { signal });
  at('#copy').addEventListener('click', () => {
    navigator.clipboard.writeText(location.href).then(() => banner('The link is copied.'), () => banner('The browser did not let the link be copied.'));
  }, { signal });
  const sound = at('#sound');
  rendering.onBlocked = () => (sound.hidden = false);
  sound.addEventListener('click', () => {
    sound.hidden = true;
    void rendering.resume();
  }, { signal });
  // Who closes the page has left: nobody should wait for them to come back.
  addEventListener('pagehide', () => void call.leave(), { signal });

  at('#locked').hidden = !call.isLocked;
  draw();
  drawMode();
  drawQuality();
  return new Promise((resolve) => {
    stops.push(call.on('state', ({ state, error }) => {
      if (state === 'reconnecting') return banner('Reconnecting… The call goes on.', true);
      if (state === 'joined') return banner('');
      for (const stop of stops) stop();
      for (const tile of tiles.values()) tile.remove();
      clearTimeout(bannerTimer);
      at('#banner').hidden = true;
      over.abort();
      resolve({
        left: { title: 'You left the call', detail: '' },
        removed: { title: 'You were removed from the call', detail: 'The host removed you.' },
        replaced: { title: 'You joined somewhere else', detail: 'The call goes on there.' },
        ended: { title: 'The call has ended', detail: '' },
        failed: { title: 'The call was lost', detail: error ? sentence(error) : '' },
        joining: { title: '', detail: '' },
      }[state]);
    }));
  });
}
