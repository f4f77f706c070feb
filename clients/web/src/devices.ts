// Choosing microphone, camera and speaker.

import { at, make } from './ui.ts';

/** Fills the lists with what there is; labels are there only once the browser may use the devices. */
export async function listDevices(lists: Partial<Record<MediaDeviceKind, HTMLSelectElement>>): Promise<void> {
  const devices = (await navigator.mediaDevices?.enumerateDevices().catch(() => undefined)) ?? [];
  for (const [kind, list] of Object.entries(lists) as [MediaDeviceKind, HTMLSelectElement][]) {
    const chosen = list.value;
    const options = devices.filter((device) => device.kind === kind && device.deviceId).map((device, index) => {
      const option = make('option', '', device.label || `${NAMES[kind]} ${index + 1}`);
      option.value = device.deviceId;
      return option;
    });
    if (options.length === 0) options.push(make('option', '', `No ${NAMES[kind].toLowerCase()} found`));
    list.replaceChildren(...options);
    list.disabled = !options[0]?.value;
    if (options.some(({ value }) => value === chosen)) list.value = chosen;
  }
}

const NAMES: Record<MediaDeviceKind, string> = { audioinput: 'Microphone', videoinput: 'Camera', audiooutput: 'Speaker' };

/** Whether sound can be sent to a device of choice here. */
export function hasSpeakerChoice(): boolean {
  return 'setSinkId' in HTMLMediaElement.prototype;
}

/** Moves the bar with what the microphone hears, until the signal is aborted. */
export function meter(track: MediaStreamTrack, signal: AbortSignal): void {
  const audio = new AudioContext();
  const analyser = audio.createAnalyser();
  analyser.fftSize = 512;
  audio.createMediaStreamSource(new MediaStream([track])).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const bar = at('#level');
  const draw = () => {
    if (signal.aborted) return;
    analyser.getFloatTimeDomainData(samples);
    const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
    bar.style.transform = `scaleX(${Math.min(1, Math.sqrt(power) * 5).toFixed(3)})`;
    requestAnimationFrame(draw);
  };
  signal.addEventListener('abort', () => void audio.close());
  draw();
}
