// What opens beside the call: chat, people, devices.

import type { Call, ChatMessage, DomRendering, Participant } from '@callplane/client';
import { hasSpeakerChoice, listDevices } from './devices.ts';
import { sentence } from './preview.ts';
import { announce, at, icon, make } from './ui.ts';

type Name = 'chat' | 'people' | 'devices';
const TITLES: Record<Name, string> = { chat: 'Chat', people: 'People', devices: 'Devices' };
const TIME = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });

export class Panels {
  #call: Call;
  #open: Name | undefined;
  #unread = 0;
  #tell: (text: string) => void;

  constructor(call: Call, rendering: DomRendering, tell: (text: string) => void, signal: AbortSignal) {
    this.#call = call;
    this.#tell = tell;
    at('#messages').replaceChildren();
    for (const name of ['chat', 'people', 'devices'] as const) {
      at(`#show-${name}`).addEventListener('click', () => this.show(this.#open === name ? undefined : name), { signal });
    }
    at('#panel-close').addEventListener('click', () => this.show(undefined), { signal });
    at('#panel').addEventListener('keydown', (event) => event.key === 'Escape' && this.show(undefined), { signal });
    this.show(undefined);

    const field = at<HTMLInputElement>('#chat-field');
    at('#chat-form').addEventListener('submit', (event) => {
      event.preventDefault();
      const text = field.value.trim();
      if (!text) return;
      field.value = '';
      call.send(text).catch((error: Error) => {
        field.value = text;
        tell(`Not sent: ${sentence(error)}`);
      });
    }, { signal });
    for (const message of call.chat) this.#add(message, false);
    call.on('chat', (message) => this.#add(message, true));

    const attempt = (what: Promise<void>) => void what.catch((error: Error) => tell(sentence(error)));
    at('#lock-call').addEventListener('click', () => attempt(call.lock(!call.isLocked)), { signal });
    at('#end-call').addEventListener('click', () => {
      if (confirm('End the call for everyone?')) attempt(call.end());
    }, { signal });

    const [microphones, cameras, speakers] = ['#microphones', '#cameras', '#speakers'].map((id) => at<HTMLSelectElement>(id));
    microphones!.addEventListener('change', () => attempt(call.use({ microphone: microphones!.value })), { signal });
    cameras!.addEventListener('change', () => attempt(call.use({ camera: cameras!.value })), { signal });
    speakers!.addEventListener('change', () => attempt(rendering.setSpeaker(speakers!.value)), { signal });
    navigator.mediaDevices?.addEventListener('devicechange', () => void this.#list(), { signal });
    at('#speaker-row').hidden = !hasSpeakerChoice();
  }

  show(name: Name | undefined): void {
    const before = this.#open;
    this.#open = name;
    at('#panel').hidden = name === undefined;
    at('#call').classList.toggle('with-panel', name !== undefined);
    for (const other of ['chat', 'people', 'devices'] as const) {
      at(`#${other}-panel`).hidden = other !== name;
      at(`#show-${other}`).setAttribute('aria-expanded', String(other === name));
    }
    if (name === undefined) {
      if (before) at(`#show-${before}`).focus();
      return;
    }
    at('#panel-title').textContent = TITLES[name];
    if (name === 'chat') {
      this.#unread = 0;
      this.#drawUnread();
      at('#chat-field').focus();
      at('#messages').scrollTop = at('#messages').scrollHeight;
    } else {
      at('#panel-close').focus();
    }
    if (name === 'devices') void this.#list();
    if (name === 'people') this.people();
  }

  /** Draws who is there; called whenever that changes. */
  people(): void {
    if (this.#open !== 'people') return;
    const { self, participants } = this.#call;
    const everybody = [...(self ? [self] : []), ...participants];
    const list = at('#people-list');
    // A button that has the focus stays.
    const known = new Map([...list.children].map((row) => [(row as HTMLElement).dataset.user, row as HTMLElement]));
    for (const participant of everybody) {
      const row = known.get(participant.userId) ?? this.#row(participant);
      known.delete(participant.userId);
      at('.name', row).textContent = `${participant.displayName ?? participant.userId}${participant.isSelf ? ' (you)' : ''}`;
      at('.quiet', row).textContent = [participant.role, ...(participant.isMuted ? ['muted'] : []), ...(participant.isVideoOn ? [] : ['camera off'])].join(', ');
      const mute = row.querySelector<HTMLButtonElement>('.mute');
      if (mute) mute.disabled = participant.isMuted;
      list.append(...(row.isConnected ? [] : [row]));
    }
    for (const row of known.values()) row.remove();
    at('#host-controls').hidden = !this.#call.isHost;
    const lock = at('#lock-call');
    lock.textContent = this.#call.isLocked ? 'Unlock the call' : 'Lock the call';
    lock.setAttribute('aria-pressed', String(this.#call.isLocked));
  }

  #row(participant: Participant): HTMLElement {
    const row = make('li');
    row.dataset.user = participant.userId;
    const text = make('div');
    text.append(make('p', 'name'), make('p', 'quiet'));
    row.append(text);
    if (!this.#call.isHost || participant.isSelf) return row;
    const name = participant.displayName ?? participant.userId;
    const button = (className: string, symbol: string, label: string, press: () => Promise<void>) => {
      const made = make('button', `plain ${className}`);
      made.type = 'button';
      made.ariaLabel = label;
      made.title = label;
      made.append(icon(symbol));
      made.addEventListener('click', () => void press().catch((error: Error) => this.#tell(sentence(error))));
      return made;
    };
    row.append(
      button('mute', 'microphone-off', `Mute ${name}`, () => this.#call.mute(participant.userId)),
      button('remove', 'close', `Remove ${name}`, async () => {
        if (confirm(`Remove ${name} from the call?`)) await this.#call.remove(participant.userId);
      }),
    );
    return row;
  }

  #add({ userId, displayName, text, at: when }: ChatMessage, isNew: boolean): void {
    const isOwn = userId === this.#call.self?.userId;
    const name = displayName ?? userId;
    const item = make('li', isOwn ? 'own' : '');
    const head = make('p', 'quiet', `${isOwn ? 'You' : name} · ${TIME.format(new Date(when))}`);
    item.append(head, make('p', 'text', text));
    const list = at('#messages');
    const isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    list.append(item);
    if (isAtEnd || isOwn) list.scrollTop = list.scrollHeight;
    if (!isNew || isOwn || this.#open === 'chat') return;
    this.#unread += 1;
    this.#drawUnread();
    announce(`${name}: ${text}`);
  }

  #drawUnread(): void {
    const badge = at('#unread');
    badge.hidden = this.#unread === 0;
    badge.textContent = this.#unread > 9 ? '9+' : String(this.#unread);
    badge.ariaLabel = `${this.#unread} unread`;
  }

  async #list(): Promise<void> {
    await listDevices({
      audioinput: at<HTMLSelectElement>('#microphones'),
      videoinput: at<HTMLSelectElement>('#cameras'),
      ...(hasSpeakerChoice() ? { audiooutput: at<HTMLSelectElement>('#speakers') } : {}),
    });
    for (const [id, source] of [['#microphones', 'microphone'], ['#cameras', 'camera']] as const) {
      const used = this.#call.media.tracks.get(source)?.getSettings().deviceId;
      const list = at<HTMLSelectElement>(id);
      if (used && [...list.options].some(({ value }) => value === used)) list.value = used;
    }
  }
}
