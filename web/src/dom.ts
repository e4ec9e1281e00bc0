// The page's elements. Text is only ever set as text: nothing that weir says is read as HTML.

export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const e = document.getElementById(id);
  if (!e) throw new Error(`no element ${id}`);
  return e as T;
}

type Child = Node | string;

export function el<K extends keyof HTMLElementTagNameMap>(tag: K, className = '', ...children: Child[]): HTMLElementTagNameMap[K] {
  const e = document.createElement(tag);
  if (className) e.className = className;
  e.append(...children);
  return e;
}

/** Sets text if it is another: a screen reader reads out what is set anew, and a selection would be lost. */
export function say(e: Element, text: string): void {
  if (e.textContent !== text) e.textContent = text;
}

export function mark(e: Element, className: string): void {
  if (e.className !== className) e.className = className;
}

/** Kept is something shown for an item, which stays while the item does. */
export interface Kept<T> {
  element: Element;
  update(item: T): void;
}

/** List keeps an element for each item of a list that changes, by the items' keys. They are all that is in parent behind fixed. */
export class List<T> {
  private kept = new Map<string, Kept<T>>();

  constructor(private parent: Element, private key: (item: T) => string, private make: (item: T) => Kept<T>, private fixed: Element | null = null) {}

  show(items: T[]): void {
    const active = document.activeElement;
    const wanted = new Set(items.map(this.key));
    for (const [key, k] of this.kept) {
      if (wanted.has(key)) continue;
      k.element.remove();
      this.kept.delete(key);
    }
    let at = this.fixed ? this.fixed.nextElementSibling : this.parent.firstElementChild;
    for (const item of items) {
      const key = this.key(item);
      let k = this.kept.get(key);
      if (!k) {
        k = this.make(item);
        this.kept.set(key, k);
      }
      k.update(item);
      if (k.element === at) at = at.nextElementSibling;
      else this.parent.insertBefore(k.element, at);
    }
    // An element that was moved has lost the focus.
    if (active !== document.activeElement && active instanceof HTMLElement && active.isConnected) active.focus({ preventScroll: true });
  }
}
