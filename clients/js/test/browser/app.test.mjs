// The web app as the gateway serves it: by a share link, with the keyboard, under its Content-Security-Policy.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Lab } from '../../../../e2e/browser/lib/lab.mjs';
import { launch } from '../support/browser.mjs';

const app = fileURLToPath(new URL('../../../web/dist', import.meta.url));
/** Where pictures of the pages go, if anywhere. */
const pictures = process.env.CALLPLANE_SCREENSHOTS;
const LATE_MS = 60_000;

/** @type {Lab} */
let lab;
/** @type {import('playwright-core').Browser} */
let browser;
/** Where consents are kept. */
let records = '';
/** @type {string[]} what the pages complained of */
const complaints = [];

before(async () => {
  assert.ok(existsSync(`${app}/index.html`), '`make web` builds the app');
  if (pictures) await mkdir(pictures, { recursive: true });
  records = await mkdtemp(join(tmpdir(), 'callplane-records-'));
  lab = await Lab.start({ webRoot: app, args: ['--sqlite', join(records, 'records.db')] });
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await lab?.stop();
  await rm(records, { recursive: true, force: true });
});

/** @param {string} link @param {{width: number, height: number}} viewport @param {'dark' | 'light'} colorScheme */
async function open(link, viewport, colorScheme) {
  const context = await browser.newContext({ viewport, colorScheme, permissions: ['camera', 'microphone'] });
  const page = await context.newPage();
  page.setDefaultTimeout(LATE_MS);
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(error.message));
  await page.goto(link);
  return page;
}

/** @param {import('playwright-core').Page} page @param {string} name */
async function picture(page, name) {
  if (pictures) await page.screenshot({ path: `${pictures}/${name}.png` });
}

test('people meet by a link: on a desktop, on a phone, with the keyboard alone', async () => {
  const roomId = await lab.room('app');
  const { linkToken } = await lab.rest('POST', `/v1/rooms/${roomId}/links`, { role: 'guest' });
  const link = `${lab.url}/join/${roomId}#${linkToken}`;

  const ann = await open(link, { width: 1280, height: 800 }, 'dark');
  await ann.getByLabel('Your name').fill('Ann Lee');
  await picture(ann, 'preview-desktop');
  await ann.keyboard.press('Enter');
  await ann.getByText('Nobody else is here yet.').waitFor();
  await picture(ann, 'alone-desktop');

  const bob = await open(link, { width: 390, height: 844 }, 'light');
  await bob.getByLabel('Your name').fill('Bob');
  await picture(bob, 'preview-phone');
  await bob.getByRole('button', { name: 'Join' }).click();
  for (const page of [ann, bob]) {
    await page.locator('#mode', { hasText: 'Peer to peer' }).waitFor();
    await page.waitForFunction(() => [...document.querySelectorAll('.tile:not(.self) video')].some((video) => /** @type {HTMLVideoElement} */ (video).videoWidth > 0));
  }
  await ann.getByText('Bob joined').waitFor({ state: 'attached' });
  await picture(ann, 'two-desktop');
  await picture(bob, 'two-phone');

  const cid = await open(link, { width: 1280, height: 800 }, 'light');
  await cid.getByLabel('Your name').fill('Cid de la Vega');
  await cid.getByRole('button', { name: 'Join' }).click();
  for (const page of [ann, bob, cid]) await page.locator('#mode', { hasText: 'Through the media server' }).waitFor();

  await ann.getByRole('button', { name: 'Chat' }).focus();
  await ann.keyboard.press('Enter');
  await ann.keyboard.type('<img src=x onerror=alert(1)> hello');
  await ann.keyboard.press('Enter');
  await bob.getByRole('button', { name: /Chat/ }).click();
  await bob.locator('#messages').getByText('<img src=x onerror=alert(1)> hello').waitFor();
  await picture(bob, 'chat-phone');
  await ann.keyboard.press('Escape');
  assert.equal(await ann.evaluate(() => document.activeElement?.id), 'show-chat', 'the focus is where it came from');
  await ann.getByRole('button', { name: 'Mute' }).click();
  await cid.getByRole('listitem', { name: 'Ann Lee, muted' }).waitFor();
  await cid.getByRole('button', { name: 'Video off' }).click();
  await ann.getByRole('listitem', { name: 'Cid de la Vega, camera off' }).waitFor();
  await picture(ann, 'three-desktop');
  await bob.getByRole('button', { name: 'Close' }).click();
  await picture(bob, 'three-phone');

  await cid.getByRole('button', { name: 'Leave' }).click();
  await cid.getByRole('heading', { name: 'You left the call' }).waitFor();
  await picture(cid, 'left-desktop');
  for (const page of [ann, bob]) await page.locator('#mode', { hasText: 'Peer to peer' }).waitFor();
  assert.deepEqual(complaints, []);
  await Promise.all([ann, bob, cid].map((page) => page.context().close()));
});

test('a link that is no good says so', async () => {
  const roomId = await lab.room('closed');
  const { linkToken, linkId } = await lab.rest('POST', `/v1/rooms/${roomId}/links`, { role: 'guest' });
  await lab.rest('DELETE', `/v1/rooms/${roomId}/links/${linkId}`);
  const page = await open(`${lab.url}/join/${roomId}#${linkToken}`, { width: 390, height: 844 }, 'dark');
  await page.getByLabel('Your name').fill('Eve');
  await page.getByRole('button', { name: 'Join' }).click();
  await page.getByText('This link is no longer valid. Ask for another one.').waitFor();
  await picture(page, 'revoked-phone');
  await page.goto(`${lab.url}/`);
  await page.getByRole('heading', { name: 'Join a call' }).waitFor();
  await picture(page, 'open-phone');
  await page.context().close();
});

test('a call with a password asks for it', async () => {
  const { roomId } = await lab.rest('POST', '/v1/rooms', { hostId: 'ann', settings: { maxParticipants: 4, password: 'tea at five' } });
  const { linkToken } = await lab.rest('POST', `/v1/rooms/${roomId}/links`, { role: 'guest' });
  const page = await open(`${lab.url}/join/${roomId}#${linkToken}`, { width: 390, height: 844 }, 'dark');
  await page.getByLabel('Your name').fill('Gus');
  await page.getByRole('button', { name: 'Join' }).click();
  await page.getByText('This call has a password.').waitFor();
  await page.keyboard.type('tea at six');
  await page.keyboard.press('Enter');
  await page.getByText('That is not the password of this call.').waitFor();
  await picture(page, 'password-phone');
  await page.getByLabel('Password of the call').fill('tea at five');
  await page.keyboard.press('Enter');
  await page.getByText('Nobody else is here yet.').waitFor();
  await page.context().close();
});

test('a call that asks for consent is entered by those who give it', async () => {
  const settings = { maxParticipants: 4, consent: { required: true, version: '2' } };
  const { roomId } = await lab.rest('POST', '/v1/rooms', { hostId: 'ann', settings });
  const { linkToken } = await lab.rest('POST', `/v1/rooms/${roomId}/links`, { role: 'guest' });
  const page = await open(`${lab.url}/join/${roomId}#${linkToken}`, { width: 390, height: 844 }, 'dark');
  await page.getByLabel('Your name').fill('Gus');
  await page.getByRole('button', { name: 'Join' }).click();
  const consent = page.getByLabel('I agree that this call may be recorded');
  await consent.waitFor();
  await picture(page, 'consent-phone');
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
  const page = await open(`${lab.url}/join/default.x#y`, { width: 1280, height: 800 }, 'dark');
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
