// Everything beside charts and services: what is wrong, gauges, interfaces, workers, reasons, the connection table.

import type { Answer, Interface, Problem, Status } from './data';
import { byId, el, type Kept, List, mark, say } from './dom';
import { percent, short, whole } from './format';

/** Panels shows an answer. */
export class Panels {
  private problems = new List<Problem>(byId('problems'), (p) => p.help + p.text.replace(/[\d,]+/g, '#'), problem);
  private gauges = new List<Gauge>(byId('gauges'), (g) => g.name, gauge);
  private stops = tableOf<Status['stops'][number]>('stops', ['Reason', 'Packets', '/s'], (r) => r.reason, stop);
  private interfaces = tableOf<Interface>('interfaces', ['Name', 'XDP', 'Copy', 'Queues', 'MTU', 'Lost'], (f) => f.name, iface);
  private workers = tableOf<Status['workers'][number]>('workers', ['Worker', 'CPU', 'Packets/s', 'A batch'], (w) => String(w.number), worker);
  private facts = new List<[string, string]>(byId('table'), ([name]) => name, fact);

  show(a: Answer): void {
    const s = a.status;
    mark(byId('state'), a.problems.some((p) => p.bad) ? 'bad' : a.problems.length ? 'warn' : 'ok');
    this.problems.show(a.problems.length ? a.problems : [fine(s)]);

    const fill = s.table.capacity ? s.table.used / s.table.capacity : 0;
    const cpu = Math.max(0, ...s.workers.map((w) => w.cpu));
    this.gauges.show([
      { name: 'Dropped a second', value: short(a.dropped), look: a.dropped ? 'bad' : '' },
      { name: 'Connection table', value: percent(fill), more: `${short(s.table.used)} of ${short(s.table.capacity)}`, share: fill, look: grade(fill, 0.8, 0.95) },
      { name: s.workers.length > 1 ? 'Busiest worker' : 'Worker', value: percent(cpu), more: 'of a CPU', share: cpu, look: grade(cpu, 0.75, 0.9) },
    ]);

    this.stops.show(s.stops);
    this.interfaces.show(s.interfaces);
    this.workers.show(s.workers);
    const t = s.table;
    this.facts.show([
      ['In use', `${whole(t.used)} of ${whole(t.capacity)}`],
      ['Opened', whole(t.opened)],
      ['Expired', whole(t.expired)],
      ['Gave way to new ones', whole(t.evicted)],
      ...Object.entries(t.refused ?? {}).map(([why, n]): [string, string] => [`Refused: ${why}`, whole(n)]),
      ['Given to the host', whole(s.host.injected)],
      ['Not given: over the rate', whole(s.host.over_rate)],
      ['Not given: failed, ring full', `${whole(s.host.failed)}, ${whole(s.host.ring_full)}`],
    ]);
  }
}

function fine(s: Status): Problem {
  if (!s.services) return { bad: false, text: 'There are no services yet', help: 'weiradm -A and -a make some, weiradm -R reads what ipvsadm -S -n has written.' };
  const servers = s.servers === 1 ? 'the server can be reached' : `all ${whole(s.servers)} servers can be reached`;
  return { bad: false, text: 'All is well', help: `${whole(s.services)} ${s.services === 1 ? 'service' : 'services'}, ${servers}, nothing is dropped.` };
}

const grade = (share: number, warn: number, bad: number) => (share >= bad ? 'bad' : share >= warn ? 'warn' : 'ok');

function problem(): Kept<Problem> {
  const text = el('strong');
  const help = el('span');
  const element = el('li', '', text, ' ', help);
  return {
    element,
    update(p) {
      mark(element, p.bad ? 'bad' : '');
      say(text, p.text);
      say(help, p.help);
    },
  };
}

interface Gauge {
  name: string;
  value: string;
  more?: string;
  share?: number;
  look: string;
}

function gauge(first: Gauge): Kept<Gauge> {
  const value = el('b');
  const more = el('span', 'faint');
  const bar = el('div', 'meter', el('i'));
  const fill = bar.firstElementChild as HTMLElement;
  bar.setAttribute('aria-hidden', 'true');
  bar.hidden = first.share === undefined;
  const element = el('div', '', el('dt', '', first.name), el('dd', '', value, ' ', more, bar));
  return {
    element,
    update(g) {
      mark(element, g.look);
      say(value, g.value);
      say(more, g.more ?? '');
      fill.style.width = `${Math.min(100, 100 * (g.share ?? 0))}%`;
    },
  };
}

function fact([name]: [string, string]): Kept<[string, string]> {
  const value = el('dd');
  return { element: el('div', '', el('dt', '', name), value), update: ([, text]) => say(value, text) };
}

/** A table with a head, whose tbody has what make makes. */
function tableOf<T>(id: string, titles: string[], key: (item: T) => string, make: (item: T) => Kept<T>): List<T> {
  const row = el('tr');
  titles.forEach((title, i) => {
    const cell = el('th', i && !['XDP', 'Copy'].includes(title) ? 'number' : '', title);
    cell.scope = 'col';
    row.append(cell);
  });
  const body = el('tbody');
  byId(id).append(el('thead', '', row), body);
  return new List(body, key, make);
}

/** Cells of a row, of which the first is its head. */
function cells(classes: string[]): { element: HTMLTableRowElement; cells: HTMLTableCellElement[] } {
  const element = el('tr');
  const all = classes.map((c, i) => el(i ? 'td' : 'th', c));
  if (all[0]) all[0].scope = 'row';
  element.append(...all);
  return { element, cells: all };
}

function stop(): Kept<Status['stops'][number]> {
  const name = el('span');
  const where = el('span', 'faint');
  const help = el('p');
  const packets = el('td', 'number');
  const rate = el('td', 'number');
  const head = el('th', '', name, ' ', where, help);
  head.scope = 'row';
  const element = el('tr', '', head, packets, rate);
  return {
    element,
    update(r) {
      mark(element, r.to_host ? 'calm' : r.per_second ? 'bad' : '');
      say(name, r.reason);
      say(where, r.to_host ? 'to the kernel' : 'dropped');
      say(help, r.help);
      say(packets, short(r.packets));
      say(rate, short(r.per_second));
    },
  };
}

function iface(): Kept<Interface> {
  const { element, cells: c } = cells(['', '', '', 'number', 'number', 'number']);
  return {
    element,
    update(f) {
      const lost = f.rx_dropped + f.rx_ring_full + f.tx_invalid + f.no_room + f.link_down;
      const texts = [f.name, f.xdp, f.zero_copy ? 'zero-copy' : 'copy', whole(f.queues), whole(f.mtu), short(lost)];
      const whys = [f.mac, f.xdp_why, f.zero_copy_why, , , lostBy(f)];
      texts.forEach((text, i) => {
        const cell = c[i];
        if (!cell) return;
        const why = i === 1 || i === 2 ? whys[i] : undefined; // a reason is shown, not only on a mouse's hover
        sayWith(cell, text, why ?? '');
        cell.title = whys[i] ?? '';
      });
      mark(c[1] as Element, f.xdp === 'native' ? 'good' : 'warned');
      mark(c[5] as Element, lost ? 'number warned' : 'number');
    },
  };
}

function lostBy(f: Interface): string {
  return `no frame to receive into ${whole(f.rx_dropped)}, worker behind ${whole(f.rx_ring_full)}, refused on transmission ${whole(f.tx_invalid)}, ` +
    `no room to transmit ${whole(f.no_room)}, link down ${whole(f.link_down)}; the fill ring was empty ${whole(f.fill_ring_empty)} times`;
}

/** A cell's text with a smaller one below. */
function sayWith(cell: Element, text: string, small: string): void {
  if (cell.textContent === text + small) return;
  cell.replaceChildren(text);
  if (small) cell.append(el('small', '', small));
}

function worker(): Kept<Status['workers'][number]> {
  const { element, cells: c } = cells(['', 'number', 'number', 'number']);
  return {
    element,
    update(w) {
      [String(w.number), percent(w.cpu), short(w.per_second), w.batch.toFixed(1)].forEach((text, i) => c[i] && say(c[i], text));
      mark(c[1] as Element, `number ${w.cpu >= 0.9 ? 'warned' : ''}`.trim());
    },
  };
}
