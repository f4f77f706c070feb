// Whether everything on a page of the web app has its place.

/**
 * What is wrong: something is wider than the page, a control is out of sight, too small or covered, tiles lie over each other.
 * @param {import('playwright-core').Page} page
 * @returns {Promise<string[]>}
 */
export const flaws = (page) => page.evaluate(lookAround);

/** Runs in the page, so it refers to nothing outside of itself. */
function lookAround() {
  /** A pixel is lost in rounding. */
  const PIXEL = 1;
  /** The least that can be hit, in pixels (WCAG 2.2, 2.5.8). */
  const TARGET = 24;
  /** How much of another one's picture one's own may cover, where it lies in the corner of it. */
  const CORNER = 0.25;
  const { innerWidth: width, innerHeight: height } = window;
  /** @type {string[]} */
  const wrong = [];
  const nameOf = (/** @type {Element} */ element) => element.id || element.ariaLabel || element.textContent?.trim().slice(0, 30) || element.className;
  const shown = (/** @type {string} */ selector) => [...document.querySelectorAll(selector)].filter((element) => {
    return element.checkVisibility({ visibilityProperty: true }) && element.getBoundingClientRect().width > PIXEL;
  });
  /** Pixels that two have in common. @param {DOMRect} one @param {DOMRect} other */
  function common(one, other) {
    const wide = Math.min(one.right, other.right) - Math.max(one.left, other.left);
    const high = Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
    return wide > PIXEL && high > PIXEL ? wide * high : 0;
  }

  const root = document.documentElement;
  if (root.scrollWidth > width) wrong.push(`the page is ${root.scrollWidth} wide`);
  // The page before and after the call may be scrolled down; the call may not.
  const isCall = shown('#call').length > 0;
  const bottom = isCall ? height : Math.max(height, root.scrollHeight);
  if (isCall && root.scrollHeight > height + PIXEL) wrong.push(`the call is ${root.scrollHeight} high`);

  // On a phone the panel lies over everything else until it is closed.
  const panel = shown('#panel').find((element) => getComputedStyle(element).position === 'fixed');
  for (const control of shown('button, input, select, a[href]')) {
    if (panel && !panel.contains(control)) continue;
    const box = control.getBoundingClientRect();
    if (box.left < -PIXEL || box.top < -PIXEL || box.right > width + PIXEL || box.bottom > bottom + PIXEL) {
      wrong.push(`${nameOf(control)} is out of sight: ${[box.left, box.top, box.right, box.bottom].map(Math.round)}`);
      continue;
    }
    const isBox = control instanceof HTMLInputElement && control.type === 'checkbox';
    if (!isBox && (box.width < TARGET || box.height < TARGET)) wrong.push(`${nameOf(control)} is small: ${Math.round(box.width)}x${Math.round(box.height)}`);
    if (box.bottom > height) continue;
    const hit = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
    if (!hit || !control.contains(hit)) wrong.push(`${nameOf(control)} is covered by ${hit ? nameOf(hit) : 'nothing'}`);
  }

  const grid = document.querySelector('#grid');
  const canScroll = grid !== null && getComputedStyle(grid).overflowY === 'auto';
  const tiles = shown('#grid > .tile');
  for (const [at, tile] of tiles.entries()) {
    const box = tile.getBoundingClientRect();
    const isOut = box.left < -PIXEL || box.right > width + PIXEL || (!canScroll && (box.top < -PIXEL || box.bottom > height + PIXEL));
    if (isOut) wrong.push(`tile ${at} of ${tiles.length} is out of sight: ${[box.left, box.top, box.right, box.bottom].map(Math.round)}`);
    if (box.width < 2 * TARGET || box.height < 2 * TARGET) wrong.push(`tile ${at} of ${tiles.length} is small: ${Math.round(box.width)}x${Math.round(box.height)}`);
    for (const other of tiles.slice(at + 1)) {
      const otherBox = other.getBoundingClientRect();
      const isCorner = grid?.classList.contains('two') && other.classList.contains('self');
      const allowed = isCorner ? CORNER * box.width * box.height : 0;
      if (common(box, otherBox) > allowed) wrong.push(`tiles ${nameOf(tile)} and ${nameOf(other)} of ${tiles.length} lie over each other`);
    }
    // What scrolls is cut off where its list ends.
    for (const bar of canScroll ? [] : shown('#call > header, #call > footer')) {
      if (common(box, bar.getBoundingClientRect()) > 0) wrong.push(`tile ${at} of ${tiles.length} lies under the ${bar.localName}`);
    }
    for (const aside of panel ? [] : shown('#panel')) {
      if (common(box, aside.getBoundingClientRect()) > 0) wrong.push(`tile ${at} of ${tiles.length} lies under the panel`);
    }
  }
  return wrong;
}
