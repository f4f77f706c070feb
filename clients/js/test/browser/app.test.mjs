// The web app as the gateway serves it: by a share link, with the keyboard, under its Content-Security-Policy.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Lab } from '../../../../e2e/browser/lib/lab.mjs';
import { eventually, launch } from '../support/browser.mjs';
import { flaws } from '../support/layout.mjs';
import { speakAloud } from '../support/sound.mjs';

const app = fileURLToPath(new URL('../../../web/dist', import.meta.url));
const DESKTOP = { width: 1280, height: 800 };
const PHONE = { width: 390, height: 844 };
const LATE_MS = 120_000;
/** Of each kind two: there is something to choose from. */
const DEVICES = '--use-fake-device-for-media-stream=fps=30,device-count=2';

/** @type {Lab} */
let lab;
/** @type {import('playwright-core').Browser} */
let browser;
/** Where pictures of the pages go: `$CALLPLANE_SCREENSHOTS`, or a new directory, which stays. */
let pictures = process.env.CALLPLANE_SCREENSHOTS;
/** Where consents are kept. */
let records = '';
/** @type {string[]} what the pages complained of */
const complaints = [];

before(async () => {
  assert.ok(existsSync(`${app}/index.html`), '`make web` builds the app');
  pictures ??= await mkdtemp(join(tmpdir(), 'callplane-screenshots-'));
  await mkdir(pictures, { recursive: true });
  records = await mkdtemp(join(tmpdir(), 'callplane-records-'));
  lab = await Lab.start({ webRoot: app, args: ['--sqlite', join(records, 'records.db')] });
  browser = await launch([DEVICES]);
});

after(async () => {
  console.log(`pictures of the pages: ${pictures}`);
  await browser?.close();
  await lab?.stop();
  await rm(records, { recursive: true, force: true });
});

/** @typedef {import('playwright-core').Page} Page */

/** @param {string} link @param {{width: number, height: number}} viewport @param {'dark' | 'light'} colorScheme @param {() => void} [before] runs in the page first */
async function open(link, viewport, colorScheme, before) {
  const context = await browser.newContext({ viewport, colorScheme, permissions: ['camera', 'microphone'] });
  if (before) await context.addInitScript(before);
  const page = await context.newPage();
  page.setDefaultTimeout(LATE_MS);
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(error.message));
  await page.goto(link);
  return page;
}

/** A page that looks right: everything has its place, and there is a picture of it. @param {Page} page @param {string} name */
async function looksRight(page, name) {
  await page.screenshot({ path: `${pictures}/${name}.png` });
  assert.deepEqual(await flaws(page), [], name);
}

/** Joins once the preview shows a picture. @param {Page} page @param {string} name */
async function enter(page, name) {
  const camera = async () => /** @type {string} */ (await (await page.waitForFunction(() => {
    const mirror = /** @type {HTMLVideoElement} */ (document.querySelector('#mirror'));
    return mirror.videoWidth > 0 ? 'on' : document.querySelector('#join-form .problem')?.textContent;
  })).jsonValue());
  // The browser waits 10 s for a camera to start, also where others have the processor.
  while ((await camera()).includes('Timeout starting')) await page.reload();
  assert.equal(await camera(), 'on');
  await page.getByLabel('Your name').fill(name);
  await page.getByRole('button', { name: 'Join' }).click();
}

/** Pictures of so many others are seen. @param {Page} page */
const sees = (page, others = 1) => page.waitForFunction((count) => {
  const seen = [...document.querySelectorAll('.tile:not(.self)')].filter((tile) => [...tile.querySelectorAll('video')].some(({ videoWidth }) => videoWidth > 0));
  return seen.length >= count;
}, others);

test('people meet by a link: on a desktop, on a phone, with the keyboard alone', async () => {
  const roomId = await lab.room('app');
  const { linkToken } = await lab.rest('POST', `/v1/rooms/${roomId}/links`, { role: 'guest' });
  const link = `${lab.url}/join/${roomId}#${linkToken}`;

  const ann = await open(link, DESKTOP, 'dark');
  await ann.getByLabel('Your name').fill('Ann Lee');
  await looksRight(ann, 'preview-desktop');
  await ann.keyboard.press('Enter');
  await ann.getByText('Nobody else is here yet.').waitFor();
  await looksRight(ann, 'alone-desktop');

  const bob = await open(link, PHONE, 'light');
  await bob.getByLabel('Your name').fill('Bob');
  await looksRight(bob, 'preview-phone');
  await bob.getByRole('button', { name: 'Join' }).click();
  for (const page of [ann, bob]) {
    await page.locator('#mode', { hasText: 'Peer to peer' }).waitFor();
    await sees(page);
  }
  await ann.getByText('Bob joined').waitFor({ state: 'attached' });
  await looksRight(ann, 'two-desktop');
  await looksRight(bob, 'two-phone');

  const cid = await open(link, DESKTOP, 'light');
  await cid.getByLabel('Your name').fill('Cid de la Vega');
  await cid.getByRole('button', { name: 'Join' }).click();
  for (const page of [ann, bob, cid]) await page.locator('#mode', { hasText: 'Through the media server' }).waitFor();

  await ann.getByRole('button', { name: 'Chat' }).focus();
  await ann.keyboard.press('Enter');
  await ann.keyboard.type('<img src=x onerror=alert(1)> hello');
  await ann.keyboard.press('Enter');
  await bob.getByRole('button', { name: /Chat/ }).click();
  await bob.locator('#messages').getByText('<img src=x onerror=alert(1)> hello').waitFor();
  await looksRight(bob, 'chat-phone');
  await ann.keyboard.press('Escape');
  assert.equal(await ann.evaluate(() => document.activeElement?.id), 'show-chat', 'the focus is where it came from');
  await ann.getByRole('button', { name: 'Mute' }).click();
  await cid.getByRole('listitem', { name: 'Ann Lee, muted' }).waitFor();
  await cid.getByRole('button', { name: 'Video off' }).click();
  await ann.getByRole('listitem', { name: 'Cid de la Vega, camera off' }).waitFor();
  await looksRight(ann, 'three-desktop');
  await bob.getByRole('button', { name: 'Close' }).click();
  await looksRight(bob, 'three-phone');
  await ann.getByRole('button', { name: 'Chat' }).click();
  await looksRight(ann, 'chat-desktop');
  await ann.keyboard.press('Escape');
  await cid.getByRole('button', { name: 'Share' }).click();
  for (const [page, name] of /** @type {[Page, string][]} */ ([[ann, 'shared-desktop'], [bob, 'shared-phone']])) {
    await page.getByRole('listitem', { name: 'Cid de la Vega’s screen' }).waitFor();
    await looksRight(page, name);
  }

  await cid.getByRole('button', { name: 'Leave' }).click();
  await cid.getByRole('heading', { name: 'You left the call' }).waitFor();
  await looksRight(cid, 'left-desktop');
  for (const page of [ann, bob]) await page.locator('#mode', { hasText: 'Peer to peer' }).waitFor();
  // Whoever closes the tab has left: nobody waits the half minute that a lost connection gets.
  await bob.close({ runBeforeUnload: true });
  await ann.getByText('Nobody else is here yet.').waitFor({ timeout: 20_000 });
  assert.deepEqual(complaints, []);
  await Promise.all([ann, cid].map((page) => page.context().close()));
});

test('everything has its place, however many people there are', async () => {
  const page = await open(`${lab.url}/join/default.x#y`, DESKTOP, 'light');
  await page.getByLabel('Your name').waitFor();
  for (const [size, viewport] of /** @type {[string, typeof PHONE][]} */ ([['desktop', DESKTOP], ['phone', PHONE]])) {
    await page.setViewportSize(viewport);
    for (const others of [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 15]) {
      await page.evaluate(crowd, others);
      assert.deepEqual(await flaws(page), [], `${others} others on a ${size}`);
    }
  }
  await page.context().close();
});

/** The call, with so many others as the app shows them, but for their pictures. Runs in the page. @param {number} others */
function crowd(others) {
  const at = (/** @type {string} */ selector) => /** @type {HTMLElement} */ (document.querySelector(selector));
  at('#preview').hidden = true;
  at('#call').hidden = false;
  const grid = at('#grid');
  grid.replaceChildren(...Array.from({ length: others + 1 }, (_, place) => {
    const tile = document.createElement('li');
    tile.className = place === others ? 'tile self' : 'tile';
    tile.innerHTML = '<div class="avatar">AB</div><div class="picture"></div><p class="caption"><span class="name">Somebody with a long name</span></p>';
    return tile;
  }));
  grid.dataset.count = String(Math.min(12, Math.max(1, others + (others === 1 ? 0 : 1))));
  grid.classList.toggle('two', others === 1);
}

test('who speaks is shown, and said to those who do not see it', async () => {
  const roomId = await lab.room('speakers');
  const { linkToken } = await lab.rest('POST', `/v1/rooms/${roomId}/links`, { role: 'guest' });
  const link = `${lab.url}/join/${roomId}#${linkToken}`;
  const ann = await open(link, DESKTOP, 'dark');
  await enter(ann, 'Ann');
  const bob = await open(link, DESKTOP, 'dark', speakAloud);
  await enter(bob, 'Bob');
  for (const page of [ann, bob]) await page.locator('#mode', { hasText: 'Peer to peer' }).waitFor();
  await ann.getByRole('listitem', { name: 'Bob, speaking', exact: true }).and(ann.locator('.speaking')).waitFor();
  await bob.getByRole('button', { name: 'Mute', exact: true }).click();
  await ann.getByRole('listitem', { name: 'Bob, muted', exact: true }).and(ann.locator(':not(.speaking)')).waitFor();

  await lab.kube('PATCH', '/apis/callplane.io/v1alpha1/namespaces/default/callrooms/speakers', { spec: { topology: { mode: 'SFU' } } }, 'application/merge-patch+json');
  for (const page of [ann, bob]) await page.locator('#mode', { hasText: 'Through the media server' }).waitFor();
  await bob.getByRole('button', { name: 'Unmute', exact: true }).click();
  await ann.getByRole('listitem', { name: 'Bob, speaking', exact: true }).and(ann.locator('.speaking')).waitFor();
  await Promise.all([ann, bob].map((page) => page.context().close()));
});

test('devices are chosen in the call: microphone, camera, speaker', async () => {
  const roomId = await lab.room('devices');
  const { linkToken } = await lab.rest('POST', `/v1/rooms/${roomId}/links`, { role: 'guest' });
  const link = `${lab.url}/join/${roomId}#${linkToken}`;
  const [ann, bob] = [await open(link, DESKTOP, 'light'), await open(link, DESKTOP, 'light')];
  await enter(ann, 'Ann');
  await enter(bob, 'Bob');
  for (const page of [ann, bob]) await sees(page);
  /** What the camera of one's own tile is, and where sound goes. */
  const inUse = () => ann.evaluate(() => {
    const own = /** @type {HTMLVideoElement | null} */ (document.querySelector('.tile.self video'));
    const sounds = /** @type {NodeListOf<HTMLMediaElement & {sinkId: string}>} */ (document.querySelectorAll('body > audio'));
    const [track] = own?.srcObject instanceof MediaStream ? own.srcObject.getVideoTracks() : [];
    return { camera: track?.readyState === 'live' ? track.getSettings().deviceId : undefined, speakers: [...sounds].map(({ sinkId }) => sinkId) };
  });
  const devices = ann.getByRole('button', { name: 'Devices' });
  await devices.click();
  /** Another one than that in use. @param {string} list @returns {Promise<string>} */
  const choose = async (list) => {
    const select = ann.getByRole('combobox', { name: list });
    await select.locator('option:nth-child(2)').waitFor({ state: 'attached' });
    const other = await select.evaluate((element) => {
      const { options, value } = /** @type {HTMLSelectElement} */ (element);
      return [...options].find((option) => option.value !== value)?.value ?? '';
    });
    await select.selectOption(other);
    return other;
  };
  const camera = await choose('Camera');
  await eventually('the other camera is in use', inUse, (now) => now.camera === camera);
  const speaker = await choose('Speaker');
  await eventually('sound goes to the other speaker', inUse, ({ speakers }) => speakers.length > 0 && speakers.every((id) => id === speaker));
  const microphone = await choose('Microphone');
  await looksRight(ann, 'devices-desktop');
  await eventually('the other microphone is in use', async () => {
    // The list is made anew, with that in use chosen.
    await devices.click();
    await devices.click();
    return ann.getByRole('combobox', { name: 'Microphone' }).inputValue();
  }, (value) => value === microphone);

  await lab.kube('PATCH', '/apis/callplane.io/v1alpha1/namespaces/default/callrooms/devices', { spec: { topology: { mode: 'SFU' } } }, 'application/merge-patch+json');
  for (const page of [ann, bob]) await page.locator('#mode', { hasText: 'Through the media server' }).waitFor();
  const after = await eventually('sound of the other route goes there too', inUse, ({ speakers }) => speakers.length > 0 && speakers.every((id) => id === speaker));
  assert.equal(after.camera, camera);
  assert.deepEqual(complaints, []);
  await Promise.all([ann, bob].map((page) => page.context().close()));
});

test('a link that is no good says so', async () => {
  const roomId = await lab.room('closed');
  const { linkToken, linkId } = await lab.rest('POST', `/v1/rooms/${roomId}/links`, { role: 'guest' });
  await lab.rest('DELETE', `/v1/rooms/${roomId}/links/${linkId}`);
  const page = await open(`${lab.url}/join/${roomId}#${linkToken}`, PHONE, 'dark');
  await page.getByLabel('Your name').fill('Eve');
  await page.getByRole('button', { name: 'Join' }).click();
  await page.getByText('This link is no longer valid. Ask for another one.').waitFor();
  await looksRight(page, 'revoked-phone');
  await page.goto(`${lab.url}/`);
  await page.getByRole('heading', { name: 'Join a call' }).waitFor();
  await looksRight(page, 'open-phone');
  await page.context().close();
});

test('a call with a password asks for it', async () => {
  const { roomId } = await lab.rest('POST', '/v1/rooms', { hostId: 'ann', settings: { maxParticipants: 4, password: 'tea at five' } });
  const { linkToken } = await lab.rest('POST', `/v1/rooms/${roomId}/links`, { role: 'guest' });
  const page = await open(`${lab.url}/join/${roomId}#${linkToken}`, PHONE, 'dark');
  await page.getByLabel('Your name').fill('Gus');
  await page.getByRole('button', { name: 'Join' }).click();
  await page.getByText('This call has a password.').waitFor();
  await page.keyboard.type('tea at six');
  await page.keyboard.press('Enter');
  await page.getByText('That is not the password of this call.').waitFor();
  await looksRight(page, 'password-phone');
  await page.getByLabel('Password of the call').fill('tea at five');
  await page.keyboard.press('Enter');
  await page.getByText('Nobody else is here yet.').waitFor();
  await page.context().close();
});

test('a call that asks for consent is entered by those who give it', async () => {
  const settings = { maxParticipants: 4, consent: { required: true, version: '2' } };
  const { roomId } = await lab.rest('POST', '/v1/rooms', { hostId: 'ann', settings });
  const { linkToken } = await lab.rest('POST', `/v1/rooms/${roomId}/links`, { role: 'guest' });
  const page = await open(`${lab.url}/join/${roomId}#${linkToken}`, PHONE, 'dark');
  await page.getByLabel('Your name').fill('Gus');
  await page.getByRole('button', { name: 'Join' }).click();
  const consent = page.getByLabel('I agree that this call may be recorded');
  await consent.waitFor();
  await looksRight(page, 'consent-phone');
  await page.getByRole('button', { name: 'Join' }).click();
  assert.equal(await page.locator('#call').isVisible(), false, 'not without it');
  assert.deepEqual((await lab.rest('GET', `/v1/rooms/${roomId}/consents`)).consents, []);
  await consent.check();
  await page.getByRole('button', { name: 'Join' }).click();
  await page.getByText('Nobody else is here yet.').waitFor();
  const { consents } = await lab.rest('GET', `/v1/rooms/${roomId}/consents`);
  assert.deepEqual(consents.map((/** @type {any} */ { consentType, status, version }) => [consentType, status, version]), [['recording_ai', 'accepted', '2']]);
  await page.context().close();
});

test('everything on the page has a name, and is reached by the keyboard', async () => {
  const page = await open(`${lab.url}/join/default.x#y`, DESKTOP, 'dark');
  await page.getByLabel('Your name').waitFor();
  const nameless = await page.evaluate(() => [...document.querySelectorAll('button, input, select')].filter((element) => {
    const control = /** @type {HTMLInputElement} */ (element);
    return !control.ariaLabel && !control.labels?.length && !control.textContent?.trim();
  }).map((element) => element.outerHTML));
  assert.deepEqual(nameless, []);
  const order = [];
  await page.getByLabel('Your name').focus();
  for (let at = 0; at < 3; at += 1) {
    await page.keyboard.press('Tab');
    order.push(await page.evaluate(() => document.activeElement?.id || document.activeElement?.textContent?.trim()));
  }
  assert.deepEqual(order, ['preview-microphones', 'preview-cameras', 'Join']);
  const policy = (await page.request.get(`${lab.url}/`)).headers()['content-security-policy'] ?? '';
  assert.ok(policy.includes("default-src 'none'") && !policy.includes('unsafe'), policy);
  await page.context().close();
});
