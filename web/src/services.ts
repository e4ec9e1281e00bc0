// The table of services and servers.

import type { Answer, Query, Rates, Server, Service } from './data';
import { byId, el, type Kept, List, mark, say } from './dom';
import { short, whole } from './format';

interface Column {
  title: string;
  sort: string; // as the query says it; '' for none
  wide?: boolean; // not on narrow screens
  number?: boolean;
}

const columns: Column[] = [
  { title: 'Service', sort: 'name' },
  { title: 'Health', sort: 'trouble' },
  { title: 'Conns/s', sort: 'connections', number: true },
  { title: 'Packets/s in', sort: 'packets', number: true },
  { title: 'out', sort: '', number: true, wide: true },
  { title: 'Bits/s in', sort: 'bits', number: true, wide: true },
  { title: 'out', sort: '', number: true, wide: true },
  { title: 'Active', sort: 'active', number: true },
  { title: 'Inactive', sort: 'inactive', number: true, wide: true },
  { title: 'Packets, last minute', sort: '', wide: true },
];

// So many servers on a page of services are shown without being asked for.
const showUnasked = 60;

const serviceLooks: Record<Service['state'], string> = { ok: 'ok', impaired: 'warn', down: 'bad' };

const serverStates: Record<Server['state'], [look: string, text: string]> = {
  up: ['ok', 'up'],
  local: ['ok', 'this host'],
  full: ['warn', 'full'],
  drained: ['idle', 'drained'],
  unreachable: ['bad', 'unreachable'],
};

/** ServiceTable shows a page of services. What the user asks for goes into the query, and changed is called. */
export class ServiceTable {
  private list: List<Service>;
  private heads: { cell: HTMLTableCellElement; sort: string }[] = [];
  private open = new Map<string, boolean>(); // as the user wants it
  private unasked = false;

  constructor(private query: Query, private changed: () => void) {
    const table = byId<HTMLTableElement>('service-table');
    const head = el('tr');
    for (const c of columns) {
      const cell = el('th', look(c));
      cell.scope = 'col';
      if (c.sort) {
        const button = el('button', '', c.title);
        button.type = 'button';
        button.addEventListener('click', () => {
          query.sort = query.sort === c.sort ? '' : c.sort;
          query.page = 0;
          changed();
        });
        cell.append(button);
        this.heads.push({ cell, sort: c.sort });
      } else {
        cell.append(c.title);
      }
      head.append(cell);
    }
    table.tHead?.append(head);
    this.list = new List(table, (s) => s.name, (s) => this.group(s), table.tHead);
    this.wire();
  }

  private wire(): void {
    const search = byId<HTMLInputElement>('search');
    search.value = this.query.search;
    search.addEventListener('input', () => {
      this.query.search = search.value;
      this.query.page = 0;
      this.changed();
    });
    document.addEventListener('keydown', (e) => {
      if (e.key !== '/' || e.ctrlKey || e.metaKey || e.altKey || e.target instanceof HTMLInputElement) return;
      e.preventDefault();
      search.focus();
    });
    const turn = (by: number) => () => {
      this.query.page = Math.max(0, this.query.page + by);
      this.changed();
    };
    byId('previous').addEventListener('click', turn(-1));
    byId('next').addEventListener('click', turn(1));
  }

  show(a: Answer): void {
    const s = a.services;
    this.query.page = s.page;
    for (const h of this.heads) {
      const sorted = h.sort === s.sort;
      if (sorted) h.cell.setAttribute('aria-sort', h.sort === 'name' ? 'ascending' : 'descending');
      else h.cell.removeAttribute('aria-sort');
    }
    say(byId('services-count'), s.matched === s.total ? whole(s.total) : `${whole(s.matched)} of ${whole(s.total)}`);
    byId('pages').hidden = s.pages < 2;
    say(byId('page'), `${whole(s.page + 1)} of ${whole(s.pages)}`);
    byId<HTMLButtonElement>('previous').disabled = s.page === 0;
    byId<HTMLButtonElement>('next').disabled = s.page + 1 >= s.pages;
    this.unasked = s.rows.reduce((n, r) => n + r.servers.length, 0) <= showUnasked;
    const chosen = a.chosen; // has more of its servers
    this.list.show(s.rows.map((r) => (chosen?.name === r.name ? { ...r, servers: chosen.servers } : r)));
  }

  /** A service is a tbody of its own: its row, and one for each of its servers. */
  private group(first: Service): Kept<Service> {
    let service = first;
    const toggle = el('button', 'toggle');
    toggle.type = 'button';
    toggle.setAttribute('aria-label', `Servers of ${first.name}`);
    toggle.addEventListener('click', () => {
      this.open.set(service.name, !this.isOpen(service));
      update(service);
    });
    const name = el('button', 'name', first.name);
    name.type = 'button';
    name.title = 'Show this service in the charts';
    name.addEventListener('click', () => {
      this.query.service = this.query.service === service.name ? '' : service.name;
      this.changed();
    });
    const kind = el('span', 'faint');
    const row = new Row('rowgroup', toggle, name, kind);
    const body = el('tbody', '', row.element);
    const more = note();
    const servers = new List<Server>(body, (v) => v.address, serverRow, row.element);
    const update = (s: Service) => {
      service = s;
      const open = this.isOpen(s);
      const chosen = this.query.service === s.name;
      toggle.setAttribute('aria-expanded', String(open));
      name.setAttribute('aria-pressed', String(chosen));
      mark(body, chosen ? 'chosen' : '');
      say(kind, [s.scheduler, ...(s.notes ?? [])].join(', '));
      row.show(serviceLooks[s.state], `${whole(s.servers_taking)} of ${whole(s.servers_total)}`, s);
      row.line(s.spark ?? []);
      servers.show(open ? s.servers : []);
      const left = open ? s.servers_total - s.servers.length : 0;
      if (left > 0) body.append(more.element);
      else more.element.remove();
      say(more.cell, `and ${whole(left)} more: ${chosen ? 'weiradm -Ln shows them all' : 'choose the service to see up to 200'}`);
    };
    return { element: body, update };
  }

  private isOpen(s: Service): boolean {
    return this.open.get(s.name) ?? this.unasked;
  }
}

function serverRow(first: Server): Kept<Server> {
  const kind = el('span', 'faint');
  const row = new Row('row', el('span', 'server', first.address), kind);
  mark(row.element, 'of-service');
  return {
    element: row.element,
    update(v) {
      const [look, text] = serverStates[v.state];
      say(kind, `${v.mode.toUpperCase()}, weight ${v.weight}`);
      row.show(look, text, v);
    },
  };
}

/** Row is what services and servers have in common. */
class Row {
  readonly element = el('tr');
  private dot = el('i', 'dot');
  private health = el('span');
  private numbers: HTMLTableCellElement[] = [];
  private spark = document.createElementNS(svg, 'path');

  constructor(scope: string, ...head: Node[]) {
    const first = el('th', '', ...head);
    first.scope = scope;
    this.element.append(first, el('td', '', this.dot, this.health));
    for (const c of columns.slice(2, -1)) {
      const cell = el('td', look(c));
      this.numbers.push(cell);
      this.element.append(cell);
    }
    const picture = document.createElementNS(svg, 'svg');
    picture.setAttribute('viewBox', `0 0 ${sparkWidth} ${sparkHeight}`);
    picture.setAttribute('preserveAspectRatio', 'none');
    picture.setAttribute('aria-hidden', 'true');
    picture.append(this.spark);
    const last = el('td', 'spark wide');
    last.append(picture);
    this.element.append(last);
  }

  show(state: string, health: string, v: { now: Rates; active: number; inactive: number }): void {
    mark(this.dot, `dot ${state}`);
    say(this.health, health);
    const n = v.now;
    [n.connections, n.in_packets, n.out_packets, n.in_bits, n.out_bits, v.active, v.inactive].forEach((value, k) => {
      const cell = this.numbers[k];
      if (!cell) return;
      say(cell, short(value));
      cell.classList.toggle('zero', value === 0);
    });
  }

  line(values: (number | null)[]): void {
    const most = Math.max(1, ...values.map((v) => v ?? 0));
    let path = '';
    let drawn = false;
    values.forEach((v, i) => {
      if (v !== null) {
        const x = (i / Math.max(1, values.length - 1)) * sparkWidth;
        path += `${drawn ? 'L' : 'M'}${x.toFixed(1)} ${(sparkHeight - 1 - (v / most) * (sparkHeight - 2)).toFixed(1)}`;
      }
      drawn = v !== null;
    });
    this.spark.setAttribute('d', path);
  }
}

/** A row that says only something. */
function note(): { element: HTMLTableRowElement; cell: HTMLTableCellElement } {
  const cell = el('td', 'faint');
  cell.colSpan = columns.length;
  return { element: el('tr', 'of-service', cell), cell };
}

const look = (c: Column) => [c.number ? 'number' : '', c.wide ? 'wide' : ''].join(' ').trim();

const svg = 'http://www.w3.org/2000/svg';
const sparkWidth = 120;
const sparkHeight = 20;
