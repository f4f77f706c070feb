// A headless Chromium with a fake camera and microphone.

import { existsSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { chromium } from 'playwright-core';

/** What is not looked up may still be connected to: media by TCP goes to an address of this machine. */
const OWN = ['localhost', ...Object.values(networkInterfaces()).flatMap((of) => (of ?? []).map(({ address }) => address))];

/** Starting takes seconds, and much longer on a machine that is busy. */
const STARTED_MS = 120_000;

const FLAGS = [
  '--use-fake-ui-for-media-stream',
  // Without the rate the fake camera gives 20 pictures a second.
  '--use-fake-device-for-media-stream=fps=30',
  // Every page is watched, whichever is in front.
  '--disable-background-timer-throttling',
  '--disable-backgrounding-occluded-windows',
  '--disable-renderer-backgrounding',
  '--mute-audio',
];

/** Nothing else is looked up: the tests' machines may have no resolver, and waiting for one spoils the times. @param {string[]} hosts */
const reaching = (hosts) => `--host-resolver-rules=${['MAP * ~NOTFOUND', ...hosts.map((name) => `EXCLUDE ${name}`)].join(', ')}`;

/** @param {{executablePath?: string, args?: string[], hosts?: string[]}} [options] `args` are more of its flags, `hosts` what it reaches besides this machine */
export async function launchChromium({ executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium', args = [], hosts = [] } = {}) {
  if (!existsSync(executablePath)) {
    throw new Error(`there is no Chromium at ${executablePath}: install it (Debian: apt-get install chromium) or set $CHROMIUM`);
  }
  return chromium.launch({ executablePath, args: [...FLAGS, reaching([...OWN, ...hosts]), ...args], headless: true, timeout: STARTED_MS });
}
