// What weir answers at /data (control/web/answer.go, control/api/api.go), and asking for it.

export interface Rates {
  connections: number;
  in_packets: number;
  out_packets: number;
  in_bits: number;
  out_bits: number;
}

export interface Server {
  address: string;
  mode: string;
  weight: number;
  state: 'up' | 'local' | 'full' | 'drained' | 'unreachable';
  now: Rates;
  active: number;
  inactive: number;
}

export interface Service {
  name: string;
  scheduler: string;
  notes?: string[];
  state: 'ok' | 'impaired' | 'down';
  now: Rates;
  active: number;
  inactive: number;
  spark?: (number | null)[];
  servers_total: number;
  servers_taking: number;
  servers: Server[];
}

export interface Problem {
  bad: boolean;
  text: string;
  help: string;
}

export interface Interface {
  name: string;
  mac: string;
  mtu: number;
  queues: number;
  xdp: string;
  xdp_why?: string;
  zero_copy: boolean;
  zero_copy_why?: string;
  rx_dropped: number;
  rx_ring_full: number;
  fill_ring_empty: number;
  tx_invalid: number;
  no_room: number;
  link_down: number;
}

export interface Status {
  version: string;
  uptime: number;
  interfaces: Interface[];
  workers: { number: number; cpu: number; received: number; per_second: number; batch: number }[];
  table: { capacity: number; used: number; opened: number; expired: number; evicted: number; refused?: Record<string, number> };
  services: number;
  servers: number;
  stops: { reason: string; packets: number; per_second: number; to_host: boolean; help: string }[];
  host: { injected: number; failed: number; ring_full: number; over_rate: number };
}

export interface Chart {
  times: number[];
  series: Partial<Record<'connections' | 'in_packets' | 'out_packets' | 'in_bits' | 'out_bits' | 'dropped', (number | null)[]>>;
}

export interface Answer {
  host: string;
  time: number;
  status: Status;
  problems: Problem[];
  now: Rates;
  dropped: number;
  services: { total: number; matched: number; page: number; pages: number; sort: string; rows: Service[] };
  chosen?: Service;
  chart: Chart;
}

/** What of the services is wanted; see control/web/query.go. */
export interface Query {
  search: string;
  sort: string;
  page: number;
  service: string;
}

const period = 1000; // ms between two answers
const patience = 5000; // ms for one

/** Poll asks once a second, while somebody can see the page. */
export class Poll {
  private timer = 0;
  private asking: AbortController | null = null;

  constructor(private query: () => Query, private answered: (a: Answer) => void, private failed: (why: string) => void) {
    document.addEventListener('visibilitychange', () => {
      if (document.hidden) this.stop();
      else this.now();
    });
  }

  /** Asks at once; an answer still on its way is for another question, and forgotten. */
  now(): void {
    this.stop();
    void this.round();
  }

  private stop(): void {
    window.clearTimeout(this.timer);
    this.asking?.abort();
    this.asking = null;
  }

  private async round(): Promise<void> {
    const asking = new AbortController();
    this.asking = asking;
    const began = performance.now();
    const tooLate = window.setTimeout(() => asking.abort(), patience);
    let answer: Answer | undefined;
    let why = '';
    try {
      const parameters = new URLSearchParams();
      for (const [name, value] of Object.entries(this.query())) {
        if (value) parameters.set(name, String(value));
      }
      const response = await fetch(`data?${parameters}`, { cache: 'no-store', signal: asking.signal });
      if (response.ok) answer = (await response.json()) as Answer;
      else why = `it answers ${response.status}: ${(await response.text()).trim()}`;
    } catch {
      why = asking.signal.aborted ? `no answer within ${patience / 1000} s` : 'no connection';
    }
    window.clearTimeout(tooLate);
    if (this.asking !== asking) return; // stopped, or asked anew
    this.timer = window.setTimeout(() => void this.round(), Math.max(100, period - (performance.now() - began)));
    if (answer) this.answered(answer);
    else this.failed(why);
  }
}
