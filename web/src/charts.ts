// The three live charts.

import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import type { Chart, Rates } from './data';
import { el, say } from './dom';
import { short, tick } from './format';

const span = 300; // seconds that a chart shows
const height = 132;

interface Line {
  series: keyof Chart['series'] & keyof Rates;
  label: string;
  colour: string; // a custom property of the style sheet
}

const direction = (what: string): Line[] => [
  { series: `in_${what}` as Line['series'], label: 'to servers', colour: '--in' },
  { series: `out_${what}` as Line['series'], label: 'to clients', colour: '--out' },
];

export const plots: { id: string; title: string; lines: Line[] }[] = [
  { id: 'chart-connections', title: 'New connections a second', lines: [{ series: 'connections', label: '', colour: '--connections' }] },
  { id: 'chart-packets', title: 'Packets a second', lines: direction('packets') },
  { id: 'chart-bits', title: 'Bits a second', lines: direction('bits') },
];

/** Plot is one chart, with its figures as text: the latest, or those under the pointer. */
export class Plot {
  private chart: uPlot | null = null;
  private data: uPlot.AlignedData = [[]];
  private latest: Rates | null = null;
  private values: HTMLElement[] = [];
  private canvas = el('div', 'plot');

  constructor(figure: HTMLElement, title: string, private lines: Line[]) {
    const caption = el('figcaption', '', el('h3', '', title));
    const values = el('p', 'values');
    for (const line of lines) {
      const value = el('b', '', '–');
      this.values.push(value);
      const item = el('span', line.label ? 'key' : '', value);
      if (line.label) item.append(` ${line.label}`);
      item.style.setProperty('--key', `var(${line.colour})`);
      values.append(item);
    }
    caption.append(values);
    this.canvas.setAttribute('aria-hidden', 'true'); // the figures say it
    figure.append(caption, this.canvas);
    new ResizeObserver(() => this.chart?.setSize({ width: this.width(), height })).observe(this.canvas);
    window.matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.draw());
  }

  show(chart: Chart, now: Rates): void {
    const times: number[] = [];
    const columns: (number | null)[][] = this.lines.map(() => []);
    let before = 0;
    chart.times.forEach((t, i) => {
      // Where nobody recorded, there is no line.
      if (before && t - before > 10_000) {
        times.push(before / 1000 + 1);
        for (const c of columns) c.push(null);
      }
      before = t;
      times.push(t / 1000);
      this.lines.forEach((line, k) => columns[k]?.push(chart.series[line.series]?.[i] ?? null));
    });
    this.data = [times, ...columns] as uPlot.AlignedData;
    this.latest = now;
    if (!this.chart) this.draw();
    else this.chart.setData(this.data);
    this.say(this.chart?.cursor.idx ?? null);
  }

  private say(at: number | null): void {
    this.lines.forEach((line, k) => {
      const value = at === null ? this.latest?.[line.series] : this.data[k + 1]?.[at];
      const e = this.values[k];
      if (e) say(e, value === null || value === undefined ? '–' : short(value));
    });
  }

  private width(): number {
    return Math.max(120, this.canvas.clientWidth);
  }

  /** Makes the chart anew: colours are taken from the style sheet only then. */
  private draw(): void {
    const style = getComputedStyle(document.documentElement);
    const colour = (name: string) => style.getPropertyValue(name).trim();
    const axis: uPlot.Axis = {
      stroke: colour('--faint'),
      font: '11px system-ui, sans-serif',
      grid: { stroke: colour('--line'), width: 1 },
      ticks: { show: false },
    };
    this.chart?.destroy();
    this.chart = new uPlot(
      {
        width: this.width(),
        height,
        padding: [8, 6, 0, 0],
        legend: { show: false },
        cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false }, sync: { key: 'weir' } },
        scales: {
          x: { range: (_, __, end) => [end - span, end] },
          y: { range: (_, __, top) => [0, Math.max(4, top * 1.15)] },
        },
        axes: [
          { ...axis, space: 70, size: 22, gap: 4, values: (_, at) => at.map((t) => new Date(t * 1000).toLocaleTimeString('en-GB')), incrs: [15, 30, 60, 120, 300] },
          { ...axis, space: 34, size: 42, gap: 4, values: (_, at) => at.map(tick), incrs: incrs },
        ],
        series: [
          {},
          ...this.lines.map((line) => ({
            stroke: colour(line.colour),
            fill: colour(`${line.colour}-fill`),
            width: 1.75,
            points: { show: false },
          })),
        ],
        hooks: { setCursor: [(u) => this.say(u.cursor.idx ?? null)] },
      },
      this.data,
      this.canvas,
    );
  }
}

// Steps between the marks of an axis: no fractions, since nothing is counted in them.
const incrs = Array.from({ length: 15 }, (_, power) => [1, 2, 5].map((n) => n * 10 ** power)).flat();
