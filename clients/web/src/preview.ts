// Before the call: how one looks and sounds, under which name.

import { CallError, LocalMedia, showOwn } from '@callplane/client';
import { listDevices, meter } from './devices.ts';
import { at, toggle } from './ui.ts';

export interface Choice {
  media: LocalMedia;
  name: string;
  password: string | undefined;
  /** They agree to what the call asks of them. */
  consents: boolean;
}

const NAME_KEY = 'callplane.name';

/** Shows the preview; each press of Join asks `join`, until one succeeds. */
export async function preview(join: (choice: Choice) => Promise<void>): Promise<void> {
  const media = new LocalMedia();
  const [form, name] = [at<HTMLFormElement>('#join-form'), at<HTMLInputElement>('#name-field')];
  const problem = at('.problem', form);
  const [microphones, cameras] = [at<HTMLSelectElement>('#preview-microphones'), at<HTMLSelectElement>('#preview-cameras')];
  name.value = localStorage.getItem(NAME_KEY) ?? '';
  let meterStop = new AbortController();
  const over = new AbortController();
  const { signal } = over;

  const draw = () => {
    const camera = media.tracks.get('camera');
    showOwn(at<HTMLVideoElement>('#mirror'), camera);
    at('#mirror-off').hidden = camera !== undefined;
    toggle(at('#preview-microphone'), { pressed: media.isMuted, label: media.isMuted ? 'Unmute' : 'Mute', symbol: media.isMuted ? 'microphone-off' : 'microphone' });
    toggle(at('#preview-camera'), { pressed: !camera, label: camera ? 'Video off' : 'Video on', symbol: camera ? 'camera' : 'camera-off' });
  };
  const listen = () => {
    meterStop.abort();
    meterStop = new AbortController();
    const track = media.tracks.get('microphone');
    if (track) meter(track, meterStop.signal);
  };
  const attempt = async (what: () => Promise<void>) => {
    problem.textContent = '';
    await what().catch((error: Error) => (problem.textContent = sentence(error)));
    draw();
    await listDevices({ audioinput: microphones, videoinput: cameras });
  };
  const stops = [media.on('track', ({ source }) => {
    if (source === 'microphone') listen();
    draw();
  })];

  const { mediaDevices } = navigator;
  mediaDevices?.addEventListener('devicechange', () => void listDevices({ audioinput: microphones, videoinput: cameras }), { signal });
  at('#preview-microphone').addEventListener('click', () => void attempt(() => media.setMuted(!media.isMuted)), { signal });
  at('#preview-camera').addEventListener('click', () => void attempt(() => media.setCamera(!media.isVideoOn)), { signal });
  microphones.addEventListener('change', () => void attempt(() => media.use({ microphone: microphones.value })), { signal });
  cameras.addEventListener('change', () => void attempt(() => media.use({ camera: cameras.value })), { signal });
  draw();
  void attempt(() => media.open({}));
  if (matchMedia('(pointer: fine)').matches) name.focus();

  await new Promise<void>((resolve) => {
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      const button = at<HTMLButtonElement>('button[type=submit]', form);
      if (button.disabled) return;
      button.disabled = true;
      button.textContent = 'Joining…';
      localStorage.setItem(NAME_KEY, name.value.trim());
      const password = at<HTMLInputElement>('#password-field').value || undefined;
      const consents = at<HTMLInputElement>('#consent-field').checked;
      join({ media, name: name.value.trim(), password, consents }).then(() => resolve(), (error: Error) => {
        problem.textContent = sentence(error);
        if (error instanceof CallError && error.code.includes('password')) {
          at('#password-row').hidden = false;
          at('#password-field').focus();
        }
        if (error instanceof CallError && error.code === 'consent-required') {
          const consent = at<HTMLInputElement>('#consent-field');
          at('#consent-row').hidden = false;
          consent.required = true;
          consent.focus();
        }
      }).finally(() => {
        button.disabled = false;
        button.textContent = 'Join';
      });
    }, { signal });
  });
  for (const stop of stops) stop();
  meterStop.abort();
  over.abort();
}

const SENTENCES: Record<string, string> = {
  'link-revoked': 'This link is no longer valid. Ask for another one.',
  'credentials-invalid': 'This link is not complete, or has expired. Ask for another one.',
  'credentials-expired': 'This link has expired. Ask for another one.',
  'room-locked': 'The call is locked: nobody new may join.',
  'room-ended': 'This call has ended.',
  'room-not-found': 'There is no such call.',
  'room-full': 'The call is full.',
  'password-required': 'This call has a password.',
  'consent-required': 'This call is only for those who agree to what is said above.',
  'wrong-password': 'That is not the password of this call.',
  'rate-limited': 'Too many attempts. Wait a moment, then try again.',
  unreachable: 'The server cannot be reached. Is there a connection?',
  timeout: 'The server does not answer. Try again.',
};

/** What went wrong, for people. */
export function sentence(error: Error): string {
  const known = error instanceof CallError ? SENTENCES[error.code] : undefined;
  const text = known ?? error.message;
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.?!…]$/.test(text) ? '' : '.'}`;
}
