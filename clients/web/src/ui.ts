// Small things that every part of the page needs.

/** An element of the page that is there. */
export function at<Type extends HTMLElement = HTMLElement>(selector: string, within: ParentNode = document): Type {
  const element = within.querySelector<Type>(selector);
  if (!element) throw new Error(`the page has no ${selector}`);
  return element;
}

export function make<Name extends keyof HTMLElementTagNameMap>(name: Name, className = '', text = ''): HTMLElementTagNameMap[Name] {
  const element = document.createElement(name);
  if (className) element.className = className;
  // Never as HTML: names and messages are what others typed.
  if (text) element.textContent = text;
  return element;
}

export function icon(name: string): SVGSVGElement {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const use = document.createElementNS('http://www.w3.org/2000/svg', 'use');
  use.setAttribute('href', `#${name}`);
  svg.setAttribute('aria-hidden', 'true');
  svg.append(use);
  return svg;
}

/** A button that is on or off: what it says is what pressing it does. */
export function toggle(button: HTMLElement, { pressed, label, symbol }: { pressed: boolean; label: string; symbol?: string }): void {
  button.setAttribute('aria-pressed', String(pressed));
  at('span', button).textContent = label;
  if (symbol) button.querySelector('use')?.setAttribute('href', `#${symbol}`);
}

/** Says it to those who do not see it. */
export function announce(text: string): void {
  const line = make('p', '', text);
  const live = at('#announcements');
  live.append(line);
  // Old lines are read again by some screen readers.
  while (live.childElementCount > 5) live.firstElementChild?.remove();
}

export function initials(name: string): string {
  const words = name.split(/[\s._@-]+/).filter(Boolean);
  return words.slice(0, 2).map((word) => [...word][0]?.toUpperCase()).join('') || '?';
}

/** A hue that is the same for the same person everywhere. */
export function hueOf(id: string): number {
  let hash = 0;
  for (const character of id) hash = (hash * 31 + (character.codePointAt(0) ?? 0)) % 360;
  return hash;
}

/** Shows one of the pages. */
export function show(page: 'open' | 'preview' | 'call' | 'over'): void {
  for (const id of ['open', 'preview', 'call', 'over']) at(`#${id}`).hidden = id !== page;
}
