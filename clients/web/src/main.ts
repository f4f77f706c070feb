// The page: which call the address names, preview, call, and what comes after.

import { DomRendering, giveConsent, joinCall } from '@callplane/client';
import { showCall } from './call-view.ts';
import { preview } from './preview.ts';
import { announce, at, show } from './ui.ts';

/** `/join/<roomId>#<linkToken>`: what stands after the `#` is sent to no server by the browser. */
export function readAddress({ pathname, hash }: { pathname: string; hash: string }): { roomId: string; linkToken: string } | undefined {
  const roomId = /^\/join\/([^/]+)\/?$/.exec(pathname)?.[1];
  const linkToken = hash.slice(1);
  return roomId && linkToken ? { roomId: decodeURIComponent(roomId), linkToken } : undefined;
}

async function run(): Promise<void> {
  const address = readAddress(location);
  if (!address) return askForLink();
  const title = address.roomId.replace(/^[^.]*\./, '');
  for (const element of document.querySelectorAll('.room-name')) element.textContent = title;
  document.title = `${title} · callplane`;
  for (;;) {
    show('preview');
    const rendering = new DomRendering();
    let ended: ReturnType<typeof showCall> | undefined;
    await preview(async ({ media, name, password, consents }) => {
      const where = { url: location.origin, ...address };
      const proof = consents ? (await giveConsent(where)).consentToken : undefined;
      const call = await joinCall({
        ...where, displayName: name, media, rendering,
        ...(password === undefined ? {} : { password }), ...(proof === undefined ? {} : { consentToken: proof }),
      });
      show('call');
      ended = showCall(call, rendering);
      announce('You joined the call');
      at('#mute').focus();
    });
    const { title: what, detail } = (await ended) ?? { title: '', detail: '' };
    show('over');
    at('#over h1').textContent = what;
    at('#over p').textContent = detail;
    at('#over h1').focus();
    await new Promise((resolve) => at('#again').addEventListener('click', resolve, { once: true }));
  }
}

function askForLink(): void {
  show('open');
  const form = at<HTMLFormElement>('#open form');
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const link = new URL(at<HTMLInputElement>('#link-field').value);
    if (link.origin === location.origin && readAddress(link)) {
      location.href = link.href;
      // Only the part after the `#` may differ: that alone loads nothing.
      location.reload();
    } else {
      at('.problem', form).textContent = 'This is no link to a call here. It looks like this: '
        + `${location.origin}/join/<room>#<token>`;
    }
  });
}

void run();
