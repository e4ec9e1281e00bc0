// The page of a running weir: asks for its state once a second and shows it.

import './style.css';
import { Plot, plots } from './charts';
import { type Answer, Poll, type Query } from './data';
import { byId, mark, say } from './dom';
import { span } from './format';
import { Panels } from './panels';
import { ServiceTable } from './services';

// What is asked for stands in the address, so that a reload or a colleague sees the same.
const query: Query = { search: '', sort: '', page: 0, service: '' };
const given = new URLSearchParams(location.hash.slice(1));
query.search = given.get('search') ?? '';
query.sort = given.get('sort') ?? '';
query.page = Number(given.get('page')) || 0;
query.service = given.get('service') ?? '';

const charts = plots.map((p) => new Plot(byId(p.id), p.title, p.lines));
const panels = new Panels();
const table = new ServiceTable(query, changed);
const poll = new Poll(() => query, answered, failed);

byId('whole').addEventListener('click', () => {
  query.service = '';
  changed();
});

function changed(): void {
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value) words.set(name, String(value));
  }
  history.replaceState(null, '', words.size ? `#${words}` : location.pathname);
  poll.now();
}

let heard = 0; // when weir last answered, by this machine's clock
let problem = ''; // why it did not answer since

function answered(a: Answer): void {
  heard = performance.now();
  problem = '';
  say(byId('host'), a.host || 'weir');
  say(byId('about'), `weir ${a.status.version}, up ${span(a.status.uptime)}`);
  document.title = `${a.problems.length ? `(${a.problems.length}) ` : ''}${a.host || 'director'} – weir`;

  if (query.service && !a.chosen) query.service = ''; // it was removed
  say(byId('traffic-title'), a.chosen?.name ?? 'Whole director');
  byId('whole').hidden = !a.chosen;
  for (const c of charts) c.show(a.chart, a.chosen?.now ?? a.now);
  panels.show(a);
  table.show(a);
  age();
}

function failed(why: string): void {
  problem = why;
  age();
}

const lateAfter = 3; // seconds

/** Says how old what is shown is. A page that stands still must not look like a director that does. */
function age(): void {
  const seconds = Math.floor((performance.now() - heard) / 1000);
  const lost = heard ? problem !== '' || seconds >= lateAfter : problem !== '';
  mark(byId('link'), `pill ${lost ? 'bad' : heard ? 'ok' : ''}`.trim());
  say(byId('link'), !heard ? (lost ? 'no data' : 'connecting') : lost ? `last data ${span(seconds)} ago` : 'live');
  byId('lost').hidden = !lost;
  if (lost) {
    const shown = heard ? `What you see is ${span(seconds)} old.` : '';
    say(byId('lost'), `The director cannot be reached${problem ? ` (${problem})` : ''}. ${shown} Trying again.`.replace(/ +/g, ' '));
  }
  document.body.classList.toggle('old', lost);
}

setInterval(age, 1000);
poll.now();
