// One participant on the screen.

import { showOwn, type DomRendering, type Participant } from '@callplane/client';
import { hueOf, icon, initials, make } from './ui.ts';

export class Tile {
  readonly root = make('li', 'tile');
  #avatar = make('div', 'avatar');
  #picture = make('div', 'picture');
  #caption = make('p', 'caption');
  #name = make('span', 'name');
  #muted = icon('microphone-off');
  #level = make('span', 'level-dot');
  #own: HTMLVideoElement | undefined;

  constructor(participant: Participant, source: 'camera' | 'screen', rendering: DomRendering) {
    this.root.dataset.user = participant.userId;
    this.root.dataset.source = source;
    this.root.tabIndex = -1;
    this.#avatar.ariaHidden = 'true';
    this.#avatar.style.setProperty('--hue', String(hueOf(participant.userId)));
    this.#muted.classList.add('muted-mark');
    if (participant.isSelf) {
      this.root.classList.add('self');
      this.#own = make('video');
      this.#picture.append(this.#own);
    } else {
      this.#picture.append(rendering.element(participant.userId, source));
    }
    this.#caption.append(this.#muted, this.#name, this.#level);
    this.root.append(this.#avatar, this.#picture, this.#caption);
    this.update(participant);
  }

  update(participant: Participant): void {
    const isScreen = this.root.dataset.source === 'screen';
    const name = participant.displayName ?? participant.userId;
    const shown = isScreen ? `${name}’s screen` : participant.isSelf ? `${name} (you)` : name;
    if (this.#name.textContent !== shown) this.#name.textContent = shown;
    this.#avatar.textContent = initials(name);
    const track = participant.tracks[isScreen ? 'screen' : 'camera'];
    const hasPicture = track !== undefined && (isScreen || participant.isVideoOn);
    this.root.classList.toggle('with-picture', hasPicture);
    const isSpeaking = participant.isSpeaking && !isScreen;
    this.root.classList.toggle('speaking', isSpeaking);
    this.#muted.toggleAttribute('hidden', isScreen || !participant.isMuted);
    this.#level.dataset.level = participant.quality ?? '';
    this.#level.title = participant.quality ? `Connection: ${participant.quality}` : '';
    const states = [
      shown, ...(isSpeaking ? ['speaking'] : []), ...(participant.isMuted && !isScreen ? ['muted'] : []), ...(hasPicture ? [] : ['camera off']),
    ];
    const label = states.join(', ');
    // Each change is told to screen readers, also one to the same.
    if (this.root.ariaLabel !== label) this.root.ariaLabel = label;
    if (this.#own) showOwn(this.#own, track);
  }

  remove(): void {
    this.root.remove();
  }
}
