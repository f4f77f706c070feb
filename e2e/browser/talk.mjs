#!/usr/bin/env node
// Three people meet by a link in the web app: the first two talk to each other directly, and when the third comes all of
// them move to a media node. Says what their pages say, and takes pictures of them.

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { launchChromium } from './lib/chromium.mjs';

const LATE_MS = 60_000;
const [link = '', pictures = ''] = process.argv.slice(2);
if (!link || !pictures) {
  console.error('usage: node talk.mjs LINK DIRECTORY-FOR-PICTURES');
  process.exit(2);
}

const began = Date.now();
/** @param {string} text */
const say = (text) => console.log(`  ${((Date.now() - began) / 1000).toFixed(1).padStart(5)} s  ${text}`);

/** @type {{name: string, page: import('playwright-core').Page}[]} */
const people = [];

// All pages share this machine's processors, and while the call moves each encodes its picture for both routes. The small
// window halves what drawing costs.
function withSmallCamera() {
  const take = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (wanted) => {
    const stream = await take(wanted);
    await Promise.all(stream.getVideoTracks().map((track) => track.applyConstraints({ width: 640, height: 360 })));
    return stream;
  };
}

/** @param {import('playwright-core').Browser} browser @param {string} name */
async function enter(browser, name) {
  // For other machines the demo has a certificate of its own.
  const ignoreHTTPSErrors = link.startsWith('https:');
  const context = await browser.newContext({ ignoreHTTPSErrors, viewport: { width: 800, height: 500 }, permissions: ['camera', 'microphone'] });
  await context.addInitScript(withSmallCamera);
  const page = await context.newPage();
  page.setDefaultTimeout(LATE_MS);
  people.push({ name, page });
  await page.goto(link);
  await page.getByLabel('Your name').fill(name);
  await page.getByRole('button', { name: 'Join' }).click();
  say(`${name} joins`);
}

/** Until each page says `mode` and shows a picture of everybody else. @param {string} mode */
async function together(mode) {
  for (const { name, page } of people) {
    await page.getByText(mode, { exact: true }).waitFor();
    await page.waitForFunction((others) => {
      const videos = [...document.querySelectorAll('.tile:not(.self) video')];
      return videos.filter((video) => /** @type {HTMLVideoElement} */ (video).videoWidth > 0).length >= others;
    }, people.length - 1);
    say(`${name} sees ${people.length - 1}, and "${mode}"`);
  }
}

const browser = await launchChromium();
try {
  await enter(browser, 'Ann');
  await enter(browser, 'Bob');
  await together('Peer to peer');
  await enter(browser, 'Cid');
  await together('Through the media server');
  await mkdir(pictures, { recursive: true });
  for (const { name, page } of people) {
    const path = join(pictures, `talk-${name.toLowerCase()}.png`);
    await page.screenshot({ path });
    console.log(`wrote ${path}`);
  }
  await people.pop()?.page.getByRole('button', { name: 'Leave' }).click();
  say('Cid leaves');
  await together('Peer to peer');
  // Whoever only closes the page stays for half a minute, in case the network was to blame.
  for (const { page } of people) await page.getByRole('button', { name: 'Leave' }).click();
} catch (error) {
  for (const { name, page } of people) {
    const text = await page.locator('body').innerText().catch(() => 'nothing');
    console.error(`${name}'s page says: ${text.replaceAll('\n', ' | ').slice(0, 600)}`);
  }
  console.error(`error: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
} finally {
  await browser.close();
}
