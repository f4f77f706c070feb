import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AIORTC, CHROMIUM, differences, readRun, render } from '../interop/table.mjs';

const pins = { node: { 'mediasoup-client': '3.18.7' }, python: { aiortc: '1.16.0' }, rust: {} };
const VP8 = { file: 'codecs.test.mjs', at: 1, client: CHROMIUM, what: 'VP8', seen: '320x180 both ways' };
const AV1 = { file: 'codecs.test.mjs', at: 2, client: CHROMIUM, what: 'AV1', seen: '320x180 both ways' };
const WHEP = { file: 'whip.test.mjs', at: 1, client: AIORTC, what: 'WHEP', seen: 'plays FFmpeg | at 320x180' };
const VERSION = { file: 'codecs.test.mjs', at: 9, program: 'Chromium', version: '156.0.1' };
const run = (/** @type {object[]} */ ...entries) => readRun(entries.map((entry) => JSON.stringify(entry)).join('\n'));

test('the page has a table for each client, in the same order whichever file ended first', () => {
  const page = render(run(WHEP, AV1, VERSION, VP8), pins);
  assert.equal(page, render(run(VP8, VERSION, AV1, WHEP), pins));
  assert.match(page, /## Chromium with mediasoup-client\n\nChromium 156\.0\.1, mediasoup-client 3\.18\.7\.\n/);
  assert.match(page, /\| VP8 \| 320x180 both ways \|\n\| AV1 \|/);
  assert.match(page, /\| WHEP \| plays FFmpeg \/ at 320x180 \|\n/);
});

test('a run that saw what the page says differs in nothing, whatever version the machine has', () => {
  const page = render(run(VP8, WHEP, VERSION), pins);
  assert.deepEqual(differences(page, run(VP8, WHEP, { ...VERSION, version: '157.0.2.3' }), pins), []);
});

test('what is missing, new, or otherwise than on the page is told', () => {
  const page = render(run(VP8, AV1, VERSION), pins);
  assert.deepEqual(differences(page, run({ ...VP8, seen: 'nothing' }, WHEP, VERSION), pins), [
    `${CHROMIUM}: VP8: the page says «320x180 both ways», the run showed «nothing»`,
    `not on the page: ${AIORTC}: WHEP: plays FFmpeg | at 320x180`,
    `on the page, and not shown: ${CHROMIUM}: AV1`,
  ]);
  assert.deepEqual(differences(page, run(VP8, { ...AV1, seen: undefined, why: 'no encoder' }, VERSION), pins), [], 'not here is no difference');
  assert.deepEqual(differences(`${page}\nmore`, run(VP8, AV1, VERSION), pins), ['the rows agree, and the rest of the page does not']);
  assert.equal(differences('', run(VP8, VERSION), pins).length, 1);
});

test('how long something took is on the page, and no run is held against it', () => {
  const slow = { ...VP8, took: 'seen after 9.1 s' };
  const page = render(run({ ...VP8, took: 'seen after 0.7 s' }, VERSION), pins);
  assert.match(page, /\| VP8 \| 320x180 both ways \(when this was written: seen after 0\.7 s\) \|\n/);
  assert.deepEqual(differences(page, run(slow, VERSION), pins), []);
  assert.equal(differences(page, run({ ...slow, seen: 'nothing' }, VERSION), pins).length, 1);
});

test('a client without a place in the page is a mistake', () => {
  assert.throws(() => render(run({ ...VP8, client: 'somebody' }), pins), /does not know the client somebody/);
});
